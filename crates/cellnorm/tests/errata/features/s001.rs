//! The lines for the TensorFlow Addons tutorial.

use cellnorm::explain::{self, Layout};
use cellnorm::norms::Instance;
use cellnorm::parameters::{Constraint, Initializer, Regularizer};
use cellnorm::{Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig};
use ndarray::{Array3, Axis, array};

use crate::{Numbers, distance};

#[test]
fn a_layer_in_training_and_on_one_sample() -> Result<(), Error> {
    let x = Numbers::new(101).tensor(&[2, 10, 4, 4], 1.0);
    // 001-25
    let mut layer = GroupNormConfig::new(5, 10).init()?;
    // 001-02
    let (y, _) = layer.forward(x.view())?;
    let sample = x.slice_axis(Axis(0), (1..2).into());
    // 001-01
    let alone = layer.infer(sample)?;
    assert_eq!(alone, y.slice_axis(Axis(0), (1..2).into()));
    Ok(())
}

#[test]
fn gamma_and_beta() -> Result<(), Error> {
    // 001-04
    let plain = GroupNormConfig::new(5, 10).scale(false).center(false).init()?;
    assert!(plain.gamma.is_none() && plain.beta.is_none());
    // 001-05
    let half = GroupNormConfig::new(5, 10).gamma_initializer(Initializer::Constant(0.5)).init()?;
    assert!(half.gamma.unwrap().iter().all(|gamma| *gamma == 0.5));

    let mut gamma = array![2.0, -1.0].into_dyn();
    // 001-07
    assert_eq!(Regularizer::L2(0.01).loss(&gamma)?, 0.01 * 5.0);
    // 001-06
    Constraint::NonNegative.apply(&mut gamma)?;
    assert_eq!(gamma, array![2.0, 0.0].into_dyn());

    // 001-18
    let uniform = InstanceNormConfig::new(10).gamma_initializer(Initializer::Uniform {
        low: -0.05,
        high: 0.05,
        seed: 1,
    });
    assert!(uniform.init()?.gamma.unwrap().iter().all(|gamma| gamma.abs() <= 0.05));
    // 001-19
    assert!(Initializer::Uniform { low: -0.05, high: 0.05, seed: 1 }.warning().is_some());
    Ok(())
}

#[test]
fn axes_and_channels() -> Result<(), Error> {
    let images = Array3::<f64>::zeros((2, 28, 28));
    // 001-09
    assert_eq!(images.insert_axis(Axis(3)).dim(), (2, 28, 28, 1));

    let x = Numbers::new(102).tensor(&[2, 26, 26, 10], 0.0);
    // 001-11
    let groups = GroupNormConfig::new(5, 10).channel_axis(3).init()?.infer(x.view())?;
    // 001-20
    let height = LayerNormConfig::over(&[1], &[26]).init()?.infer(x.view())?;
    assert_eq!((groups.shape(), height.shape()), (x.shape(), x.shape()));

    let (x, channels) = (Numbers::new(103).tensor(&[2, 64, 5, 5], 2.0), 64);
    // 001-24
    let layer = GroupNormConfig::new(1, channels).init()?.infer(x.view())?;
    assert!(distance(&layer, &LayerNormConfig::per_channel(64).init()?.infer(x.view())?) < 1e-13);
    // 001-22
    let instance = InstanceNormConfig::new(64).init()?.infer(x.view())?;
    assert!(distance(&instance, &layer) > 0.1);
    Ok(())
}

#[test]
fn the_picture_of_cubes() -> Result<(), Error> {
    // 001-03
    let figure = explain::rule(
        &Instance { channels: 3, channel_axis: 1 },
        &[2, 3, 28, 28],
        Layout::channels_first(4)?,
    )?;
    assert_eq!(figure.sharings[0].sets(), 2 * 3);
    Ok(())
}
