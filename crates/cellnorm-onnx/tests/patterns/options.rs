//! Options: inputs that are made constants, weights that must not be copied, data that are
//! normalized.

use std::time::Duration;

use cellnorm_onnx::check::{Checks, Rten, certify};
use cellnorm_onnx::fold::{self, Data, Options, Reason};
use cellnorm_onnx::{Draft, Error, Source};

use super::pattern::patterns;

fn source(name: &str) -> Source {
    patterns().iter().find(|pattern| pattern.name == name).unwrap().source()
}

#[test]
fn frozen_inputs_are_constants_and_no_inputs_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { freeze_inputs: true, ..Options::default() };
    for name in ["weight-overridable", "bn-mean-overridable"] {
        let source = source(name);
        let folded = fold::fold(source.model().unwrap(), &options).unwrap();
        assert_eq!(folded.report.after.batch_norms, 0, "{name}");
        let draft = Draft::write(&source, &folded, &folder.path().join("folded.onnx")).unwrap();
        let written = Source::open(draft.path()).unwrap();
        let model = written.model().unwrap();
        let overridable =
            model.graph.values.iter().filter(|value| value.input && value.initializer.is_some());
        assert_eq!(overridable.count(), 0, "{name}");
    }
}

#[test]
fn shared_weights_are_copied_only_if_that_is_allowed() {
    let options = Options { no_copy: true, ..Options::default() };
    let source = source("shared-weight-both-bn");
    let folded = fold::fold(source.model().unwrap(), &options).unwrap();
    assert_eq!(folded.report.after.batch_norms, 2);
    assert!(folded.report.kept.iter().all(|kept| kept.reason == Reason::Shared));
}

#[test]
fn an_input_for_the_data_must_exist() {
    let data = |input: Option<&str>| Options {
        data: Some(Data {
            input: input.map(str::to_owned),
            mean: vec![0.5],
            deviation: vec![0.25],
        }),
        ..Options::default()
    };
    let source = source("bn-conv");
    let error = fold::fold(source.model().unwrap(), &data(Some("y"))).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "the model has no input \"y\"; it has x");
    let folded = fold::fold(source.model().unwrap(), &data(None)).unwrap();
    assert_eq!(folded.data.unwrap().input, "x");
    let wrong = Options {
        data: Some(Data { input: None, mean: vec![0.5], deviation: vec![0.0] }),
        ..Options::default()
    };
    assert!(matches!(fold::fold(source.model().unwrap(), &wrong), Err(Error::Fold(_))));
}

/// Data at 1e6 ± 2: folded, they would leave the layer three digits.
#[test]
fn data_far_from_zero_are_normalized_before_the_model() {
    let far = |allow_cancellation| {
        let data = Data { input: None, mean: vec![1e6], deviation: vec![2.0] };
        Options { allow_cancellation, data: Some(data), ..Options::default() }
    };
    let source = source("bn-conv");
    let folded = fold::fold(source.model().unwrap(), &far(false)).unwrap();
    assert!(folded.data.is_none());
    let kept = folded.report.kept.iter().find(|kept| kept.reason == Reason::Cancellation).unwrap();
    assert!(
        kept.at == "data 500000 deviations from 0; the limit is 4096"
            && kept.advice.contains("--allow-cancellation")
    );
    // told to fold all the same, the check runs it where the data lie, and shows the loss
    let folded = fold::fold(source.model().unwrap(), &far(true)).unwrap();
    assert_eq!(folded.data.as_ref().unwrap().mean, [1e6]);
    let folder = tempfile::tempdir().unwrap();
    let draft = Draft::write(&source, &folded, &folder.path().join("folded.onnx")).unwrap();
    let checks =
        Checks { runtimes: &[&Rten], inputs: vec![], tolerance: None, timed: Duration::ZERO };
    let certificate = certify(&source, &folded, &draft, checks).unwrap();
    let compared = certificate.run.compared().expect("rten runs it");
    assert!(certificate.holds && compared.largest_relative > 1e-4, "{compared:?}");
    // near zero nothing is lost
    let data = Data { input: None, mean: vec![124.0], deviation: vec![58.0] };
    let near = Options { data: Some(data), ..Options::default() };
    let folded = fold::fold(source.model().unwrap(), &near).unwrap();
    assert!(folded.data.is_some());
}
