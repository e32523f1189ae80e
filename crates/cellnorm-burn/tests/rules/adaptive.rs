//! Adaptive normalization: γ and β come with x and get gradients.

use burn::tensor::{Device, Tensor};
use cellnorm_burn::AdaptiveNormConfig;
use cellnorm_burn::cellnorm::Mask;
use cellnorm_burn::cellnorm::rule::NormConfig;
use cellnorm_burn::norms::{Adaptive, AdaptiveStatistics};
use ndarray::ArrayD;

use crate::common::{bools, close, devices, list, tensor, values};

/// A layer against the rule's on arrays, whose γ and β are parameters.
fn agrees(
    shape: [usize; 4],
    channel_axis: isize,
    statistics: AdaptiveStatistics,
    mask: Option<&Mask>,
    device: &Device,
) {
    let what = format!(
        "{statistics:?}, channels on {channel_axis}, masked {}, {device:?}",
        mask.is_some()
    );
    let (samples, channels) = (shape[0], shape[if channel_axis < 0 { 3 } else { 1 }]);
    let mut arrays = NormConfig::custom(Adaptive { channels, channel_axis, statistics, samples })
        .init()
        .unwrap();
    let layer =
        AdaptiveNormConfig::new(channels, statistics).with_channel_axis(channel_axis).init(device);
    let parameter = |seed| values(&[samples, channels], seed);
    let (x, dy, gamma, beta) = (values(&shape, 1), values(&shape, 2), parameter(3), parameter(4));
    *arrays.parameter_mut("gamma").unwrap() = gamma.clone();
    *arrays.parameter_mut("beta").unwrap() = beta.clone();

    let input = |of: &ArrayD<f64>| tensor::<2>(of, device).require_grad();
    let (gamma, beta) = (input(&gamma), input(&beta));
    let input = tensor::<4>(&x, device).require_grad();
    let y = match mask {
        Some(mask) => layer.forward_masked(
            input.clone(),
            gamma.clone(),
            beta.clone(),
            bools(mask, shape, device),
        ),
        None => layer.forward(input.clone(), gamma.clone(), beta.clone()),
    };
    let gradients = (y.clone() * tensor(&dy, device)).sum().backward();
    let (expected, saved) = match mask {
        Some(mask) => arrays.forward_masked(x.view(), mask).unwrap(),
        None => arrays.forward(x.view()).unwrap(),
    };
    let of_arrays = arrays.backward(&saved, x.view(), dy).unwrap();
    close(list(y), &expected, &format!("y of {what}"));
    close(list(input.grad(&gradients).unwrap()), &of_arrays.dx, &format!("dx of {what}"));
    for (name, of) in [("gamma", gamma), ("beta", beta)] {
        close(
            list(of.grad(&gradients).unwrap()),
            of_arrays.parameter(name).unwrap(),
            &format!("{name} of {what}"),
        );
    }
    assert_eq!(layer.running_mean.is_some(), arrays.running.is_some(), "{what}");
    if let Some(running) = &arrays.running {
        close(list(layer.running_mean.as_ref().unwrap().value_sync()), &running.mean, &what);
        close(list(layer.running_var.as_ref().unwrap().value_sync()), &running.variance, &what);
    }
}

#[test]
fn it_agrees_with_arrays() {
    let mask = Mask::lengths(&[2, 1, 2, 2], 2);
    for device in devices() {
        for statistics in [
            AdaptiveStatistics::Batch,
            AdaptiveStatistics::Groups(1),
            AdaptiveStatistics::Groups(2),
            AdaptiveStatistics::Groups(4),
        ] {
            for mask in [None, Some(&mask)] {
                agrees([4, 4, 2, 3], 1, statistics, mask, &device);
                agrees([4, 3, 2, 4], -1, statistics, mask, &device);
            }
        }
    }
}

#[test]
fn inference_takes_the_running_averages() {
    let device = Device::flex();
    let layer =
        AdaptiveNormConfig::new(3, AdaptiveStatistics::Batch).with_epsilon(1.0).init(&device);
    let x = values(&[1, 3, 2], 5);
    let y = layer.forward(
        tensor::<3>(&x, &device),
        Tensor::ones([1, 3], &device),
        Tensor::zeros([1, 3], &device),
    );
    close(list(y), &x.mapv(|x| x / 2.0_f64.sqrt()), "running mean 0, running variance 1");
}

#[test]
#[should_panic(expected = "gamma")]
fn gamma_of_other_samples() {
    let device = Device::flex();
    let ones = |samples: usize| Tensor::<2>::ones([samples, 3], &device);
    AdaptiveNormConfig::new(3, AdaptiveStatistics::Batch).init(&device).forward(
        Tensor::<3>::zeros([4, 3, 5], &device),
        ones(2),
        ones(4),
    );
}

#[test]
#[should_panic(expected = "possible: 1, 2, 3, 6")]
fn groups_that_do_not_divide() {
    AdaptiveNormConfig::new(6, AdaptiveStatistics::Groups(4)).init(&Device::flex());
}
