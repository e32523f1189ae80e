//! The folded patterns: each fold proven, and the results beside those that ONNX Runtime gave for
//! the unfolded model.

use std::path::Path;

use cellnorm_onnx::check::{self, OnnxRuntime, Rten, Runtime};
use cellnorm_onnx::fold::{self, Options};
use cellnorm_onnx::proto::{Externals, Model};
use cellnorm_onnx::{Draft, Source};

use super::pattern::{Pattern, patterns};

#[test]
fn each_fold_is_proven_on_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut proven = 0;
    for pattern in patterns() {
        let source = pattern.source();
        let folded = fold::fold(source.model().unwrap(), &Options::default()).unwrap();
        let draft = Draft::write(&source, &folded, &folder.path().join("folded.onnx")).unwrap();
        let written = Source::open(draft.path()).unwrap();
        for proof in check::prove(&folded, &written.model().unwrap()).unwrap() {
            assert!(proof.share <= 1.0, "{}: {proof:?}", pattern.name);
            proven += 1;
        }
    }
    assert!(proven > 150, "{proven} layers");
}

/// The largest difference of a folded pattern from what was stored of the unfolded one, as a share
/// of the output's scale.
fn difference(runtime: &dyn Runtime, pattern: &Pattern, folder: &Path) -> Result<f64, String> {
    let source = pattern.source();
    let folded = fold::fold(source.model().unwrap(), &Options::default()).unwrap();
    let draft = Draft::write(&source, &folded, &folder.join("folded.onnx")).unwrap();
    let made = runtime.load(&draft.path(), &[])?.run(&pattern.feed())?;
    let mut largest: f64 = 0.0;
    for (name, made) in made {
        let stored = &pattern.outputs[&name];
        assert_eq!(made.shape, stored.shape, "{}: {name}", pattern.name);
        let scale = stored.values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        for (made, stored) in made.numbers.iter().zip(&stored.values) {
            largest = largest.max((made - stored).abs() / scale);
        }
    }
    Ok(largest)
}

/// The difference that a pattern may have: 1e-5 in f32, more where f16 and bf16 round.
fn bound(pattern: &Pattern) -> f64 {
    match pattern.outputs.values().map(|output| output.kind.as_str()).max() {
        Some("float16") => 8e-3,
        Some("bfloat16") => 0.06,
        _ => 1e-5,
    }
}

#[test]
fn folded_patterns_give_what_onnx_runtime_gave_for_the_unfolded() {
    let folder = tempfile::tempdir().unwrap();
    let (mut compared, mut skipped) = (0, Vec::new());
    for pattern in patterns().iter().filter(|pattern| pattern.runner != "none") {
        match difference(&Rten, pattern, folder.path()) {
            Ok(difference) => {
                assert!(difference <= bound(pattern), "{}: {difference:e}", pattern.name);
                compared += 1;
            }
            Err(problem) => skipped.push(format!("{}: {problem}", pattern.name)),
        }
    }
    println!("rten ran {compared}; it does not run {}:\n{}", skipped.len(), skipped.join("\n"));
    assert!(compared >= 190, "{compared} compared");
}

#[test]
fn folded_patterns_run_in_onnx_runtime() {
    let Some(library) = std::env::var_os("ORT_DYLIB_PATH") else {
        println!("skipped: ORT_DYLIB_PATH names no library of ONNX Runtime");
        return;
    };
    let runtime = OnnxRuntime::open(Path::new(&library)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut compared, mut worst) = (0, 0.0_f64);
    for pattern in patterns().iter().filter(|pattern| pattern.runner == "onnxruntime") {
        let difference = difference(&runtime, pattern, folder.path())
            .unwrap_or_else(|problem| panic!("{}: {problem}", pattern.name));
        assert!(difference <= bound(pattern), "{}: {difference:e}", pattern.name);
        worst = worst.max(difference / bound(pattern));
        compared += 1;
    }
    println!("{compared} patterns, worst {worst:.2} of its bound");
    assert!(compared >= 210, "{compared} compared");
}

#[test]
fn a_weight_that_is_not_what_it_should_be_is_not_proven() {
    let folder = tempfile::tempdir().unwrap();
    let (mut changed, mut found) = (0, 0);
    for pattern in patterns().iter().filter(|pattern| pattern.name.starts_with("conv")) {
        let source = pattern.source();
        let folded = fold::fold(source.model().unwrap(), &Options::default()).unwrap();
        let draft = Draft::write(&source, &folded, &folder.path().join("folded.onnx")).unwrap();
        let good = std::fs::read(draft.path()).unwrap();
        let model = Model::parse(&good, &Externals::new()).unwrap();
        let original = source.model().unwrap();
        let is_new = |name: &str, message: &[u8]| {
            original
                .graph
                .initializers
                .iter()
                .all(|tensor| tensor.name != name || tensor.message != message)
        };
        for tensor in
            model.graph.initializers.iter().filter(|tensor| is_new(tensor.name, tensor.message))
        {
            // new numbers stand at the end of their message: the last one gets the other sign
            let end =
                tensor.message.as_ptr() as usize - good.as_ptr() as usize + tensor.message.len();
            let mut bad = good.clone();
            bad[end - 1] ^= 0x80;
            let proofs =
                check::prove(&folded, &Model::parse(&bad, &Externals::new()).unwrap()).unwrap();
            changed += 1;
            found += usize::from(proofs.iter().any(|proof| proof.share > 1.0));
        }
    }
    println!("{found} of {changed} wrong signs were found");
    assert!(changed > 100 && found == changed, "{found} of {changed}");
}
