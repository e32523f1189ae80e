//! Options: inputs that are made constants, weights that must not be copied, data that are
//! normalized.

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
