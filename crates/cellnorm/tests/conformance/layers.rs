//! A case taken through Cellnorm: the layer that its preset and its arguments ask for, step by
//! step.

use std::collections::BTreeMap;

use cellnorm::norms::{Kind, NormConfig, OverFeatures};
use cellnorm::tables::Mask;
use cellnorm::{
    BatchNormConfig, Error, Gradients, GroupNormConfig, GroupParameters, InstanceNormConfig,
    LayerNormConfig, Mode, Normalization, RmsNormConfig, Semantics, StatisticsFrom, TluConfig,
    TluGradients,
};
use ndarray::{Array1, ArrayD};
use serde_json::Value;

use crate::case::{Case, Step};
use crate::{lines, spectral, tables};

/// The results of a step by name.
pub type Results = BTreeMap<&'static str, Vec<f64>>;

/// The results of each step.
pub fn run(case: &Case) -> Result<Vec<Results>, Error> {
    match case.text("layer") {
        "batch" if case.given("axis").is_some_and(Value::is_array) => tables::batch_over_axes(case),
        "batch" => batch(case),
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
        "renorm" => tables::renorm(case),
        "ghost" => tables::ghost(case),
        "filter_response" => tables::filter_response(case),
        "weight_norm" => tables::weight_norm(case),
        "unit" => lines::unit(case),
        "local_response" => lines::local_response(case),
        "tlu" => tlu(case),
        "spectral_norm" => spectral::run(case),
        other => unreachable!("no layer {other}"),
    }
}

/// Forward and backward; each layer has its own type of saved statistics, hence a macro.
macro_rules! pass {
    ($layer:ident, $step:expr) => {
        pass!($layer, $step, |x, mask| match mask {
            Some(mask) => $layer.forward_masked(x, &Mask::new(mask.view())),
            None => $layer.forward(x),
        })
    };
    ($layer:ident, $step:expr, |$x:ident, $mask:ident| $forward:expr) => {{
        let (x, dy) = ($step.tensor("x"), $step.tensor("dy"));
        let (y, saved) = {
            let ($x, $mask) = (x.view(), $step.mask());
            $forward?
        };
        let Gradients { dx, dgamma, dbeta } = $layer.backward(&saved, x.view(), dy)?;
        let mut results = Results::from([("y", wide(y)), ("dx", wide(dx))]);
        results.extend(dgamma.map(|array| ("dgamma", array.into_iter().collect())));
        results.extend(dbeta.map(|array| ("dbeta", array.into_iter().collect())));
        results
    }};
}

pub fn wide(array: ArrayD<f32>) -> Vec<f64> {
    array.into_iter().map(f64::from).collect()
}

/// γ and β of a case, where the semantics have them.
fn parameters(
    case: &Case,
    semantics: &Semantics,
    shape: &[usize],
) -> (Option<ArrayD<f64>>, Option<ArrayD<f64>>) {
    let read = |there: bool, name| there.then(|| case.parameter(name, shape));
    (read(semantics.scale, "gamma"), read(semantics.center, "beta"))
}

/// A layer that has no state between steps.
fn stateless<K: Kind>(
    case: &Case,
    config: NormConfig<K>,
    semantics: &Semantics,
    shape: &[usize],
) -> Result<Vec<Results>, Error> {
    let mut layer = config.semantics(semantics).init()?;
    (layer.gamma, layer.beta) = parameters(case, semantics, shape);
    let step = |step: Step| Ok(pass!(layer, step));
    case.steps().map(step).collect()
}

fn features<K: OverFeatures>(
    case: &Case,
    normalization: Normalization,
    over: fn(&[isize], &[usize]) -> NormConfig<K>,
    per_channel: fn(usize) -> NormConfig<K>,
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
        return stateless(case, per_channel(channels), &semantics, &[channels]);
    }
    let lengths: Vec<usize> = axes.iter().map(|&axis| case.length(axis)).collect();
    stateless(case, over(&axes, &lengths), &semantics, &lengths)
}

fn group(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Group)?;
    let channels = case.length(semantics.channel_axis);
    let groups = case.given("groups").and_then(Value::as_i64).expect("a number of groups");
    // Keras writes −1 for a group a channel.
    let groups = usize::try_from(groups).unwrap_or(channels);
    let shape = match semantics.group_parameters {
        GroupParameters::PerChannel => channels,
        GroupParameters::PerGroup => groups,
    };
    stateless(case, GroupNormConfig::new(groups, channels), &semantics, &[shape])
}

fn instance(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Instance)?;
    let channels = case.length(semantics.channel_axis);
    let config = InstanceNormConfig::new(channels);
    if case.given("track_running_stats").is_none_or(|tracks| tracks == false) {
        return stateless(case, config, &semantics, &[channels]);
    }
    let mut layer = config.semantics(&semantics).init()?.track(semantics.momentum);
    (layer.norm.gamma, layer.norm.beta) = parameters(case, &semantics, &[channels]);
    remembered(case, &mut layer.running_mean, &mut layer.running_var);
    let step = |step: Step| {
        let mut results = match step.mode() {
            "train" => pass!(layer, step, |x, _mask| layer.forward(x)),
            _ => {
                // With running statistics it is batch normalization, which has the gradients of
                // inference.
                let config = BatchNormConfig::new(channels).epsilon(layer.norm.epsilon);
                let mut fixed = config.channel_axis(semantics.channel_axis).init()?;
                (fixed.gamma, fixed.beta) = (layer.norm.gamma.clone(), layer.norm.beta.clone());
                (fixed.running_mean, fixed.running_var) =
                    (layer.running_mean.clone(), layer.running_var.clone());
                fixed.mode = Mode::inference();
                let mut results = pass!(fixed, step);
                let y = layer.infer(step.tensor("x"))?;
                results.insert("y", wide(y));
                results
            }
        };
        results.insert("running_mean", layer.running_mean.to_vec());
        results.insert("running_var", layer.running_var.to_vec());
        Ok(results)
    };
    case.steps().map(step).collect()
}

/// Running statistics that are not 0 and 1 at first.
fn remembered(case: &Case, mean: &mut Array1<f64>, variance: &mut Array1<f64>) {
    for (name, value) in [("running_mean", mean), ("running_var", variance)] {
        if let Some(state) = case.state(name) {
            *value = Array1::from_vec(state);
        }
    }
}

fn batch(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Batch)?;
    let channels = case.length(semantics.channel_axis);
    let mut layer = BatchNormConfig::new(channels).semantics(&semantics).init()?;
    (layer.gamma, layer.beta) = parameters(case, &semantics, &[channels]);
    remembered(case, &mut layer.running_mean, &mut layer.running_var);
    if case.given("frozen").is_some() {
        layer.freeze(semantics.frozen);
    }
    let tracks = case.given("track_running_stats").is_none_or(|tracks| tracks == true);
    let step = |step: Step| {
        layer.train(step.mode() == "train");
        if case.given("use_running").is_some() {
            layer.mode = Mode::inference();
        }
        if !tracks {
            layer.mode =
                Mode { statistics: StatisticsFrom::Batch, update: false, train_parameters: true };
        }
        let mut results = pass!(layer, step);
        if tracks {
            results.insert("running_mean", layer.running_mean.to_vec());
            results.insert("running_var", layer.running_var.to_vec());
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
