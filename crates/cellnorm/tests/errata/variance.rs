//! The divisor of x − mean: √(variance + ε), not the variance, not √(x + ε), and not without ε.

use cellnorm::{Error, GroupNormConfig, LayerNormConfig, batch_normalization, get_stats, moments};
use ndarray::{Array, ArrayD, array};

use crate::{Erratum, Numbers, close, distance};

/// E1: 64 images of 16 channels with values uniform in (0, 1), through group normalization with 4
/// groups.
#[test]
fn uniform_images_get_deviation_one() -> Result<(), Error> {
    let mut numbers = Numbers::new(20);
    let x = Array::from_shape_simple_fn((64, 16, 112, 112), || numbers.uniform());
    let before = get_stats(x.view())?;
    assert_eq!((before.element, &before.shape[..]), ("f64", &[64, 16, 112, 112][..]));
    close(before.mean, 0.5, 1e-4);
    close(before.std, 0.2887, 1e-4);
    assert!(before.min > 0.0 && before.min < 1e-5 && before.max < 1.0 && before.max > 1.0 - 1e-5);

    let groups = x.view().into_shape_with_order((64, 4, 4, 112, 112)).unwrap();
    let (mean, variance) = moments(groups, &[2, 3, 4], true)?;
    assert_eq!(mean.shape(), [64, 4, 1, 1, 1]);
    let without_root = (&groups - &mean) / (variance + 1e-5);
    let after = get_stats(GroupNormConfig::new(4, 16).init()?.infer(x.view())?.view())?;
    close(after.mean, 0.0, 1e-12);
    Erratum {
        cellnorm: after.std,
        right: 0.99994,
        tutorial: get_stats(without_root.view())?.std,
        wrong: 3.4636,
        within: 1e-3,
    }
    .check();
    close(after.std, 0.99994, 1e-5);
    Ok(())
}

/// E3: weights trained with one ε and used with another, on activations of variance 0.002.
#[test]
fn epsilon_matters_where_the_variance_is_small() -> Result<(), Error> {
    let root = 2e-3_f64.sqrt();
    let x = array![[-root, root]];
    let first =
        |epsilon| Ok(LayerNormConfig::new(&[2]).epsilon(epsilon).init()?.infer(x.view())?[[0, 1]]);
    Erratum {
        cellnorm: first(1e-5)?,
        right: 0.99751,
        tutorial: first(1e-3)?,
        wrong: 0.81650,
        within: 1e-5,
    }
    .check();
    Ok(())
}

/// E12: a channel whose values are all the same, and one with the variance 2e-5.
#[test]
fn epsilon_is_inside_the_root() -> Result<(), Error> {
    let without_epsilon = |x: &ArrayD<f64>| -> Result<ArrayD<f64>, Error> {
        let (mean, variance) = moments(x.view(), &[0], true)?;
        Ok((x - &mean) / variance.mapv(f64::sqrt))
    };
    let mut layer = cellnorm::BatchNormConfig::new(1).init()?;
    layer.beta = Some(array![0.25].into_dyn());
    let constant = array![[3.0], [3.0]].into_dyn();
    assert!(without_epsilon(&constant)?.iter().all(|y| y.is_nan()));
    assert_eq!(layer.forward(constant.view())?.0, array![[0.25], [0.25]].into_dyn());

    layer.beta = None;
    let root = 2e-5_f64.sqrt();
    let x = array![[-root], [root]].into_dyn();
    let (cellnorm, tutorial) = (layer.forward(x.view())?.0[[1, 0]], without_epsilon(&x)?[[1, 0]]);
    Erratum { cellnorm, right: 0.81650, tutorial, wrong: 1.0, within: 1e-5 }.check();
    Ok(())
}

/// E15: x itself stands where its variance belongs.
#[test]
fn the_variance_is_in_the_root_and_not_x() -> Result<(), Error> {
    let x = array![1.0, 2.0, 3.0, 4.0].into_dyn();
    let (mean, variance) = moments(x.view(), &[0], true)?;
    let y = batch_normalization(x.view(), mean.view(), variance.view(), None, None, 1e-3)?;
    let tutorial = |x: f64| (x - mean[[0]]) / (x + 1e-3).sqrt();
    Erratum {
        cellnorm: y[[0]],
        right: -1.34110,
        tutorial: tutorial(1.0),
        wrong: -1.49925,
        within: 1e-5,
    }
    .check();
    // the notebook's own data have negative values
    assert!(tutorial(-1.4323952).is_nan());
    Ok(())
}

/// E20: a sample of the notebook, got back from what it prints, gives the printed layer
/// normalization with ε = 1e-3 only.
///
/// Group normalization with one group and ε = 1e-6 is printed as g = (x − mean) / √(variance +
/// 1e-6), layer normalization as l = (x − mean) / √(variance + 1e-3). So (l/g)² = (variance + 1e-6)
/// / (variance + 1e-3) gives the variance, and g the rest.
#[test]
fn two_epsilons_are_two_results() -> Result<(), Error> {
    let group = [
        0.16829652,
        -0.9133313,
        2.6673615,
        0.03620002,
        0.57176876,
        -1.2323886,
        -0.6144575,
        -0.8229133,
        0.008499,
        -0.73466504,
        0.1115285,
        0.75410104,
    ];
    let layer = [
        0.16816942,
        -0.91264147,
        2.6653469,
        0.03617269,
        0.57133687,
        -1.2314578,
        -0.6139934,
        -0.82229173,
        0.0084926,
        -0.7341101,
        0.11144427,
        0.75353146,
    ];
    let instance = [
        -0.30603546,
        -0.6347712,
        2.1050472,
        0.77404225,
        0.08323207,
        -1.1081547,
        -1.0612316,
        -0.5006187,
        -0.4602071,
        -0.36968517,
        -0.3608049,
        1.8391874,
    ];
    let printed = |values: [f64; 12]| {
        Array::from_iter(values).into_shape_with_order(vec![1, 2, 3, 2]).unwrap()
    };
    let ratio = (2.6653469_f64 / 2.6673615).powi(2);
    let variance = (1e-3 * ratio - 1e-6) / (1.0 - ratio);
    let x = printed(group) * (variance + 1e-6).sqrt();
    close(moments(x.view(), &[1, 2, 3], false)?.1[[0]], variance, 1e-3);

    let whole = LayerNormConfig::over(&[1, 2, 3], &[2, 3, 2]);
    let with_1e_3 = whole.clone().epsilon(1e-3).init()?.infer(x.view())?;
    let with_1e_6 = whole.epsilon(1e-6).init()?.infer(x.view())?;
    assert!(distance(&with_1e_3, &printed(layer)) < 1e-6);
    assert!(distance(&with_1e_6, &printed(group)) < 1e-6);
    let (cellnorm, tutorial) = (with_1e_3[[0, 0, 0, 0]], with_1e_6[[0, 0, 0, 0]]);
    Erratum { cellnorm, right: 0.16816941, tutorial, wrong: 0.16829652, within: 1e-6 }.check();

    // and equal ε make one group the layer, and a group a channel the instance normalization that
    // is printed
    let groups = |groups| GroupNormConfig::new(groups, 2).channel_axis(-1).epsilon(1e-6).init();
    assert!(distance(&groups(1)?.infer(x.view())?, &with_1e_6) < 1e-12);
    assert!(distance(&groups(2)?.infer(x.view())?, &printed(instance)) < 1e-6);
    Ok(())
}

/// E22: the printed formula has lost a minus and ε, and reads γ (x · mean) / σ + β.
#[test]
fn the_minus_is_part_of_the_formula() -> Result<(), Error> {
    let x = array![[1.0, 2.0, 3.0, 4.0]];
    let (mean, variance) = moments(x.view(), &[1], false)?;
    let cellnorm = LayerNormConfig::new(&[4]).init()?.infer(x.view())?[[0, 0]];
    let tutorial = x[[0, 0]] * mean[[0]] / variance[[0]].sqrt();
    Erratum { cellnorm, right: -1.34164, tutorial, wrong: 2.23607, within: 1e-5 }.check();
    Ok(())
}
