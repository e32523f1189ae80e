//! Semantics of frameworks: the presets construct, differences have the right numbers, and layers
//! do what their semantics say.

use crate::common::{Numbers, averages, preset, running};
use cellnorm::rule::{NormConfig, Rule};
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Momentum,
    Normalization, OneValue, RmsNormConfig, RunningVariance, Semantics,
    momentum::Frozen,
    semantics::{Difference, EpsilonAt, GroupParameters, Sample, Unlearned},
};
use ndarray::{ArrayD, Axis, IxDyn, array};

/// ε and the shapes of γ and β of a layer made with these semantics.
fn made(semantics: &Semantics) -> (f64, Option<usize>, Option<usize>) {
    fn made<R: Rule>(
        config: NormConfig<R>,
        semantics: &Semantics,
    ) -> (f64, Option<usize>, Option<usize>) {
        let layer = config.semantics(semantics).init().unwrap();
        (layer.epsilon, layer.gamma.map(|g| g.len()), layer.beta.map(|b| b.len()))
    }
    match semantics.normalization {
        Normalization::Batch => made(BatchNormConfig::new(6), semantics),
        Normalization::Layer => made(LayerNormConfig::new(&[6]), semantics),
        Normalization::Instance => made(InstanceNormConfig::new(6), semantics),
        Normalization::Group => made(GroupNormConfig::new(3, 6), semantics),
        Normalization::Rms => made(RmsNormConfig::new(&[6]), semantics),
    }
}

#[test]
fn every_preset_makes_a_layer_or_lists_those_that_do() {
    let mut made_or_not = [0, 0];
    for name in Semantics::presets() {
        for normalization in Normalization::ALL {
            match Semantics::preset(name, normalization) {
                Ok(semantics) => {
                    made_or_not[0] += 1;
                    assert_eq!(semantics.normalization, normalization);
                    let per_group = semantics.group_parameters == GroupParameters::PerGroup;
                    let count = if per_group { 3 } else { 6 };
                    let applied = |learned, role| learned || role == Unlearned::Applied;
                    let gamma = applied(semantics.scale, semantics.unlearned_gamma);
                    let beta = applied(semantics.center, semantics.unlearned_beta);
                    let expected =
                        (semantics.epsilon, gamma.then_some(count), beta.then_some(count));
                    assert_eq!(made(&semantics), expected, "{}", semantics.name);
                    assert!(semantics.name.ends_with(&format!(" {normalization}")));
                    assert!(semantics.to_string().starts_with(semantics.name));
                }
                Err(Error::MissingLayer { have, others, .. }) => {
                    made_or_not[1] += 1;
                    assert!(have.iter().all(|layer| Semantics::preset(name, *layer).is_ok()));
                    assert!(!others.is_empty());
                    assert!(
                        others.iter().all(|other| Semantics::preset(other, normalization).is_ok())
                    );
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(made_or_not[0] >= 50 && made_or_not[1] >= 20, "{made_or_not:?}");
}

#[test]
fn opsets_map_to_the_operator_in_force() {
    let name = |preset, normalization| {
        Semantics::preset(preset, normalization).map(|semantics| semantics.name)
    };
    assert_eq!(name("onnx-13", Normalization::Batch), Ok("onnx-9 batch"));
    assert_eq!(name("onnx-14", Normalization::Batch), Ok("onnx-14 batch"));
    assert_eq!(name("onnx-99", Normalization::Batch), Ok("onnx-15 batch"));
    assert_eq!(name("onnx-20", Normalization::Group), Ok("onnx-18 group"));
    assert_eq!(name("onnx-21", Normalization::Group), Ok("onnx-21 group"));
    assert!(matches!(name("onnx-16", Normalization::Layer), Err(Error::MissingLayer { .. })));
    for unknown in ["onnx-0", "onnx-", "onnx--1", "onnx-x", "torch", ""] {
        assert!(
            matches!(name(unknown, Normalization::Batch), Err(Error::UnknownPreset { .. })),
            "{unknown:?}"
        );
    }
    let message = Semantics::preset("pytorch2", Normalization::Batch).unwrap_err().to_string();
    assert!(
        message.starts_with(
            "no preset is named \"pytorch2\"; those that are, the closest first: pytorch-2, "
        ),
        "{message}"
    );
}

#[test]
fn pytorch_and_keras_differ_in_these_numbers() {
    let (torch, keras) =
        (preset("pytorch-2", Normalization::Batch), preset("keras-3", Normalization::Batch));
    let differences = torch.diff(&keras);
    let fields: Vec<&str> = differences.iter().map(|d| d.field).collect();
    let names = ["names.gamma", "names.beta", "names.mean", "names.variance", "names.steps"];
    let all = [
        "epsilon",
        "channel_axis",
        "one_value",
        "momentum",
        "running_variance",
        "frozen",
        "excluded",
    ];
    assert_eq!(fields, [&all[..], &names[..]].concat());

    let find =
        |all: &[Difference], field: &str| all.iter().find(|d| d.field == field).unwrap().clone();
    let close =
        |a: Option<f64>, b: f64| assert!((a.unwrap() / b - 1.0).abs() < 1e-9, "{a:?} is not {b}");
    let epsilon = find(&differences, "epsilon");
    close(epsilon.by, (1.00001_f64 / 1.001).sqrt() - 1.0);
    assert_eq!((epsilon.a.as_str(), epsilon.b.as_str()), ("1e-5", "0.001"));
    close(find(&differences, "running_variance").by, 31.0 / 32.0 - 1.0);
    let momentum = find(&differences, "momentum");
    close(momentum.by, (1.0 - 0.99_f64.powi(100)) / (1.0 - 0.9_f64.powi(100)) - 1.0);
    assert!(momentum.effect.contains("0.1000 and 0.0100 after 1 step"), "{momentum}");
    assert_eq!(find(&differences, "channel_axis").b, "-1");
    assert!(find(&differences, "one_value").effect.contains("keras-3 batch: y = beta"));
    assert_eq!(find(&differences, "names.steps").b, "not stored");

    let small = torch.diff_at(&keras, Sample { variance: 1e-4, values: 2.0 });
    close(find(&small, "epsilon").by, (1.1e-4_f64 / 1.1e-3).sqrt() - 1.0);
    close(find(&small, "running_variance").by, -0.5);
    assert_eq!(
        find(&small, "running_variance").effect,
        "the running variance moves by -50.0 % at 2 values"
    );

    assert_eq!(torch.diff(&torch), []);
    let written_otherwise = Semantics { momentum: Momentum::Keep(0.9), ..torch };
    assert_eq!(torch.diff(&written_otherwise)[0].by, Some(0.0));
    let outside = Semantics { epsilon_at: EpsilonAt::OutsideRoot, ..torch };
    close(find(&torch.diff(&outside), "epsilon_at").by, 1.00001_f64.sqrt() / 1.00001 - 1.0);
    let cumulative = Semantics { momentum: Momentum::Cumulative, ..torch };
    close(find(&torch.diff(&cumulative), "momentum").by, 1.0 / (1.0 - 0.9_f64.powi(100)) - 1.0);
}

/// A tensor that one stores and the other does not is a difference from either side: candle has
/// all of PyTorch's except the steps.
#[test]
fn differences_are_the_same_from_both_sides() {
    let fields = |of: Vec<Difference>| of.into_iter().map(|d| d.field).collect::<Vec<_>>();
    for normalization in Normalization::ALL {
        let all: Vec<Semantics> = Semantics::presets()
            .into_iter()
            .filter_map(|name| Semantics::preset(name, normalization).ok())
            .collect();
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            assert_eq!(fields(a.diff(b)), fields(b.diff(a)), "{} and {}", a.name, b.name);
        }
    }
    let [candle, torch] =
        ["candle-0.11", "pytorch-2"].map(|name| preset(name, Normalization::Batch));
    let steps = &candle.diff(&torch)[0];
    assert_eq!((steps.a.as_str(), steps.b.as_str()), ("not stored", "num_batches_tracked"));
    assert_eq!(steps.effect, "stored only by pytorch-2 batch");
    assert_eq!(torch.diff(&candle)[0].effect, "stored only by pytorch-2 batch");
}

#[test]
fn semantics_that_do_not_suit_are_refused() {
    let keras = preset("keras-3", Normalization::Batch);
    let message =
        |result: Result<_, Error>| result.map(|_: cellnorm::LayerNorm| ()).unwrap_err().to_string();
    assert_eq!(
        message(LayerNormConfig::new(&[4]).semantics(&keras).init()),
        "keras-3 batch does not describe layer normalization; take a preset that does"
    );
    let outside = Semantics {
        epsilon_at: EpsilonAt::OutsideRoot,
        ..preset("burn-0.22", Normalization::Layer)
    };
    assert_eq!(
        message(LayerNormConfig::new(&[4]).semantics(&outside).init()),
        "layer normalization adds epsilon inside the root only, and these semantics add it outside"
    );
    assert_eq!(
        message(LayerNormConfig::new(&[4]).one_value(OneValue::UseRunning).init()),
        "layer normalization has no running statistics to use for one value; choose Error, \
         AlwaysError or Beta"
    );
    let legacy = Semantics { epsilon: 1.0, ..preset("keras-2.3", Normalization::Batch) };
    assert!(BatchNormConfig::new(4).semantics(&legacy).init().is_err());
    assert!(
        BatchNormConfig::new(4).semantics(&legacy).epsilon(1e-3).init().is_ok(),
        "later calls override"
    );
}

/// The running variance after a full step, by each framework's formula.
#[test]
fn running_variances() -> Result<(), Error> {
    let x = Numbers::new(1).tensor(&[5, 2], 3.0);
    let m2 = |channel| {
        let of = x.index_axis(Axis(1), channel);
        let mean = of.sum() / 5.0;
        of.mapv(|v| (v - mean).powi(2)).sum()
    };
    for (name, divisor) in [
        ("pytorch-2", 4.0),
        ("candle-0.11", 4.0),
        ("tf-keras-2-fused", 4.0),
        ("tf-keras-2", 5.0),
        ("keras-3", 5.0),
        ("flax-0.12", 5.0),
        ("keras-2.3", 4.0 - 0.5),
    ] {
        let semantics = Semantics { epsilon: 0.5, ..preset(name, Normalization::Batch) };
        let mut layer =
            BatchNormConfig::new(2).semantics(&semantics).momentum(Momentum::Step(1.0)).init()?;
        layer.forward(x.view())?;
        for channel in 0..2 {
            assert!(
                (running(&layer).variance[channel] * divisor / m2(channel) - 1.0).abs() < 1e-12,
                "{name}"
            );
        }
    }
    Ok(())
}

#[test]
fn one_value_by_policy() -> Result<(), Error> {
    let x = array![[[3.0_f64], [4.0]]];
    let batch = |policy| {
        let mut layer = BatchNormConfig::new(2).one_value(policy).init().unwrap();
        layer.beta = Some(array![7.0, 8.0].into_dyn());
        layer.running = Some(averages(&[1.0, 2.0], &[4.0, 4.0]));
        layer
    };
    assert!(matches!(batch(OneValue::Error).forward(x.view()), Err(Error::OneValue { .. })));
    for rule in [RunningVariance::Unbiased, RunningVariance::Biased, RunningVariance::KerasLegacy] {
        let mut layer = batch(OneValue::Beta);
        layer.running_variance = rule;
        assert_eq!(layer.forward(x.view())?.0, array![[[7.0], [8.0]]]);
        assert!((running(&layer).variance[0] - 0.9 * 4.0).abs() < 1e-12, "toward variance 0");
        assert!((running(&layer).mean[0] - 1.2).abs() < 1e-12);
    }
    let mut layer = batch(OneValue::UseRunning);
    assert_eq!(layer.forward(x.view())?.0, layer.infer(x.view())?);
    assert_eq!((running(&layer), layer.steps), (&averages(&[1.0, 2.0], &[4.0, 4.0]), 0));

    let instance = |policy| InstanceNormConfig::new(2).one_value(policy).init().unwrap();
    assert!(
        instance(OneValue::Error).forward(x.view()).is_err()
            && instance(OneValue::Error).infer(x.view()).is_ok()
    );
    assert!(instance(OneValue::AlwaysError).infer(x.view()).is_err());
    assert_eq!(instance(OneValue::Beta).forward(x.view())?.0, array![[[0.0], [0.0]]]);
    let torch = InstanceNormConfig::new(2)
        .semantics(&preset("pytorch-2", Normalization::Instance))
        .init()?;
    assert!(torch.infer(x.view()).is_err(), "PyTorch refuses one value in eval(), too");
    Ok(())
}

/// γ of a group is γ of each of its channels, forward and backward, in any layout.
#[test]
fn parameters_per_group_are_repeated_ones() -> Result<(), Error> {
    let mut numbers = Numbers::new(2);
    for (shape, axis) in [(&[2, 6, 5, 3][..], 1), (&[2, 5, 3, 6], -1), (&[3, 6], 1)] {
        let per_group =
            GroupNormConfig::new(3, 6).channel_axis(axis).parameters(GroupParameters::PerGroup);
        let (mut grouped, mut plain) =
            (per_group.init()?, GroupNormConfig::new(3, 6).channel_axis(axis).init()?);
        let (gamma, beta) = (numbers.tensor(&[3], 1.0), numbers.tensor(&[3], 0.0));
        let repeated = |of: &ArrayD<f64>| {
            Some(ArrayD::from_shape_fn(IxDyn(&[6]), |channel| of[[channel[0] / 2]]))
        };
        (plain.gamma, plain.beta) = (repeated(&gamma), repeated(&beta));
        (grouped.gamma, grouped.beta) = (Some(gamma), Some(beta));
        let (x, dy) = (numbers.tensor(shape, 1.0), numbers.tensor(shape, 0.0));
        for transposed in [false, true] {
            // the same values with the axes reversed in memory
            let x = if transposed {
                x.t().as_standard_layout().into_owned().reversed_axes()
            } else {
                x.clone()
            };
            let ((y, saved), (expected, saved_plain)) =
                (grouped.forward(x.view())?, plain.forward(x.view())?);
            assert!((&y - &expected).iter().all(|d| d.abs() < 1e-12));
            let gradients = grouped.backward(&saved, x.view(), dy.view())?;
            let of_plain = plain.backward(&saved_plain, x.view(), dy.view())?;
            assert!((&gradients.dx - &of_plain.dx).iter().all(|d| d.abs() < 1e-12));
            for (of_group, of_channel) in
                [(gradients.dgamma, of_plain.dgamma), (gradients.dbeta, of_plain.dbeta)]
            {
                let (of_group, of_channel) = (of_group.unwrap(), of_channel.unwrap());
                for group in 0..3 {
                    let sum = of_channel[[2 * group]] + of_channel[[2 * group + 1]];
                    assert!((of_group[[group]] - sum).abs() < 1e-11, "{shape:?}");
                }
            }
        }
    }
    let onnx =
        GroupNormConfig::new(3, 6).semantics(&preset("onnx-18", Normalization::Group)).init()?;
    assert_eq!(onnx.gamma.unwrap().shape(), [3]);
    Ok(())
}

#[test]
fn presets_say_what_freezing_means() {
    let frozen = |name| preset(name, Normalization::Batch).frozen;
    assert_eq!(frozen("keras-3"), Frozen::Inference);
    assert_eq!(frozen("tf-keras-2"), Frozen::Inference);
    assert_eq!(frozen("keras-2.3"), Frozen::BatchStatistics);
    assert_eq!(frozen("pytorch-2"), Frozen::ParametersOnly);
}
