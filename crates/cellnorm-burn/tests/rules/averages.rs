//! Running averages over several batches: one value a statistic, single time steps,
//! cumulative momentum.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use cellnorm_burn as ours;
use cellnorm_burn::cellnorm::Mask;
use cellnorm_burn::cellnorm::rule::Running;
use cellnorm_burn::cellnorm::{
    self, Momentum, Normalization, OneValue, RunningVariance, Semantics, norms::StepBatchNormConfig,
};
use ndarray::{ArrayD, s};

use crate::common::{bools, close, devices, list, randomize, tensor, values};

/// The running averages of a Burn layer against those of the one on arrays.
macro_rules! same_averages {
    ($layer:expr, $running:expr, $what:expr) => {{
        let running: &Running = $running.as_ref().unwrap();
        let [mean, variance] = [&$layer.running_mean, &$layer.running_var]
            .map(|of| list(of.as_ref().unwrap().value_sync()));
        close(mean, &running.mean, $what);
        close(variance, &running.variance, $what);
    }};
}

/// After a batch of many values, one of a single value a statistic: under every policy as on
/// arrays.
macro_rules! follows_the_policy {
    ($layer:ident, $config:expr, $many:expr, $one:expr) => {
        for (policy, device) in
            POLICIES.into_iter().flat_map(|policy| devices().map(|device| (policy, device)))
        {
            let what = &format!("{} {policy:?} {device:?}", stringify!($layer));
            // the gradient of one value is 0, as a difference of numbers that ε keeps small
            let mut arrays = $config.one_value(policy).epsilon(0.1).init().unwrap();
            randomize(&mut arrays);
            let layer = ours::$layer::from_arrays(&arrays, &device);
            let (many, one, dy) = (values(&$many, 1), values(&$one, 2), values(&$one, 3));
            arrays.forward(many.view()).unwrap();
            layer.forward(tensor::<3>(&many, &device));

            let input = tensor::<3>(&one, &device).require_grad();
            let y = catch_unwind(AssertUnwindSafe(|| layer.forward(input.clone())));
            match (arrays.forward(one.view()), y) {
                (Ok((expected, saved)), Ok(y)) => {
                    let gradients = (y.clone() * tensor(&dy, &device)).sum().backward();
                    close(list(y), &expected, what);
                    let dx = arrays.backward(&saved, one.view(), dy).unwrap().dx;
                    close(list(input.grad(&gradients).unwrap()), &dx, what);
                }
                (Err(error), Err(panic)) => {
                    assert_eq!(panic.downcast_ref(), Some(&error.to_string()), "{what}")
                }
                (arrays, burn) => {
                    panic!("{what}: {} on arrays, {} in Burn", arrays.is_ok(), burn.is_ok())
                }
            }
            same_averages!(layer, arrays.running, what);

            // in inference too
            let (valid, x) = (layer.valid(), tensor::<3>(&one, &device).inner());
            let y = catch_unwind(AssertUnwindSafe(|| valid.forward(x)));
            assert_eq!(y.is_ok(), arrays.infer(one.view()).is_ok(), "{what}");
        }
    };
}

const POLICIES: [OneValue; 4] =
    [OneValue::Error, OneValue::AlwaysError, OneValue::Beta, OneValue::UseRunning];

#[test]
fn one_value_does_what_the_policy_says() {
    follows_the_policy!(
        BatchRenorm,
        cellnorm::norms::BatchRenormConfig::new(3),
        [4, 3, 2],
        [1, 3, 1]
    );
    follows_the_policy!(
        GhostBatchNorm,
        cellnorm::norms::GhostBatchNormConfig::new(3, 2),
        [4, 3, 2],
        [1, 3, 1]
    );
    follows_the_policy!(StepBatchNorm, StepBatchNormConfig::new(3, 2), [4, 2, 3], [1, 2, 3]);
}

/// Of one value a channel, the statistics are returned under a policy that does not refuse it, and
/// the running averages move toward them.
#[test]
fn statistics_of_one_value_are_returned() {
    for (policy, device) in [OneValue::Beta, OneValue::UseRunning]
        .into_iter()
        .flat_map(|policy| devices().map(|device| (policy, device)))
    {
        let layer = ours::BatchNormConfig::new(2).with_one_value(policy).init(&device);
        let x = Tensor::<2>::from_floats([[3.0, -5.0]], &device);
        let (y, mean, variance) = layer.forward_with_statistics(x);
        let of = |table: Tensor<1>| table.into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(of(y.flatten(0, 1)), [0.0, 0.0], "{policy:?} {device:?}");
        assert_eq!((of(mean), of(variance)), (vec![3.0, -5.0], vec![0.0, 0.0]));
        assert_eq!(of(layer.running_mean.value_sync()), [0.3, -0.5]);
    }
}

#[test]
fn averages_that_normalize_and_stay_take_no_statistics() {
    for device in devices() {
        let config = ours::BatchNormConfig::new(2).with_one_value(OneValue::AlwaysError);
        let layer = config.init(&device);
        let x = Tensor::<2>::from_floats([[3.0, -5.0]], &device);
        let frozen = layer.freeze();
        assert_eq!(frozen.forward(x.clone()).dims(), [1, 2]);
        let mut tracking = ours::BatchNormConfig::new(2).init(&device);
        tracking.mode.statistics = cellnorm::momentum::StatisticsFrom::Running;
        assert!(catch_unwind(AssertUnwindSafe(|| tracking.forward(x))).is_err(), "it would track");
    }
}

#[test]
#[should_panic(expected = "running_mean")]
fn given_statistics_have_a_number_for_each_set() {
    let device = Device::flex();
    let x = Tensor::<2>::from_floats([[3.0, -5.0]], &device);
    let [mean, variance] = [(); 2].map(|()| Tensor::<1>::ones([3], &device));
    let rule = ours::norms::Batch::new(2, 1);
    let (none, activation) = ([None, None], cellnorm::Activation::Identity);
    ours::functions::normalize_fixed(&rule, x, none, [mean, variance], 1e-5, activation);
}

#[test]
fn a_recurrence_normalizes_one_step_at_a_time() {
    let (x, dy) = (values(&[4, 3, 5], 1), values(&[4, 3, 5], 2));
    let mask = Mask::lengths(&[1, 0, 1, 1], 1);
    for device in devices() {
        let mut arrays =
            StepBatchNormConfig::new(5, 3).one_value(OneValue::UseRunning).init().unwrap();
        randomize(&mut arrays);
        let layer = ours::StepBatchNorm::from_arrays(&arrays, &device);
        // the last two share the last averages
        for (t, samples) in [(0, 4), (1, 4), (2, 3), (2, 1), (7, 2)] {
            let what = &format!("step {t} of {samples} samples, {device:?}");
            let of_step = |of: &ArrayD<f64>| {
                of.slice(s![..samples, t % 3..t % 3 + 1, ..]).to_owned().into_dyn()
            };
            let (x, dy) = (of_step(&x), of_step(&dy));
            let input = tensor::<3>(&x, &device).require_grad();
            arrays.rule_mut().first = t;
            let (y, (expected, saved)) = match samples {
                4 => {
                    let bools = bools(&mask, [4, 1, 5], &device);
                    let y = layer.at_step(t).forward_masked(input.clone(), bools);
                    (y, arrays.forward_masked(x.view(), &mask).unwrap())
                }
                _ => (layer.at_step(t).forward(input.clone()), arrays.forward(x.view()).unwrap()),
            };
            let gradients = (y.clone() * tensor(&dy, &device)).sum().backward();
            let of_arrays = arrays.backward(&saved, x.view(), dy).unwrap();
            close(list(y), &expected, what);
            close(list(input.grad(&gradients).unwrap()), &of_arrays.dx, what);
            let gamma = layer.gamma.as_ref().unwrap().val().grad(&gradients).unwrap();
            close(list(gamma), of_arrays.parameter("gamma").unwrap(), what);
            same_averages!(layer, arrays.running, what);
        }
        // several at once, in training and in inference
        for first in [0, 1, 2, 9] {
            arrays.rule_mut().first = first;
            let y = layer.at_step(first).forward(tensor::<3>(&x, &device));
            close(list(y), &arrays.forward(x.view()).unwrap().0, "steps in training");
            same_averages!(layer, arrays.running, "steps");
            let y = layer.valid().at_step(first).forward(tensor::<3>(&x, &device).inner());
            close(list(y), &arrays.infer(x.view()).unwrap(), "steps in inference");
        }
    }
}

/// Sets that a mask leaves one value, or none, move the averages as on arrays; a batch without
/// values is no step.
#[test]
fn sets_of_few_valid_values() {
    let policies =
        [(OneValue::Error, RunningVariance::Unbiased), (OneValue::Beta, RunningVariance::Unbiased)];
    let policies = policies.into_iter().chain([(OneValue::Error, RunningVariance::Biased)]);
    for (device, (policy, variance)) in
        devices().into_iter().flat_map(|device| policies.clone().map(move |p| (device.clone(), p)))
    {
        for momentum in [Momentum::Step(0.3), Momentum::Cumulative, Momentum::Pooled] {
            let what = &format!("{device:?} {policy:?} {variance:?} {momentum:?}");
            let config = StepBatchNormConfig::new(3, 4)
                .momentum(momentum)
                .running_variance(variance)
                .one_value(policy);
            let mut arrays = config.init().unwrap();
            let layer = ours::StepBatchNorm::from_arrays(&arrays, &device);
            let plain = ours::BatchNormConfig::new(3)
                .with_momentum(momentum)
                .with_running_variance(variance);
            let plain = plain.with_one_value(policy).with_channel_axis(-1).init(&device);
            let plain_arrays =
                cellnorm::BatchNormConfig::new(3).momentum(momentum).running_variance(variance);
            let mut plain_arrays = plain_arrays.one_value(policy).channel_axis(-1).init().unwrap();
            for (seed, lengths) in
                [[0, 0, 0], [4, 2, 1], [1, 0, 0], [3, 3, 0]].into_iter().enumerate()
            {
                let (x, mask) = (values(&[3, 4, 3], seed), Mask::lengths(&lengths, 1));
                let bools = || bools(&mask, [3, 4, 3], &device);
                arrays.forward_masked(x.view(), &mask).unwrap();
                layer.forward_masked(tensor::<3>(&x, &device), bools());
                same_averages!(layer, arrays.running, what);
                plain_arrays.forward_masked(x.view(), &mask).unwrap();
                plain.forward_masked(tensor::<3>(&x, &device), bools());
                close(
                    list(plain.running_mean.value_sync()),
                    &plain_arrays.running.as_ref().unwrap().mean,
                    what,
                );
                close(
                    list(plain.running_var.value_sync()),
                    &plain_arrays.running.as_ref().unwrap().variance,
                    what,
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "a step at a time is no batch")]
fn steps_are_no_batches_to_count() {
    let device = Device::flex().autodiff();
    let config = StepBatchNormConfig::new(3, 4).momentum(Momentum::Cumulative);
    ours::StepBatchNormConfig::from(config)
        .init(&device)
        .at_step(1)
        .forward(Tensor::<3>::ones([4, 1, 3], &device));
}

#[test]
#[should_panic(expected = "use Step or Keep")]
fn a_correction_does_not_count_batches() {
    let config =
        cellnorm::norms::BatchRenormConfig::new(3).correction_momentum(Momentum::Cumulative);
    ours::BatchRenormConfig::from(config).init(&Device::flex());
}

/// Keras' `renorm`: training is corrected toward a second pair of averages, at a pace of its own.
#[test]
fn a_correction_has_averages_of_its_own() {
    let keras = Semantics::preset("keras-3", Normalization::Batch).unwrap();
    let keras = Semantics { momentum: Momentum::Keep(0.5), ..keras };
    let config = cellnorm::norms::BatchRenormConfig::new(3).semantics(&keras).channel_axis(1);
    let config = config.correction_momentum(Momentum::Keep(0.8));
    let mask = Mask::lengths(&[2, 1, 2, 2], 2);
    let folder = tempfile::tempdir().unwrap();
    for (number, device) in devices().into_iter().enumerate() {
        let what = &format!("{device:?}");
        let mut arrays = config.clone().init().unwrap();
        let mut layer = ours::BatchRenorm::from_arrays(&arrays, &device);
        for k in 0..6 {
            if k == 3 {
                let path = folder.path().join(format!("renorm{number}"));
                layer.save_file(&path).unwrap();
                layer = ours::BatchRenormConfig::from(config.clone()).init(&device).load_file(path);
            }
            let (x, dy) = (values(&[4, 3, 2], 20 + k) * 3.0, values(&[4, 3, 2], 30 + k));
            let input = tensor::<3>(&x, &device).require_grad();
            let (y, (expected, saved)) = match k {
                4 => {
                    let bools = bools(&mask, [4, 3, 2], &device);
                    let expected = arrays.forward_masked(x.view(), &mask).unwrap();
                    (layer.forward_masked(input.clone(), bools), expected)
                }
                _ => (layer.forward(input.clone()), arrays.forward(x.view()).unwrap()),
            };
            let gradients = (y.clone() * tensor(&dy, &device)).sum().backward();
            close(list(y), &expected, what);
            let dx = arrays.backward(&saved, x.view(), dy).unwrap().dx;
            close(list(input.grad(&gradients).unwrap()), &dx, what);
            same_averages!(layer, arrays.running, what);
            let correction = arrays.correction.as_ref().unwrap();
            let [mean, deviation] = [&layer.running_correction_mean, &layer.running_correction_var]
                .map(|of| list(of.as_ref().unwrap().value()));
            close(mean, &correction.averages.mean, what);
            close(deviation, &correction.averages.variance, what);
        }
        let x = values(&[4, 3, 2], 40);
        let y = layer.valid().forward(tensor::<3>(&x, &device).inner());
        close(list(y), &arrays.infer(x.view()).unwrap(), what);
        assert_eq!(ours::parameters::norm_parameters(&layer).len(), 2);
    }
    let of_keras = ours::BatchRenormConfig::new(3)
        .with_semantics(&Semantics::preset("keras-3", Normalization::Batch).unwrap())
        .init(&Device::flex());
    assert!(of_keras.running_correction_mean.is_some());
    let plain = ours::BatchRenormConfig::new(3).init(&Device::flex());
    assert!(plain.running_correction_mean.is_none(), "records without are as they were");
}

#[test]
fn momentum_that_counts_batches_goes_on_after_a_record() {
    [Momentum::Cumulative, Momentum::Pooled].into_iter().for_each(goes_on_after_a_record);
}

fn goes_on_after_a_record(momentum: Momentum) {
    let folder = tempfile::tempdir().unwrap();
    let batch = |k: usize| values(&[4, 3, 2], 10 + k);
    let mask = Mask::lengths(&[2, 0, 1, 2], 2);
    for (number, device) in devices().into_iter().enumerate() {
        let what = &format!("{momentum:?} {device:?}");
        let input = |k: usize| tensor::<3>(&batch(k), &device);
        let config = cellnorm::norms::BatchRenormConfig::new(3).momentum(momentum);
        let plain = ours::BatchNormConfig::new(3).with_momentum(momentum);
        let mut arrays = config.clone().init().unwrap();
        let mut plain_arrays = cellnorm::BatchNormConfig::new(3).momentum(momentum).init().unwrap();
        let mut layer = ours::BatchRenormConfig::from(config.clone()).init(&device);
        let mut plain_layer = plain.init(&device);
        for k in 0..6 {
            if k == 4 {
                let path = |name: &str| folder.path().join(format!("{name}{number}"));
                layer.valid().save_file(path("renorm")).unwrap();
                plain_layer.valid().save_file(path("batch")).unwrap();
                layer = ours::BatchRenormConfig::from(config.clone())
                    .init(&device)
                    .load_file(path("renorm"));
                plain_layer = plain.init(&device).load_file(path("batch"));
            }
            if k == 2 {
                let bools = bools(&mask, [4, 3, 2], &device);
                layer.forward_masked(input(k), bools.clone());
                arrays.forward_masked(batch(k).view(), &mask).unwrap();
                plain_layer.forward_masked(input(k), bools);
                plain_arrays.forward_masked(batch(k).view(), &mask).unwrap();
            } else {
                let (expected, _) = arrays.forward(batch(k).view()).unwrap();
                close(list(layer.forward(input(k))), &expected, what);
                plain_layer.forward(input(k));
                plain_arrays.forward(batch(k).view()).unwrap();
            }
            same_averages!(layer, arrays.running, what);
            close(
                list(plain_layer.running_mean.value_sync()),
                &plain_arrays.running.as_ref().unwrap().mean,
                what,
            );
            close(
                list(plain_layer.running_var.value_sync()),
                &plain_arrays.running.as_ref().unwrap().variance,
                what,
            );
        }
        for count in [&layer.num_batches_tracked, &plain_layer.num_batches_tracked] {
            assert_eq!(list(count.as_ref().unwrap().value_sync()), [6.0]);
        }
    }
}

#[test]
fn only_cumulative_momentum_counts_batches() {
    let device = Device::flex();
    let batch = |momentum| ours::BatchNormConfig::new(3).with_momentum(momentum).init(&device);
    assert!(batch(Momentum::Keep(0.9)).num_batches_tracked.is_none());
    let layer = batch(Momentum::Cumulative);
    assert!(layer.num_batches_tracked.is_some());
    assert_eq!(ours::parameters::norm_parameters(&layer).len(), 2, "a count is no parameter");
    // a rule without running averages has nothing to count
    let config = cellnorm::norms::FilterResponseNormConfig::new(3).momentum(Momentum::Cumulative);
    assert!(
        ours::FilterResponseNormConfig::from(config).init(&device).num_batches_tracked.is_none()
    );
}

#[test]
#[should_panic(expected = "name it in the config")]
fn momentum_made_cumulative_later() {
    let device = Device::flex().autodiff();
    let mut layer = ours::BatchNormConfig::new(3).init(&device);
    layer.momentum = Momentum::Cumulative;
    layer.forward(Tensor::<2>::ones([4, 3], &device));
}

/// Batches of as many values each have the mean and the variance of all values.
#[test]
fn pooled_momentum_is_the_variance_of_all_values() {
    let all = values(&[12, 3, 2], 7) * 5.0;
    let expected = {
        let config = cellnorm::BatchNormConfig::new(3).momentum(Momentum::Step(1.0));
        let mut layer = config.running_variance(RunningVariance::Biased).init().unwrap();
        layer.forward(all.view()).unwrap();
        layer.running.unwrap()
    };
    for device in devices() {
        let config = ours::BatchNormConfig::new(3).with_momentum(Momentum::Pooled);
        let layer = config.with_running_variance(RunningVariance::Biased).init(&device);
        for batch in all.axis_chunks_iter(ndarray::Axis(0), 3) {
            layer.forward(tensor::<3>(&batch.to_owned(), &device));
        }
        close(list(layer.running_mean.value()), &expected.mean, "mean");
        close(list(layer.running_var.value()), &expected.variance, "variance");
        // means so far apart that their squares are too large: it stays
        layer.forward(Tensor::<3>::full([2, 3, 2], 1e25, &device));
        close(list(layer.running_var.value()), &expected.variance, "variance");
    }
}
