//! Which axis holds the channels, and which axes share statistics.

use cellnorm::{BatchNormConfig, Error, LayerNormConfig, Momentum, moments, rule::Saved};
use ndarray::{Array, ArrayD, Axis, array};

use crate::{Erratum, Numbers, distance, running};

/// E18: on \[N, H, W, C\] the channels are axis −1; axis −2 is the width, which only an untrained
/// layer hides.
#[test]
fn the_channels_of_channels_last_are_the_last_axis() -> Result<(), Error> {
    // the second channel lies around 100
    let x = Numbers::new(18).tensor(&[3, 2, 3, 2], 0.0) + &array![0.0, 100.0].into_dyn();
    let keras = |length, axis| {
        BatchNormConfig::new(length).channel_axis(axis).epsilon(1e-3).momentum(Momentum::Keep(0.99))
    };
    let (mut channels, mut width) = (keras(2, -1).init()?, keras(3, -2).init()?);
    assert_eq!(channels.infer(x.view())?, width.infer(x.view())?);

    let first =
        |y: ArrayD<f64>| -> Result<f64, Error> { Ok(moments(y.view(), &[0, 1, 2], false)?.0[[0]]) };
    let (cellnorm, tutorial) =
        (first(channels.forward(x.view())?.0)?, first(width.forward(x.view())?.0)?);
    Erratum { cellnorm, right: 0.0, tutorial, wrong: -1.0, within: 0.01 }.check();
    assert_eq!((running(&channels).mean.len(), running(&width).mean.len()), (2, 3));
    Ok(())
}

/// E24: axis 1 of a 26 × 26 × 10 activation is its height; "all activations of a sample" are axes
/// 1, 2 and 3.
#[test]
fn axis_one_of_channels_last_is_the_height() -> Result<(), Error> {
    let x = Numbers::new(24).tensor(&[2, 26, 26, 10], 1.0);
    let mut height = LayerNormConfig::over(&[1], &[26]).init()?;
    let mut sample = LayerNormConfig::over(&[1, 2, 3], &[26, 26, 10]).init()?;
    let length = |gamma: &Option<ArrayD<f64>>| gamma.as_ref().unwrap().len() as f64;
    let (cellnorm, tutorial) = (length(&sample.gamma), length(&height.gamma));
    Erratum { cellnorm, right: 6760.0, tutorial, wrong: 26.0, within: 0.0 }.check();

    let ((y, whole), (z, columns)) = (sample.forward(x.view())?, height.forward(x.view())?);
    let per_sample = |saved: Saved| saved.statistics.mean.len() as f64 / 2.0;
    let (cellnorm, tutorial) = (per_sample(whole), per_sample(columns));
    Erratum { cellnorm, right: 1.0, tutorial, wrong: 260.0, within: 0.0 }.check();
    assert!(distance(&y, &z) > 0.5);
    // over the height: each column of each channel has mean 0
    assert!(moments(z.view(), &[1], false)?.0.iter().all(|mean| mean.abs() < 1e-12));
    Ok(())
}

/// E33: greyscale images without a channel axis run, with the rows as channels, and lose their
/// vertical gradient.
#[test]
fn greyscale_without_a_channel_axis_runs_on_rows() -> Result<(), Error> {
    // brighter from row to row
    let x = ArrayD::from_shape_fn(vec![100, 32, 32], |i| {
        i[1] as f64 + 0.1 * ((i[0] + i[2]) % 2) as f64
    });
    let rows = BatchNormConfig::new(32).init()?.forward(x.view())?.0;
    let with_channel = x.clone().insert_axis(Axis(1));
    let right =
        BatchNormConfig::new(1).init()?.forward(with_channel.view())?.0.index_axis_move(Axis(1), 0);
    let last_row =
        |y: &ArrayD<f64>| -> Result<f64, Error> { Ok(moments(y.view(), &[0, 2], false)?.0[[31]]) };
    let (cellnorm, tutorial) = (last_row(&right)?, last_row(&rows)?);
    Erratum { cellnorm, right: 1.6787, tutorial, wrong: 0.0, within: 1e-3 }.check();
    // a layer made for one channel does not take the rows for it
    let error = Error::Channels { axis: 1, shape: vec![100, 32, 32], channels: 1 };
    assert_eq!(BatchNormConfig::new(1).init()?.forward(x.view()).unwrap_err(), error);
    Ok(())
}

/// E36: over two channels every output is ±1, whatever the input; over 24, which channel is how
/// large is left.
#[test]
fn two_channels_are_always_plus_and_minus_one() -> Result<(), Error> {
    let distinct = |x: &ArrayD<f64>, channels| -> Result<f64, Error> {
        let y = LayerNormConfig::new(&[channels]).epsilon(1e-12).init()?.infer(x.view())?;
        let mut rounded: Vec<i64> = y.iter().map(|y| (y * 1e6).round() as i64).collect();
        rounded.sort_unstable();
        rounded.dedup();
        Ok(rounded.len() as f64)
    };
    let x = Numbers::new(36).tensor(&[2, 4, 24], 0.0);
    let pairs = x.clone().into_shape_with_order(vec![2, 48, 2]).unwrap();
    Erratum {
        cellnorm: distinct(&x, 24)?,
        right: 192.0,
        tutorial: distinct(&pairs, 2)?,
        wrong: 2.0,
        within: 0.0,
    }
    .check();

    let tutorial =
        Array::from_iter((0..16).map(f64::from)).into_shape_with_order((2, 4, 2)).unwrap();
    let y = LayerNormConfig::new(&[2]).init()?.infer(tutorial)?;
    for (index, y) in y.indexed_iter() {
        crate::close(*y, if index.2 == 0 { -0.99998 } else { 0.99998 }, 1e-6);
    }
    Ok(())
}
