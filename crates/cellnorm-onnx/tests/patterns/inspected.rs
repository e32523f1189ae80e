//! Inspecting every pattern: as many normalizations stay as are expected to, each with a reason,
//! and numbers say what is wrong.

use cellnorm_onnx::inspect::{NormNode, Statistics, Verdict, inspect};

use crate::pattern::{Pattern, patterns};

fn layers(pattern: &Pattern) -> Vec<NormNode> {
    inspect(&pattern.source()).unwrap_or_else(|error| panic!("{}: {error}", pattern.name))
}

fn of(name: &str) -> Vec<NormNode> {
    layers(patterns().iter().find(|pattern| pattern.name == name).expect(name))
}

#[test]
fn as_many_stay_as_are_expected_to() {
    for pattern in patterns() {
        let batch: Vec<NormNode> = layers(&pattern)
            .into_iter()
            .filter(|layer| layer.operator == "BatchNormalization")
            .collect();
        let stay = batch.iter().filter(|layer| !matches!(layer.verdict, Verdict::Folds(_)));
        assert_eq!(stay.clone().count(), pattern.expected.batch_norms_left, "{}", pattern.name);
        for layer in stay {
            assert!(
                matches!(layer.verdict, Verdict::Stays(_)),
                "{}: {} has a reason",
                pattern.name,
                layer.name
            );
        }
    }
}

#[test]
fn what_operators_mean_follows_the_opset() {
    for (name, preset) in
        [("opset8", "onnx-1 batch"), ("opset9", "onnx-9 batch"), ("opset28", "onnx-15 batch")]
    {
        let meaning = of(name)[0].meaning.clone().unwrap();
        assert_eq!(
            (meaning.preset, meaning.statistics),
            (Some(preset), Statistics::Fixed),
            "{name}"
        );
    }
    let training = of("training-mode")[0].meaning.clone().unwrap();
    assert_eq!((training.statistics, training.epsilon), (Statistics::Batch, Some(1e-3_f32.into())));
    let default = of("conv-bn-default-epsilon")[0].meaning.clone().unwrap();
    assert_eq!(default.epsilon, Some(1e-5));
    assert!(training.words.contains("training_mode=1"));
    let layer = &of("layernorm-matmul-add")[0];
    let meaning = layer.meaning.as_ref().unwrap();
    assert_eq!((meaning.preset, meaning.statistics), (Some("onnx-17 layer"), Statistics::Input));
    assert!(
        matches!(&layer.verdict, Verdict::Folds(fold) if fold.targets[0].op == "MatMul"),
        "{:?}",
        layer.verdict
    );
}

#[test]
fn numbers_that_cannot_be_are_found() {
    assert!(!of("negative-variance")[0].health.negative_variance.is_empty());
    assert!(!of("nan-variance")[0].health.not_finite.is_empty());
    assert!(!of("conv-bn-zero-scale")[0].health.dead_gamma.is_empty());
    assert!(!of("conv-bn-zero-variance")[0].health.dead_variance.is_empty());
    let sound = &of("conv2d-bn")[0];
    assert_eq!(
        (sound.health.channels, sound.health.dead(), sound.health.exploding.len()),
        (4, 0, 0)
    );
    assert!(of("bn-scale-runtime")[0].numbers.is_none());
    // what a caller may override is looked at all the same
    assert!(of("bn-mean-overridable")[0].numbers.is_some());
}

#[test]
fn bodies_of_branches_and_functions_are_looked_into() {
    assert_eq!(of("if-branches")[0].inside.len(), 1);
    let inside = &of("local-function")[0];
    assert!(
        inside.meaning.is_none()
            && matches!(&inside.verdict, Verdict::Stays(kept) if kept.reason.code() == "unsupported")
    );
}
