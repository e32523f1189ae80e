//! The lines for the normalization README.

use std::collections::BTreeMap;

use cellnorm::explain::{self, Layout};
use cellnorm::norms::{Batch, Features, Layer};
use cellnorm::weights::WeightNormConfig;
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Moments,
    batch_normalization, get_stats,
    norms::{BatchInstanceNormConfig, SwitchableNormConfig},
};
use ndarray::{ArrayD, array};

use crate::{Numbers, close, distance};

#[test]
fn batch_normalization_of_64_channels() -> Result<(), Error> {
    // 003-02
    let first = BatchNormConfig::new(64);
    let x = Numbers::new(105).tensor(&[3, 64, 4, 4], 2.0);
    let expected = first.init()?.forward(x.view())?.0;
    // 003-12
    let mut layer = BatchNormConfig::new(64).init()?;
    let gamma = ArrayD::from_elem(vec![64], 2.0);
    // 003-13
    layer.gamma = Some(gamma);
    let y = layer.forward(x.view())?.0;
    assert!(distance(&y, &(expected * 2.0)) < 1e-13);
    // 003-04
    let stats = get_stats(y.view())?;
    close(stats.std, 2.0, 1e-4);
    let place = x.as_ptr();
    // 003-15
    let y = layer.infer(x)?;
    assert_eq!(y.as_ptr(), place);
    Ok(())
}

#[test]
fn moments_of_machines() {
    let (of_one_machine, of_another) = (Moments::of(&[1.0, 2.0, 3.0]), Moments::of(&[10.0]));
    let of_machines = [of_one_machine, of_another];
    // 003-08
    let all = of_one_machine.merge(of_another);
    assert_eq!((all.mean, all.variance()), (4.0, 12.5));
    // 003-16
    assert_eq!(Moments::merge_all(&of_machines), all);
}

/// A network of one weight, whose batch normalization has no γ.
#[test]
fn folding() -> Result<(), Error> {
    let named = |name: &str, value: f64| (format!("net/conv1/{name}:0"), array![value].into_dyn());
    let checkpoint = BTreeMap::from([
        named("weights", 3.0),
        named("beta", 0.5),
        named("moving_mean", 2.0),
        named("moving_variance", 4.0),
    ]);
    // 003-20
    let of_layer = |name: &str| name.strip_suffix("moving_variance:0").map(str::to_owned);
    let layer = checkpoint.keys().find_map(|name| of_layer(name)).expect("a batch normalization");
    assert_eq!(layer, "net/conv1/");
    // 003-21
    let w = checkpoint["net/conv1/weights:0"].view();
    let (mean, running_var) =
        (&checkpoint["net/conv1/moving_mean:0"], &checkpoint["net/conv1/moving_variance:0"]);
    let take = |name: &str| checkpoint.get(&format!("{layer}{name}:0")).cloned();
    // 003-22
    let gamma = take("gamma").unwrap_or_else(|| ArrayD::ones(mean.raw_dim()));
    let beta = take("beta").unwrap_or_else(|| ArrayD::zeros(mean.raw_dim()));
    let (unfolded, offset, epsilon) = (gamma.clone(), beta.clone(), 1e-3);
    // 003-19
    let factor = gamma / (running_var + epsilon).mapv(f64::sqrt);
    let x = array![[1.0], [-2.0]].into_dyn();
    let folded = &x * (&w * &factor) + (beta - mean * &factor);
    let (z, gamma, beta) = (x * w, unfolded.view(), offset.view());
    let (mean, variance) = (mean.view(), running_var.view());
    // 003-23
    let y = batch_normalization(z, mean, variance, Some(beta), Some(gamma), 1e-3)?;
    assert!(distance(&folded, &y) < 1e-14);
    Ok(())
}

#[test]
fn normalizations_of_single_samples() -> Result<(), Error> {
    let x = Numbers::new(106).tensor(&[2, 64, 3, 3], 1.0);
    // 003-25
    let of_layer = LayerNormConfig::per_channel(64).init()?.infer(x.view())?;
    // 003-28
    let layer = InstanceNormConfig::new(64).init()?;
    let of_instance = layer.infer(x.view())?;
    // 003-32
    let of_groups = GroupNormConfig::new(8, 64).init()?.infer(x.view())?;
    assert!(distance(&of_layer, &of_groups) > 0.1 && distance(&of_instance, &of_groups) > 0.1);
    // 003-29
    let y = layer.infer(x)?;
    assert_eq!(y, of_instance);

    let x = Numbers::new(107).tensor(&[1, 3, 6, 6], 1.0);
    let image = x.view();
    // 003-30
    let y = InstanceNormConfig::new(3).init()?.infer(image)?;
    // 003-31
    assert_eq!(InstanceNormConfig::new(3).init()?.forward(x.view())?.0, y);

    let x = Numbers::new(108).tensor(&[2, 6, 6], 1.0);
    // 003-33
    let neighbours = GroupNormConfig::new(3, 6).init()?.infer(x.view())?;
    // 003-34
    let each = GroupNormConfig::new(6, 6).init()?.infer(x.view())?;
    assert_eq!(each, InstanceNormConfig::new(6).init()?.infer(x.view())?);
    assert!(distance(&neighbours, &each) > 0.1);
    Ok(())
}

#[test]
fn mixtures_and_weights() -> Result<(), Error> {
    let x = Numbers::new(109).tensor(&[3, 64, 4], 1.0);
    // 003-35
    let mut layer = BatchInstanceNormConfig::new(64).init()?;
    assert_eq!(layer.forward(x.view())?.0.shape(), x.shape());
    // 003-36
    let mut layer = SwitchableNormConfig::new(64).init()?;
    assert_eq!(layer.forward(x.view())?.0.shape(), x.shape());
    // 003-37
    assert_eq!(
        SwitchableNormConfig::new(64).init()?.parameter("mean_weight"),
        Some(&array![1.0, 1.0, 1.0].into_dyn())
    );
    let v = array![[3.0, 4.0], [0.0, 2.0]];
    // 003-38
    let layer = WeightNormConfig::of_weight(v.view(), Some(0))?;
    assert_eq!(layer.parameter("g"), Some(&array![5.0, 2.0].into_dyn()));
    Ok(())
}

#[test]
fn pictures() -> Result<(), Error> {
    // 003-01
    let figure = explain::rule(&Batch::new(32, 1), &[8, 32, 28, 28], Layout::channels_first(4)?)?;
    assert_eq!(figure.sharings[0].sets(), 32);
    // 003-27
    let matrix = explain::rule(
        &Layer(Features::PerChannel { channels: 6, axis: 1 }),
        &[4, 6],
        Layout::channels_first(2)?,
    )?;
    assert_eq!(matrix.sharings[0].set(&[1, 0]), [1..2, 0..6]);
    Ok(())
}
