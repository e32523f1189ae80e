//! A case taken through Cellnorm: the layer that its preset and its arguments ask for, step by
//! step.

use std::collections::BTreeMap;

use cellnorm::norms::OverFeatures;
use cellnorm::rule::{Norm, NormConfig, Rule};
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Mask, Mode,
    Normalization, RmsNormConfig, Semantics,
    norms::{RmsScalingNormConfig, TluConfig, TluGradients},
};
use ndarray::ArrayD;
use serde_json::Value;

use crate::case::{Case, Step};
use crate::{lines, spectral, variants};

/// The results of a step by name.
pub type Results = BTreeMap<&'static str, Vec<f64>>;

/// A parameter as Cellnorm and as the file call it, and its gradient in the file.
pub type Name = (&'static str, &'static str, &'static str);

pub const AFFINE: [Name; 2] = [("gamma", "gamma", "dgamma"), ("beta", "beta", "dbeta")];

/// The results of each step.
pub fn run(case: &Case) -> Result<Vec<Results>, Error> {
    match case.text("layer") {
        "batch" => batch(case),
        "layer" if case.given("rms_scaling").is_some() => features(
            case,
            Normalization::Layer,
            RmsScalingNormConfig::over,
            RmsScalingNormConfig::per_channel,
        ),
        "layer" => features(
            case,
            Normalization::Layer,
            LayerNormConfig::over,
            LayerNormConfig::per_channel,
        ),
        "rms" => {
            features(case, Normalization::Rms, RmsNormConfig::over, RmsNormConfig::per_channel)
        }
        "group" => group(case),
        "instance" => instance(case),
        "renorm" => variants::renorm(case),
        "ghost" => variants::ghost(case),
        "filter_response" => variants::filter_response(case),
        "weight_norm" => variants::weight_norm(case),
        "unit" => lines::unit(case),
        "local_response" => lines::local_response(case),
        "tlu" => tlu(case),
        "spectral_norm" => spectral::run(case),
        other => unreachable!("no layer {other}"),
    }
}

/// Forward and backward of a step, with the gradients of these parameters.
pub fn pass<R: Rule>(layer: &mut Norm<R>, step: &Step, names: &[Name]) -> Result<Results, Error> {
    let (x, dy) = (step.tensor("x"), step.tensor("dy"));
    let (y, saved) = match step.mask() {
        Some(mask) => layer.forward_masked(x.view(), &Mask::new(mask.view()))?,
        None => layer.forward(x.view())?,
    };
    let gradients = layer.backward(&saved, x.view(), dy)?;
    let of_parameters = names.iter().filter_map(|(ours, _, gradient)| {
        gradients.parameter(ours).map(|values| (*gradient, flat(values)))
    });
    let mut results: Results = of_parameters.collect();
    results.extend([("y", wide(y)), ("dx", wide(gradients.dx))]);
    Ok(results)
}

pub fn wide(array: ArrayD<f32>) -> Vec<f64> {
    array.into_iter().map(f64::from).collect()
}

pub fn flat(table: &ArrayD<f64>) -> Vec<f64> {
    table.iter().copied().collect()
}

/// Gives the layer the parameters of the case.
pub fn set_parameters<R: Rule>(case: &Case, layer: &mut Norm<R>, names: &[Name]) {
    for (ours, theirs, _) in names {
        if let (Some(parameter), true) = (layer.parameter_mut(ours), case.has_parameter(theirs)) {
            *parameter = case.parameter(theirs, parameter.shape());
        }
    }
}

/// A layer that has no state between steps.
fn stateless<R: Rule>(
    case: &Case,
    config: NormConfig<R>,
    semantics: &Semantics,
) -> Result<Vec<Results>, Error> {
    let mut layer = config.semantics(semantics).init()?;
    set_parameters(case, &mut layer, &AFFINE);
    case.steps().map(|step| pass(&mut layer, &step, &AFFINE)).collect()
}

fn features<R: OverFeatures>(
    case: &Case,
    normalization: Normalization,
    over: fn(&[isize], &[usize]) -> NormConfig<R>,
    per_channel: fn(usize) -> NormConfig<R>,
) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(normalization)?;
    let axes = case.given("axis").map_or(vec![-1], axes);
    if let Some(features) =
        case.given("feature_axes").map(self::axes).filter(|features| *features != axes)
    {
        assert!(
            features.len() == 1 && axes.len() + 1 == case.shape.len(),
            "all axes but the samples', one of channels"
        );
        let channels = case.length(features[0]);
        return stateless(case, per_channel(channels), &semantics);
    }
    // γ and β, whatever their shape is called, lie in the order of the tensor's axes
    let mut sorted = axes.clone();
    sorted.sort_by_key(|axis| axis.rem_euclid(case.shape.len() as isize));
    let lengths: Vec<usize> = sorted.into_iter().map(|axis| case.length(axis)).collect();
    stateless(case, over(&axes, &lengths), &semantics)
}

fn group(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Group)?;
    let channels = case.length(semantics.channel_axis);
    let groups = case.given("groups").and_then(Value::as_i64).expect("a number of groups");
    stateless(case, GroupNormConfig::signed(groups as isize, channels)?, &semantics)
}

fn instance(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Instance)?;
    let channels = case.length(semantics.channel_axis);
    let config = InstanceNormConfig::new(channels);
    if !semantics.running_statistics {
        return stateless(case, config, &semantics);
    }
    let mut layer = config.semantics(&semantics).init()?.track(semantics.momentum)?;
    set_parameters(case, &mut layer, &AFFINE);
    set_running(case, &mut layer);
    let step = |step: Step| {
        layer.train(step.mode() == "train");
        let mut results = pass(&mut layer, &step, &AFFINE)?;
        if step.mode() != "train" {
            results.insert("y", wide(layer.infer(step.tensor("x"))?));
        }
        results.extend(running(&layer));
        Ok(results)
    };
    case.steps().map(step).collect()
}

/// The running averages of a layer.
pub fn running<R: Rule>(layer: &Norm<R>) -> Results {
    let running = layer.running.as_ref().expect("running averages");
    Results::from([("running_mean", flat(&running.mean)), ("running_var", flat(&running.variance))])
}

/// Gives the layer the running averages of the case, where they are not 0 and 1 at first.
fn set_running<R: Rule>(case: &Case, layer: &mut Norm<R>) {
    let running = layer.running.as_mut().expect("running averages");
    for (name, table) in
        [("running_mean", &mut running.mean), ("running_var", &mut running.variance)]
    {
        if let Some(values) = case.state(name) {
            *table = ArrayD::from_shape_vec(table.raw_dim(), values).expect("one a channel");
        }
    }
}

fn batch(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Batch)?;
    let config = match case.given("axis").filter(|axis| axis.is_array()).map(axes) {
        Some(axes) => {
            let lengths: Vec<usize> = axes.iter().map(|&axis| case.length(axis)).collect();
            BatchNormConfig::over(&axes, &lengths)
        }
        None => BatchNormConfig::new(case.length(semantics.channel_axis)),
    };
    let mut layer = config.semantics(&semantics).init()?;
    set_parameters(case, &mut layer, &AFFINE);
    if semantics.running_statistics {
        set_running(case, &mut layer);
    }
    if case.given("frozen").is_some() {
        layer.freeze(semantics.frozen);
    }
    let step = |step: Step| {
        layer.train(step.mode() == "train");
        if case.given("use_running").is_some() {
            layer.mode = Mode::inference();
        }
        let mut results = pass(&mut layer, &step, &AFFINE)?;
        if semantics.running_statistics {
            results.extend(running(&layer));
        }
        Ok(results)
    };
    case.steps().map(step).collect()
}

/// With a threshold for each element of a sample.
fn tlu(case: &Case) -> Result<Vec<Results>, Error> {
    let (axes, lengths): (Vec<isize>, Vec<usize>) =
        (1..).zip(case.shape[1..].iter().copied()).unzip();
    let mut layer = TluConfig::over(&axes, &lengths).affine(case.has_parameter("alpha")).init()?;
    layer.tau = case.parameter("tau", &lengths);
    layer.alpha = layer.alpha.map(|_| case.parameter("alpha", &lengths));
    let step = |step: Step| {
        let x = step.tensor("x");
        let y = layer.forward(x.view())?;
        let TluGradients { dx, dtau, dalpha } =
            layer.backward(x.view(), step.tensor("dy").view())?;
        let mut results =
            Results::from([("y", wide(y)), ("dx", wide(dx)), ("dtau", dtau.into_iter().collect())]);
        results.extend(dalpha.map(|array| ("dalpha", array.into_iter().collect())));
        Ok(results)
    };
    case.steps().map(step).collect()
}

pub fn axes(value: &Value) -> Vec<isize> {
    match value.as_array() {
        Some(axes) => axes.iter().map(|axis| axis.as_i64().expect("an axis") as isize).collect(),
        None => vec![value.as_i64().expect("an axis") as isize],
    }
}
