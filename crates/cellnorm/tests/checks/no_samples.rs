//! A batch without samples: y and dx are empty and the other gradients 0, where no statistic is
//! over no values. Layers whose samples share statistics refuse it in training.

use cellnorm::norms::{
    BatchInstanceNormConfig, LocalResponseNormConfig, LpNormConfig, SwitchableNormConfig,
    TrackedInstanceNormConfig,
};
use cellnorm::rule::{Norm, Rule};
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Mask, Mode,
    RmsNormConfig,
};
use ndarray::{ArrayD, IxDyn};

fn none(shape: &[usize]) -> ArrayD<f32> {
    ArrayD::zeros(IxDyn(shape))
}

/// Inference, forward and backward of no samples; running averages stay.
fn check<R: Rule>(mut layer: Norm<R>, shape: &[usize]) -> Result<(), Error> {
    let (x, running) = (none(shape), layer.running.clone());
    let mask = Mask::lengths(&vec![0; shape[0]], 1);
    assert_eq!(layer.infer(x.clone())?.shape(), shape);
    assert_eq!(layer.infer_masked(x.clone(), &mask)?.shape(), shape);
    let (y, saved) = layer.forward(x.view())?;
    assert_eq!(y.shape(), shape);
    let gradients = layer.backward(&saved, x.view(), x.clone())?;
    assert_eq!(gradients.dx.shape(), shape);
    for name in layer.names() {
        let gradient = gradients.parameter(name).expect("a gradient of each parameter");
        assert!(gradient.iter().all(|value| *value == 0.0), "{name}");
        assert_eq!(gradient.shape(), layer.parameter(name).unwrap().shape());
    }
    assert_eq!((layer.running, layer.steps), (running, 0));
    Ok(())
}

#[test]
fn samples_with_statistics_of_their_own_give_an_empty_tensor() -> Result<(), Error> {
    check(LayerNormConfig::new(&[8]).init()?, &[0, 8])?;
    check(LayerNormConfig::new(&[8]).init()?, &[3, 0, 8])?;
    check(RmsNormConfig::new(&[8]).init()?, &[2, 0, 8])?;
    check(InstanceNormConfig::new(3).init()?, &[0, 3, 2, 2])?;
    check(GroupNormConfig::new(2, 4).init()?, &[0, 4, 2, 2])?;
    check(TrackedInstanceNormConfig::new(3).init()?, &[0, 3, 2, 2])?;
    let lp = LpNormConfig::new(&[1]).init()?;
    assert_eq!(lp.forward(none(&[0, 3]).view())?.shape(), [0, 3]);
    assert_eq!(lp.backward(none(&[0, 3]).view(), none(&[0, 3]).view())?.shape(), [0, 3]);
    let response = LocalResponseNormConfig::new(3).init()?;
    assert_eq!(response.forward(none(&[0, 3, 2]).view())?.shape(), [0, 3, 2]);
    Ok(())
}

#[test]
fn running_averages_give_an_empty_tensor() -> Result<(), Error> {
    let mut batch = BatchNormConfig::new(3).init()?;
    batch.mode = Mode { train_parameters: true, ..Mode::inference() };
    check(batch, &[0, 3, 2, 2])?;
    let mut mixed = BatchInstanceNormConfig::new(3).init()?;
    mixed.mode = Mode { train_parameters: true, ..Mode::inference() };
    check(mixed, &[0, 3, 2, 2])
}

#[test]
fn a_statistic_over_no_values_is_refused() -> Result<(), Error> {
    let message = |result: Result<(ArrayD<f32>, _), Error>| result.unwrap_err().to_string();
    let expected = "a statistic over no values: the shape [0, 3, 2, 2] has an axis of length 0";
    let x = none(&[0, 3, 2, 2]);
    let mut batch = BatchNormConfig::new(3).init()?;
    assert!(message(batch.forward(x.view())).starts_with(expected));
    let mut switchable = SwitchableNormConfig::new(3).init()?;
    assert!(message(switchable.forward(x.view())).starts_with(expected));
    assert_eq!((batch.steps, switchable.steps), (0, 0));
    let mut layer = LayerNormConfig::new(&[0]).init()?;
    assert!(message(layer.forward(none(&[2, 0]).view())).starts_with("a statistic over no"));
    Ok(())
}
