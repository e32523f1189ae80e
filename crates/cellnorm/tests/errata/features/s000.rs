//! The lines for the TensorFlow normalizations notebook.

use cellnorm::explain::{self, Layout};
use cellnorm::norms::Group;
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Mode, Momentum,
    Normalization, RunningVariance, Semantics, batch_normalization, moments,
    momentum::StatisticsFrom, rule::Gradients, semantics::GroupParameters,
};
use ndarray::{Array4, ArrayD, array};

use crate::{Numbers, distance, running};

/// 3 images of 2 × 3 pixels and 2 channels, channels last.
fn sample() -> ArrayD<f64> {
    let mut numbers = Numbers::new(100);
    let draw = || 1.0 + numbers.normal();
    // 000-02
    let x = Array4::from_shape_simple_fn((3, 2, 3, 2), draw);
    x.into_dyn()
}

#[test]
fn moments_and_what_is_made_of_them() -> Result<(), Error> {
    let x = sample();
    // 000-04
    let (mean, variance) = moments(x.view(), &[0, 1, 2], true)?;
    assert_eq!(mean.shape(), [1, 1, 1, 2]);
    // 000-05
    let of_pixels = moments(x.view(), &[-3, -2], false)?;
    // 000-06
    assert_eq!(moments(x.view(), &[1, 2], false)?, of_pixels);
    // 000-28
    assert_eq!(moments(x.view(), &[1, 2], true)?.0.shape(), [3, 1, 1, 2]);
    // 000-30
    assert_eq!(moments(x.view(), &[1, 2], true)?.1.shape(), [3, 1, 1, 2]);
    // 000-07
    let y = batch_normalization(x.view(), mean.view(), variance.view(), None, None, 1e-3)?;
    // 000-08
    let by_hand = (x - &mean) / (variance + 1e-3).mapv(f64::sqrt);
    assert!(distance(&y, &by_hand) < 1e-14);
    Ok(())
}

#[test]
fn given_statistics() -> Result<(), Error> {
    let (x, mean, variance) = (sample(), array![1.0, 2.0].into_dyn(), array![4.0, 9.0].into_dyn());
    let (gamma, beta) = (array![2.0, 3.0].into_dyn(), array![-1.0, -2.0].into_dyn());
    let standard = (&x - &mean) / (&variance + 1e-5).mapv(f64::sqrt);
    let affine = (&x - &mean) / (&variance + 1e-3).mapv(f64::sqrt) * &gamma + &beta;
    // 000-36
    let y = batch_normalization(x, mean.view(), variance.view(), None, None, 1e-5)?;
    assert!(distance(&y, &standard) < 1e-14);
    let x = sample();
    let (mean, variance, beta, gamma) = (mean.view(), variance.view(), beta.view(), gamma.view());
    // 000-16
    let y = batch_normalization(x, mean, variance, Some(beta), Some(gamma), 1e-3)?;
    assert!(distance(&y, &affine) < 1e-14);
    Ok(())
}

#[test]
fn options_of_batch_normalization() -> Result<(), Error> {
    // 000-09
    let keras =
        BatchNormConfig::new(2).semantics(&Semantics::preset("keras-3", Normalization::Batch)?);
    // 000-10
    let last = BatchNormConfig::new(2).channel_axis(-1);
    let y = keras.init()?.forward(sample().view())?.0;
    assert!(distance(&y, &last.epsilon(1e-3).init()?.forward(sample().view())?.0) < 1e-14);
    // 000-12
    assert!(BatchNormConfig::new(2).scale(false).init()?.gamma.is_none());
    // 000-13
    assert!(BatchNormConfig::new(2).center(false).init()?.beta.is_none());
    // 000-14
    assert_eq!(BatchNormConfig::new(2).epsilon(1e-3).init()?.epsilon, 1e-3);
    // 000-15
    let mut slow = BatchNormConfig::new(2).momentum(Momentum::Keep(0.99)).init()?;
    slow.forward(array![[3.0, 0.0], [5.0, 0.0]].view())?;
    assert!((running(&slow).mean[0] - 0.01 * 4.0).abs() < 1e-14);
    // 000-18
    let mut biased = BatchNormConfig::new(2).running_variance(RunningVariance::Biased).init()?;
    biased.forward(array![[3.0, 0.0], [5.0, 0.0]].view())?;
    assert!((running(&biased).variance[0] - (0.9 + 0.1)).abs() < 1e-14);
    Ok(())
}

#[test]
fn batch_normalization_in_training_and_inference() -> Result<(), Error> {
    let x = sample();
    let mut layer = BatchNormConfig::new(2).channel_axis(-1).init()?;
    // 000-03
    let (y, saved) = layer.forward(x.view())?;
    assert_eq!((y.shape(), saved.statistics.variance.len()), (x.shape(), 2));
    // 000-17
    let (y, saved) = layer.forward(x.view())?;
    assert_eq!(
        saved.statistics.mean[..],
        *moments(x.view(), &[0, 1, 2], false)?.0.as_slice().unwrap()
    );
    let dy = y.mapv(f64::sin);
    // 000-22
    let Gradients { dx, dgamma, dbeta, .. } = layer.backward(&saved, x.view(), dy)?;
    assert_eq!(
        (dx.shape(), dgamma.map(|d| d.len()), dbeta.map(|d| d.len())),
        (x.shape(), Some(2), Some(2))
    );

    let before = running(&layer).mean.clone();
    let batches = [sample(), sample() + 1.0];
    // 000-21
    for x in batches {
        layer.forward(x.view())?;
    }
    assert_ne!(running(&layer).mean, before);
    // 000-11
    layer.mode =
        Mode { statistics: StatisticsFrom::Running, update: false, train_parameters: false };
    let frozen = layer.forward(x.view())?.0;
    // 000-19
    let y = layer.infer(x)?;
    assert_eq!(y, frozen);
    let x = sample();
    // 000-20
    let y = BatchNormConfig::new(2).init()?.infer(x)?;
    assert!(distance(&y, &(sample() / (1.0_f64 + 1e-5).sqrt())) < 1e-14);
    Ok(())
}

#[test]
fn layer_normalization() -> Result<(), Error> {
    // 000-23
    let last = LayerNormConfig::new(&[2]).epsilon(1e-3).init()?.infer(sample())?;
    // 000-26
    let keras =
        LayerNormConfig::new(&[2]).semantics(&Semantics::preset("keras-3", Normalization::Layer)?);
    assert_eq!(keras.init()?.infer(sample())?, last);
    // 000-25
    assert!(distance(&LayerNormConfig::new(&[2]).init()?.infer(sample())?, &last) > 1e-6);

    // 000-24
    let whole = LayerNormConfig::over(&[1, 2, 3], &[2, 3, 2]).init()?.infer(sample())?;
    let x = sample();
    // 000-27
    assert_eq!(LayerNormConfig::new(&[2, 3, 2]).init()?.infer(x)?, whole);
    // 000-34
    let printed =
        LayerNormConfig::over(&[1, 2, 3], &[2, 3, 2]).epsilon(1e-3).init()?.infer(sample())?;
    assert!(distance(&printed, &whole) > 1e-6);
    Ok(())
}

#[test]
fn instance_and_group_normalization() -> Result<(), Error> {
    // 000-29
    let instance = InstanceNormConfig::new(2)
        .channel_axis(-1)
        .epsilon(1e-6)
        .scale(false)
        .center(false)
        .init()?;
    // 000-31
    let group = GroupNormConfig::new(2, 2).channel_axis(-1).epsilon(1e-6).init()?;
    assert_eq!(instance.infer(sample())?, group.infer(sample())?);

    let channels = 2;
    // 000-32
    let each = GroupNormConfig::new(channels, channels).init()?;
    assert_eq!(each.infer(sample())?, InstanceNormConfig::new(channels).init()?.infer(sample())?);
    // 000-33
    let one = GroupNormConfig::new(1, channels).init()?;
    assert_eq!(
        one.infer(sample())?,
        LayerNormConfig::per_channel(channels).init()?.infer(sample())?
    );
    Ok(())
}

#[test]
fn the_picture_of_cubes() -> Result<(), Error> {
    // 000-35
    let figure = explain::rule(
        &Group {
            groups: 4,
            channels: 32,
            channel_axis: 1,
            parameters: GroupParameters::PerChannel,
        },
        &[8, 32, 28, 28],
        Layout::channels_first(4)?,
    )?;
    assert_eq!(figure.sharings[0].sets(), 8 * 4);
    Ok(())
}
