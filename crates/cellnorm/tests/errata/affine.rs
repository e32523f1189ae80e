//! γ and β: their shapes, where they are on, and what they do to mean and variance.

use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    batch_normalization, get_stats, moments,
};
use ndarray::{ArrayD, IxDyn, array};

use crate::{Erratum, Numbers};

fn ones(shape: &[usize]) -> Option<ArrayD<f64>> {
    Some(ArrayD::ones(IxDyn(shape)))
}

/// E4: γ and β of group normalization have a value a channel, not one for all and not one a group.
#[test]
fn a_group_has_a_gamma_for_each_channel() -> Result<(), Error> {
    let mut layer = GroupNormConfig::new(4, 16).init()?;
    let count = |parameter: &Option<ArrayD<f64>>| {
        parameter.as_ref().map_or(0.0, |array| array.len() as f64)
    };
    let cellnorm = count(&layer.gamma) + count(&layer.beta);
    Erratum { cellnorm, right: 32.0, tutorial: 1.0 + 1.0, wrong: 2.0, within: 0.0 }.check();

    let x = Numbers::new(4).tensor(&[2, 16, 3, 3], 0.0);
    for shape in [&[][..], &[4]] {
        layer.gamma = ones(shape);
        let error = Error::Parameter { name: "gamma", given: shape.to_vec(), expected: vec![16] };
        assert_eq!(layer.infer(x.view()).unwrap_err(), error);
    }
    Ok(())
}

/// E11: one group and layer normalization share statistics, but not the shape of γ and β.
#[test]
fn one_group_is_layer_normalization_but_for_gamma() -> Result<(), Error> {
    let x = Numbers::new(11).tensor(&[2, 10, 26, 26], 3.0);
    let mut group = GroupNormConfig::new(1, 10).init()?;
    let mut layer = LayerNormConfig::new(&[10, 26, 26]).init()?;
    let ((y, one), (z, whole)) = (group.forward(x.view())?, layer.forward(x.view())?);
    assert!(crate::distance(&y, &z) < 1e-13);
    assert_eq!(one.statistics.mean.len(), whole.statistics.mean.len());

    let parameters = |gamma: &Option<ArrayD<f64>>| 2.0 * gamma.as_ref().unwrap().len() as f64;
    let (cellnorm, tutorial) = (parameters(&group.gamma), parameters(&layer.gamma));
    Erratum { cellnorm, right: 20.0, tutorial, wrong: 13_520.0, within: 0.0 }.check();
    // so the weights of one do not go into the other
    group.gamma = layer.gamma;
    let error = Error::Parameter { name: "gamma", given: vec![10, 26, 26], expected: vec![10] };
    assert_eq!(group.infer(x.view()).unwrap_err(), error);
    Ok(())
}

/// E16: the function of given statistics does both steps, x̂ and γ x̂ + β.
#[test]
fn given_statistics_take_offset_and_scale() -> Result<(), Error> {
    let x = array![[1.0], [2.0], [3.0], [4.0]].into_dyn();
    let (mean, variance) = moments(x.view(), &[0], true)?;
    let (gamma, beta) = (array![2.0].into_dyn(), array![10.0].into_dyn());
    let run = |offset, scale| {
        batch_normalization(x.view(), mean.view(), variance.view(), offset, scale, 1e-3)
    };
    let both = run(Some(beta.view()), Some(gamma.view()))?;
    let first_step = run(None, None)?[[0, 0]];
    Erratum {
        cellnorm: both[[0, 0]],
        right: 7.31779,
        tutorial: first_step,
        wrong: -1.34110,
        within: 1e-5,
    }
    .check();

    let mut layer = BatchNormConfig::new(1).epsilon(1e-3).init()?;
    (layer.gamma, layer.beta) = (Some(gamma), Some(beta));
    assert!(crate::distance(&layer.forward(x.view())?.0, &both) < 1e-14);
    Ok(())
}

/// E27: γ from U(−0.05, 0.05) makes the output 35 times smaller, and turns half of the channels
/// over.
#[test]
fn a_uniform_gamma_all_but_switches_the_layer_off() -> Result<(), Error> {
    let mut numbers = Numbers::new(27);
    let x = numbers.tensor(&[2, 1000, 8, 8], 0.0);
    let mut layer = InstanceNormConfig::new(1000).epsilon(1e-3).init()?;
    let cellnorm = get_stats(layer.infer(x.view())?.view())?.std;
    let gamma = ArrayD::from_shape_simple_fn(IxDyn(&[1000]), || 0.1 * (numbers.uniform() - 0.5));
    let negative = gamma.iter().filter(|gamma| **gamma < 0.0).count();
    assert!((450..550).contains(&negative), "{negative}");
    layer.gamma = Some(gamma);
    let tutorial = get_stats(layer.infer(x.view())?.view())?.std;
    // √(variance of U(−0.05, 0.05)) = 0.05 / √3
    Erratum { cellnorm, right: 0.9995, tutorial, wrong: 0.0289, within: 1e-3 }.check();
    let times = cellnorm / tutorial;
    assert!((20.0..40.0).contains(&times), "{times}");
    Ok(())
}

/// E28: γ and β need no flag to be there, but one not to be.
#[test]
fn gamma_and_beta_are_there_by_default() -> Result<(), Error> {
    let count = |config: LayerNormConfig| -> Result<f64, Error> {
        let layer = config.init()?;
        Ok([layer.gamma, layer.beta].iter().flatten().map(ArrayD::len).sum::<usize>() as f64)
    };
    let (cellnorm, tutorial) = (
        count(LayerNormConfig::new(&[26]))?,
        count(LayerNormConfig::new(&[26]).scale(false).center(false))?,
    );
    Erratum { cellnorm, right: 52.0, tutorial, wrong: 0.0, within: 0.0 }.check();
    Ok(())
}

/// E31: the output has the mean β, the standard deviation |γ| and the variance γ².
#[test]
fn the_variance_is_gamma_squared() -> Result<(), Error> {
    let x = Numbers::new(31).tensor(&[500, 1], 7.0);
    let mut layer = BatchNormConfig::new(1).epsilon(1e-12).init()?;
    let gamma = -3.0;
    (layer.gamma, layer.beta) = (Some(array![gamma].into_dyn()), Some(array![0.5].into_dyn()));
    let (mean, variance) = moments(layer.forward(x.view())?.0.view(), &[0, 1], false)?;
    let (mean, variance) = (mean[[]], variance[[]]);
    Erratum { cellnorm: variance, right: 9.0, tutorial: gamma, wrong: -3.0, within: 1e-9 }.check();
    Erratum { cellnorm: variance.sqrt(), right: 3.0, tutorial: gamma, wrong: -3.0, within: 1e-9 }
        .check();
    crate::close(mean, 0.5, 1e-12);
    Ok(())
}

/// E32: Gluon's instance normalization learns β alone, which here is `scale(false)`.
#[test]
fn gluons_instance_normalization_learns_beta_alone() -> Result<(), Error> {
    let x = Numbers::new(32).tensor(&[2, 2, 2, 2], 0.0);
    let learnt = |config: InstanceNormConfig| -> Result<f64, Error> {
        let mut layer = config.init()?;
        let (_, saved) = layer.forward(x.view())?;
        let gradients = layer.backward(&saved, x.view(), x.view())?;
        Ok([gradients.dgamma, gradients.dbeta].iter().flatten().count() as f64)
    };
    let (cellnorm, tutorial) =
        (learnt(InstanceNormConfig::new(2).scale(false))?, learnt(InstanceNormConfig::new(2))?);
    Erratum { cellnorm, right: 1.0, tutorial, wrong: 2.0, within: 0.0 }.check();
    Ok(())
}
