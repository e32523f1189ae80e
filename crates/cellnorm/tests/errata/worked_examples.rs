//! Correct examples of the tutorials, with their shapes and numbers.

use cellnorm::rule::{NormConfig, Rule};
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    batch_normalization, moments,
};
use ndarray::{ArrayD, IxDyn, array};

use crate::{Numbers, close, distance};

#[test]
fn moments_have_the_notebooks_shapes() -> Result<(), Error> {
    let x = Numbers::new(1).tensor32(&[3, 2, 3, 2], 0.0);
    for (axes, kept, dropped) in [
        (&[0, 1, 2][..], vec![1, 1, 1, 2], vec![2]),
        (&[1, 2, 3], vec![3, 1, 1, 1], vec![3]),
        (&[1, 2], vec![3, 1, 1, 2], vec![3, 2]),
        (&[-3, -2], vec![3, 1, 1, 2], vec![3, 2]),
    ] {
        assert_eq!(moments(x.view(), axes, true)?.0.shape(), kept);
        assert_eq!(moments(x.view(), axes, false)?.1.shape(), dropped);
    }
    Ok(())
}

/// By hand and by the library, to the last bits of f32.
#[test]
fn from_scratch_is_what_the_library_gives() -> Result<(), Error> {
    let x = Numbers::new(2).tensor32(&[3, 2, 3, 2], 0.0);
    let (mean, variance) = moments(x.view(), &[0, 1, 2], true)?;
    let scratch = (x.mapv(f64::from) - &mean) / (&variance + 1e-3).mapv(f64::sqrt);
    let y = batch_normalization(x.view(), mean.view(), variance.view(), None, None, 1e-3)?
        .mapv(f64::from);
    assert!(distance(&scratch, &y) < 3e-7);
    let mut layer = BatchNormConfig::new(2).channel_axis(-1).epsilon(1e-3).init()?;
    assert!(distance(&layer.forward(x.view())?.0.mapv(f64::from), &y) < 3e-7);
    Ok(())
}

#[test]
fn an_untrained_layer_divides_by_the_root_of_one_and_epsilon() -> Result<(), Error> {
    let x = Numbers::new(3).tensor(&[3, 2, 3, 2], 0.0);
    let layer =
        BatchNormConfig::new(2).channel_axis(-1).epsilon(1e-3).scale(false).center(false).init()?;
    assert!(distance(&layer.infer(x.view())?, &(&x / 1.001_f64.sqrt())) < 1e-14);
    Ok(())
}

/// Two processes with one seed draw the same numbers, and two seeds do not.
#[test]
fn numbers_come_from_a_seed() {
    assert_eq!(Numbers::new(5).tensor(&[3, 2], 0.0), Numbers::new(5).tensor(&[3, 2], 0.0));
    assert_ne!(Numbers::new(5).tensor(&[3, 2], 0.0), Numbers::new(6).tensor(&[3, 2], 0.0));
    close(Numbers::new(5).normal(), Numbers::new(5).tensor(&[1], 0.0)[[0]], 0.0);
}

/// The ten channels of the MNIST network in five groups: each pair of channels has mean 0 and
/// variance 1.
#[test]
fn ten_channels_in_five_groups() -> Result<(), Error> {
    let x = Numbers::new(4).tensor(&[2, 26, 26, 10], 4.0);
    let y = GroupNormConfig::new(5, 10).channel_axis(3).epsilon(1e-3).init()?.infer(x.view())?;
    let pairs = y.into_shape_with_order(vec![2, 26, 26, 5, 2]).unwrap();
    let (mean, variance) = moments(pairs.view(), &[1, 2, 4], false)?;
    assert_eq!(mean.shape(), [2, 5]);
    assert!(mean.iter().all(|mean| mean.abs() < 1e-12));
    assert!(variance.iter().all(|variance| (variance - 1.0).abs() < 2e-3));
    Ok(())
}

/// The constants of the model zoo on bytes of an image.
#[test]
fn images_are_normalized_by_given_constants() -> Result<(), Error> {
    let mut numbers = Numbers::new(6);
    let bytes = ArrayD::from_shape_simple_fn(IxDyn(&[1, 3, 2, 2]), || numbers.below(256) as u8);
    let x = bytes.mapv(|byte| f64::from(byte) / 255.0);
    let column = |values: [f64; 3]| array![values].into_shape_with_order(vec![3, 1, 1]).unwrap();
    let (mean, std) = (column([0.485, 0.456, 0.406]), column([0.229, 0.224, 0.225]));
    let y =
        batch_normalization(x.view(), mean.view(), std.mapv(|s| s * s).view(), None, None, 1e-36)?;
    assert!(distance(&y, &((x - mean) / std)) < 1e-14);
    Ok(())
}

/// Sequences \[N, T, C\]: channels on axis 2, or −1.
#[test]
fn sequences_have_their_channels_last() -> Result<(), Error> {
    let x = Numbers::new(7).tensor(&[4, 5, 3], 2.0);
    let run = |axis, x: &ArrayD<f64>| {
        Ok(BatchNormConfig::new(3).channel_axis(axis).init()?.forward(x.view())?.0)
    };
    let y = run(2, &x)?;
    assert_eq!(y, run(-1, &x)?);
    let second = x.permuted_axes(vec![0, 2, 1]).as_standard_layout().into_owned();
    assert!(distance(&run(1, &second)?.permuted_axes(vec![0, 2, 1]), &y) < 1e-13);
    Ok(())
}

/// Layer, instance and group normalization compute the same in training and inference, whatever
/// else is in the batch.
#[test]
fn single_samples_need_no_modes() -> Result<(), Error> {
    fn check<R: Rule>(config: NormConfig<R>) -> Result<(), Error> {
        let x = Numbers::new(8).tensor(&[3, 4, 5], 1.0);
        let alone = |of: &ArrayD<f64>| of.slice_axis(ndarray::Axis(0), (1..2).into()).into_owned();
        let mut layer = config.init()?;
        let y = layer.infer(x.view())?;
        assert_eq!(layer.forward(x.view())?.0, y);
        assert_eq!(layer.infer(alone(&x))?, alone(&y));
        Ok(())
    }
    check(LayerNormConfig::new(&[5]))?;
    check(InstanceNormConfig::new(4))?;
    check(GroupNormConfig::new(2, 4))
}

/// Contrast and brightness of an image are gone after instance normalization.
#[test]
fn instance_normalization_takes_contrast_away() -> Result<(), Error> {
    let image = Numbers::new(9).tensor(&[1, 3, 8, 8], 0.0);
    let layer = InstanceNormConfig::new(3).epsilon(1e-12).init()?;
    let (y, of_pale) = (layer.infer(image.view())?, layer.infer(&image * 0.2 + 5.0)?);
    assert!(distance(&y, &of_pale) < 1e-9);
    Ok(())
}

/// A bias before batch normalization changes nothing.
#[test]
fn a_bias_before_batch_normalization_is_pointless() -> Result<(), Error> {
    let x = Numbers::new(10).tensor(&[6, 3, 4], 0.0);
    let bias = array![[5.0], [-3.0], [100.0]].into_dyn();
    let run =
        |x: &ArrayD<f64>| Ok::<_, Error>(BatchNormConfig::new(3).init()?.forward(x.view())?.0);
    assert!(distance(&run(&x)?, &run(&(&x + &bias))?) < 1e-12);
    Ok(())
}

/// Small batches tell the mean of a channel badly: its spread over batches falls with √n.
#[test]
fn small_batches_are_noisy() -> Result<(), Error> {
    let spread = |n: usize| -> Result<f64, Error> {
        let x = Numbers::new(11).tensor(&[1000, n], 0.0);
        let of_batches = moments(x.view(), &[1], false)?.0;
        Ok(moments(of_batches.view(), &[0], false)?.1[[]].sqrt())
    };
    close(spread(4)?, 0.5, 0.05);
    close(spread(64)?, 0.125, 0.0125);
    Ok(())
}
