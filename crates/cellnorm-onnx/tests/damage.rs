//! Damaged models: an error in words or a model, never a panic, and never more memory than twice the file and 64 MB.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use cellnorm_onnx::fold::{Options, fold};
use cellnorm_onnx::proto::model::Model;
use cellnorm_onnx::proto::tensor::Externals;

/// The system's allocator, counting.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came; the counters are beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Reads and folds what may be a model.
fn read(file: &[u8]) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let model = Model::parse(file, &Externals::new());
    let most = MOST.load(Ordering::Relaxed) - before;
    assert!(most <= 2 * file.len() + (64 << 20), "{most} bytes for a file of {}", file.len());
    match model {
        Err(error) => assert!(!error.to_string().is_empty() && !error.to_string().contains('\n')),
        Ok(model) => match fold(model, &Options::default()) {
            Ok(folded) => assert!(folded.report.after.batch_norms <= folded.report.before.batch_norms),
            Err(error) => assert!(!error.to_string().contains('\n')),
        },
    }
}

fn fixtures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/patterns");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let models = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
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
            read(&file[..random(file.len())]);
            let mut flipped = file.clone();
            for _ in 0..=random(3) {
                flipped[random(file.len())] ^= 1 << random(8);
            }
            read(&flipped);
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
    assert_eq!(message(b"\x08\x08\x3a\x00"), "it does not say which version of ONNX's operators it uses");
    // a node that reads what it makes
    let node = b"\x0a\x01a\x12\x01a\x22\x04Relu";
    let graph = [&[0x0a, node.len() as u8][..], node].concat();
    let model = [&[0x08, 8, 0x42, 2, 0x10, 17, 0x3a, graph.len() as u8][..], &graph].concat();
    let model = Model::parse(&model, &Externals::new()).unwrap();
    let error = fold(model, &Options::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "not a usable ONNX model: node 0 (Relu) waits for its own result");
}
