//! Damaged models: an error in words or a model, never a panic, and never more memory than twice
//! the file and 64 MB.

mod any_bytes;

use std::path::Path;

use any_bytes::any_bytes;
use cellnorm_onnx::fold::{Options, fold};
use cellnorm_onnx::proto::{Externals, Model};

fn fixtures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/patterns");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let models =
        paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    models.map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn cut_and_flipped_models_are_refused_or_read() {
    let mut seed = 1_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut tried = 0;
    for file in fixtures() {
        for _ in 0..40 {
            any_bytes(&file[..random(file.len())]);
            let mut flipped = file.clone();
            for _ in 0..=random(3) {
                flipped[random(file.len())] ^= 1 << random(8);
            }
            any_bytes(&flipped);
            tried += 2;
        }
    }
    println!("{tried} damaged models");
    assert!(tried > 10_000);
}

#[test]
fn what_is_no_model_says_so() {
    let message = |file: &[u8]| Model::parse(file, &Externals::new()).unwrap_err().to_string();
    assert_eq!(message(b""), "there is no graph in it");
    assert_eq!(message(b"\x08\x08"), "there is no graph in it");
    assert!(message(b"not a model").starts_with("field"), "{}", message(b"not a model"));
    // a graph without a list of operator sets, in version 8 of the format
    assert_eq!(
        message(b"\x08\x08\x3a\x00"),
        "it does not say which version of ONNX's operators it uses"
    );
    // a node that reads what it makes
    let node = b"\x0a\x01a\x12\x01a\x22\x04Relu";
    let graph = [&[0x0a, node.len() as u8][..], node].concat();
    let model = [&[0x08, 8, 0x42, 2, 0x10, 17, 0x3a, graph.len() as u8][..], &graph].concat();
    let model = Model::parse(&model, &Externals::new()).unwrap();
    let error = fold(model, &Options::default()).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not a usable ONNX model: the node with index 0 (Relu) waits for its own result"
    );
}
