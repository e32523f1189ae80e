//! The lines for the Group Norm walk-through.

use cellnorm::explain::{self, Layout};
use cellnorm::norms::Group;
use cellnorm::{
    Error, GroupNormConfig, Normalization, Semantics, Stats, get_stats, moments,
    semantics::GroupParameters,
};
use ndarray::{Array, ArrayView};

use crate::{Numbers, close};

#[test]
fn uniform_images_in_four_groups() -> Result<(), Error> {
    let mut numbers = Numbers::new(104);
    let uniform = || numbers.uniform() as f32;
    // 002-01
    let images = Array::from_shape_simple_fn((64, 16, 112, 112), uniform);
    let x = images.view();
    // 002-02
    println!("{}", get_stats(x.view())?);
    // 002-03
    let Stats { mean, std, min, max, .. } = get_stats(x.view())?;
    close(mean, 0.5, 1e-3);
    close(std, 0.2887, 1e-3);
    assert!(min >= 0.0 && max <= 1.0);
    // 002-05
    let groups = x.into_shape_with_order((64, 4, 4, 112, 112)).unwrap();
    // 002-06
    let (mean, _) = moments(groups, &[2, 3, 4], true)?;
    assert_eq!(mean.shape(), [64, 4, 1, 1, 1]);
    // 002-08
    let y = GroupNormConfig::new(4, 16).init()?.infer(x)?;
    // 002-10
    close(get_stats(y.view())?.std, 1.0, 1e-3);
    Ok(())
}

#[test]
fn the_layer_and_another_librarys_numbers() -> Result<(), Error> {
    // 002-04
    let layer = GroupNormConfig::new(4, 16).init()?;
    // 002-09
    assert!(layer.gamma.as_ref().is_some_and(|gamma| gamma.iter().all(|gamma| *gamma == 1.0)));
    let buffer: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let view = ArrayView::from_shape((2, 16, 2), &buffer).unwrap();
    // 002-11
    let y = layer.infer(view)?;
    assert_eq!(y.dim(), (2, 16, 2));

    let ours = Semantics::preset("pytorch-2", Normalization::Group)?;
    // 002-07
    assert!(!Semantics::preset("keras-3", Normalization::Group)?.diff(&ours).is_empty());
    Ok(())
}

#[test]
fn the_picture_with_the_number_of_groups() -> Result<(), Error> {
    // 002-12
    let figure = explain::rule(
        &Group {
            groups: 4,
            channels: 16,
            channel_axis: 1,
            parameters: GroupParameters::PerChannel,
        },
        &[64, 16, 112, 112],
        Layout::channels_first(4)?,
    )?;
    assert_eq!(figure.sharings[0].set(&[0, 5, 0, 0])[1], 4..8);
    Ok(())
}
