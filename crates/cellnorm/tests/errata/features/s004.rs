//! The lines for the MXNet Gluon normalization tutorial.

use cellnorm::explain::{self, Layout};
use cellnorm::norms::{Features, Layer};
use cellnorm::{
    BatchNorm, BatchNormConfig, Error, InstanceNormConfig, LayerNormConfig, Mode, Momentum,
    RunningVariance, batch_normalization, moments,
};
use ndarray::{Array, Array4, ArrayD, Axis, array};

use crate::{Numbers, close, distance, running};

/// The tutorial's batch: 2 samples of 2 channels, 2 × 2.
fn batch() -> Array4<f64> {
    Array::from_iter((0..16).map(f64::from)).into_shape_with_order((2, 2, 2, 2)).unwrap()
}

fn images() -> ArrayD<f64> {
    Numbers::new(110).tensor(&[20, 3, 4, 4], 2.0)
}

#[test]
fn statistics_of_a_training_set() -> Result<(), Error> {
    let images = images();
    // 004-03
    let (mean, variance) = moments(images.view(), &[0, 2, 3], true)?;
    // 004-04
    assert_eq!(moments(images.view(), &[0, 2, 3], true)?.0.shape(), [1, 3, 1, 1]);
    // 004-05
    assert_eq!(moments(images.view(), &[0], true)?.0.shape(), [1, 3, 4, 4]);
    let train = images.slice_axis(Axis(0), (..15).into());
    // 004-08
    assert_ne!(moments(train.view(), &[0, 2, 3], true)?.0, mean);
    let x = &images;
    // 004-25
    assert_eq!(moments(x.view(), &[0, 2, 3], false)?.0.shape(), [3]);
    let batch = images.view();
    // 004-06
    let y = batch_normalization(batch, mean.view(), variance.view(), None, None, 1e-5)?;
    let images = images.axis_iter(Axis(0)).map(|image| image.insert_axis(Axis(0)));
    // 004-11
    let each =
        images.map(|x| batch_normalization(x, mean.view(), variance.view(), None, None, 1e-5));
    for (index, of_one) in each.enumerate() {
        assert_eq!(of_one?.index_axis(Axis(0), 0), y.index_axis(Axis(0), index));
    }
    Ok(())
}

#[test]
fn the_constants_of_imagenet() -> Result<(), Error> {
    let bytes =
        Array4::from_shape_fn((1, 3, 2, 2), |(_, c, h, w)| (90 * c + 40 * h + 20 * w) as u8);
    // 004-48
    let x = bytes.mapv(|byte| f32::from(byte) / 255.0);
    // 004-10
    assert_eq!(bytes.mapv(|byte| f32::from(byte) / 255.0), x);
    let column = |values: [f64; 3]| array![values].into_shape_with_order(vec![3, 1, 1]).unwrap();
    let (mean, std) = (column([0.485, 0.456, 0.406]), column([0.229, 0.224, 0.225]));
    // 004-09
    let y = batch_normalization(x, mean.view(), (&std * &std).view(), None, None, 1e-36)?;
    close(f64::from(y[[0, 0, 0, 0]]), -0.485 / 0.229, 1e-6);
    Ok(())
}

#[test]
fn configurations() -> Result<(), Error> {
    // 004-07
    let first = BatchNormConfig::new(3).scale(false).center(false).init()?;
    assert!(first.gamma.is_none() && first.beta.is_none());
    // 004-17
    let on_axis_1 = BatchNormConfig::new(2).init()?.forward(batch().view())?.0;
    assert!(
        distance(&moments(on_axis_1.view(), &[0, 2, 3], false)?.0, &ArrayD::zeros(vec![2])) < 1e-15
    );
    // 004-18
    let sequences = BatchNormConfig::new(3).channel_axis(-1).init()?;
    assert_eq!(sequences.infer(ArrayD::<f64>::zeros(vec![4, 5, 3]))?.shape(), [4, 5, 3]);
    // 004-22
    let layer = BatchNormConfig::new(2).init()?;
    // 004-32
    assert!(layer.gamma.as_ref().is_some_and(|gamma| gamma.iter().all(|gamma| *gamma == 1.0)));
    // 004-14
    assert!(InstanceNormConfig::new(2).scale(false).init()?.gamma.is_none());
    // 004-43
    let of_sequences = InstanceNormConfig::new(3).channel_axis(-1).init()?;
    assert_eq!(of_sequences.infer(ArrayD::<f64>::zeros(vec![4, 5, 3]))?.shape(), [4, 5, 3]);
    // 004-44
    let of_sequences = InstanceNormConfig::new(64).channel_axis(-1).init()?;
    // 004-45
    let of_images = InstanceNormConfig::new(64).init()?;
    let x = Numbers::new(111).tensor(&[2, 5, 64], 0.0);
    let y = of_images.infer(x.view().permuted_axes(vec![0, 2, 1]))?;
    assert!(distance(&y.permuted_axes(vec![0, 2, 1]), &of_sequences.infer(x)?) < 1e-14);
    let x = Array::<f64, _>::zeros((2, 28, 28));
    // 004-21
    assert_eq!(x.insert_axis(Axis(1)).dim(), (2, 1, 28, 28));
    Ok(())
}

fn gluon() -> Result<BatchNorm, Error> {
    // 004-12
    BatchNormConfig::new(2)
        .momentum(Momentum::Keep(0.9))
        .running_variance(RunningVariance::Biased)
        .init()
}

#[test]
fn training() -> Result<(), Error> {
    let (x, mut layer) = (batch(), gluon()?);
    let (y, saved) = layer.forward(x.view())?;
    // 004-24
    let gradients = layer.backward(&saved, x.view(), y.mapv(f64::signum))?;
    let dy = y.view();
    // 004-34
    assert_eq!(layer.backward(&saved, x.view(), dy)?.dgamma.map(|dgamma| dgamma.len()), Some(2));
    let (mut gamma, dgamma, rate) = (ArrayD::ones(vec![2]), gradients.dgamma.unwrap(), 0.1);
    // 004-35
    gamma.scaled_add(-rate, &dgamma);
    close(gamma[[0]], 1.0 - 0.1 * 7.7047, 1e-5);
    // 004-26
    close(layer.forward(x.view())?.0[[0, 0, 0, 0]], -1.324_244_0, 1e-6);
    // 004-29
    for _ in 0..100 {
        layer.forward(x.view())?;
    }
    close(running(&layer).variance[0], 17.25, 1e-3);
    // 004-28
    let mut slow = BatchNormConfig::new(2).momentum(Momentum::Keep(0.9)).init()?;
    slow.forward(x.view())?;
    close(running(&slow).mean[0], 0.1 * 5.5, 1e-14);

    // 004-47
    let (mean, variance) = moments(x.view(), &[0, 2, 3], false)?;
    let by_hand = (x[[0, 0, 0, 0]] - mean[[0]]) / variance[[0]].sqrt();
    close(by_hand, y[[0, 0, 0, 0]], 1e-5);
    let beta = array![5.0, 5.0].into_dyn();
    // 004-16
    layer.beta = Some(beta);
    close(layer.forward(x.view())?.0[[0, 0, 0, 0]], 5.0 - 1.324_244_0, 1e-6);
    Ok(())
}

#[test]
fn modes() -> Result<(), Error> {
    let (x, mut layer) = (batch(), gluon()?);
    // 004-27
    layer.mode = Mode { update: false, ..Mode::training() };
    layer.forward(x.view())?;
    assert_eq!(running(&layer).mean, array![0.0, 0.0].into_dyn());
    // 004-33
    layer.mode = Mode { train_parameters: false, ..Mode::training() };
    let (y, saved) = layer.forward(x.view())?;
    assert!(layer.backward(&saved, x.view(), y)?.dgamma.is_none());
    let before = running(&layer).mean.clone();
    // 004-30
    layer.mode = Mode::inference();
    let fixed = layer.forward(x.view())?.0;
    assert_eq!(running(&layer).mean, before);
    // 004-36
    assert_eq!(layer.infer(x)?, fixed);
    let x = batch();
    // 004-23
    let y = layer.infer(x)?;
    assert_eq!(y, fixed);
    Ok(())
}

#[test]
fn layer_normalization() -> Result<(), Error> {
    // 004-13
    let mut layer = LayerNormConfig::new(&[2]).init()?;
    let x = batch();
    // 004-37
    assert!(layer.infer(x.view())? == layer.forward(x.view())?.0);
    // 004-41
    let y = LayerNormConfig::new(&[2]).init()?.infer(x)?;
    assert!(y.iter().all(|y| (y.abs() - 1.0).abs() < 1e-4));
    // 004-38
    let pairs = LayerNormConfig::new(&[2]).init()?.forward(batch().view())?.1;
    assert_eq!(pairs.statistics.mean.len(), batch().len() / 2);
    // 004-42
    assert_eq!(LayerNormConfig::new(&[2]).init()?.gamma, Some(array![1.0, 1.0].into_dyn()));
    // 004-39
    let images = LayerNormConfig::over(&[1, 2, 3], &[3, 32, 32]).init()?;
    assert_eq!(images.infer(ArrayD::<f64>::zeros(vec![2, 3, 32, 32]))?.shape(), [2, 3, 32, 32]);
    // 004-40
    let channels = LayerNormConfig::over(&[1], &[64]).init()?;
    assert_eq!(channels.infer(ArrayD::<f64>::zeros(vec![2, 64, 3, 3]))?.shape(), [2, 64, 3, 3]);
    Ok(())
}

#[test]
fn the_picture_for_ntc() -> Result<(), Error> {
    // 004-46
    let figure = explain::rule(
        &Layer(Features::from_shape(&[-1], &[2, 4, 2])?),
        &[2, 4, 2],
        Layout::named("NTC", 3)?,
    )?;
    assert_eq!(figure.sharings[0].sets(), 2 * 4);
    Ok(())
}
