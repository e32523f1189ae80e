//! ONNX's normalization operators as Cellnorm's layers: attributes with their defaults, and what
//! opsets changed.

use cellnorm::rule::Running;
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Momentum,
    Normalization, RmsNormConfig, RunningVariance, Semantics,
    norms::{Floor, LocalResponseNormConfig, LpNormConfig, MeanVarianceNormConfig, Window},
};
use ndarray::{ArrayD, IxDyn};

use crate::case::Case;

pub const OPERATORS: [&str; 8] = [
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "MeanVarianceNormalization",
    "LpNormalization",
    "LRN",
];

/// The outputs of the case's operator for its inputs.
pub fn run(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    match case.node.op_type.as_str() {
        "BatchNormalization" => batch(case),
        "InstanceNormalization" => instance(case),
        "GroupNormalization" => group(case),
        "LayerNormalization" => layer(case),
        "RMSNormalization" => rms(case),
        "MeanVarianceNormalization" => mean_variance(case),
        "LpNormalization" => lp(case),
        "LRN" => local_response(case),
        other => unreachable!("no operator {other}"),
    }
}

fn wide(y: ArrayD<f32>) -> ArrayD<f64> {
    y.mapv(f64::from)
}

fn epsilon(case: &Case) -> f64 {
    case.float("epsilon", 1e-5)
}

/// Training is what `training_mode` says; it came with opset 14, and `momentum` alone (since 1)
/// does not mean it.
fn batch(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    let x = &case.inputs[0];
    let mut layer = BatchNormConfig::new(x.shape()[1])
        .epsilon(epsilon(case))
        .momentum(Momentum::Keep(case.float("momentum", 0.9)))
        .running_variance(RunningVariance::Biased)
        .init()?;
    (layer.gamma, layer.beta) = (case.parameter(1), case.parameter(2));
    let running = |input| case.parameter(input).expect("running statistics are inputs");
    layer.running = Some(Running { mean: running(3), variance: running(4) });
    if case.int("training_mode", 0) == 0 {
        return Ok(vec![wide(layer.infer(x.view())?)]);
    }
    let (y, _) = layer.forward(x.view())?;
    let Running { mean, variance } = layer.running.expect("running statistics");
    Ok(vec![wide(y), mean, variance])
}

fn instance(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    let x = &case.inputs[0];
    let mut layer = InstanceNormConfig::new(x.shape()[1]).epsilon(epsilon(case)).init()?;
    (layer.gamma, layer.beta) = (case.parameter(1), case.parameter(2));
    Ok(vec![wide(layer.infer(x.view())?)])
}

/// Scale and bias have a value for each channel since opset 21; before, for each group.
fn group(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    let x = &case.inputs[0];
    let (channels, groups) = (x.shape()[1], case.int("num_groups", 0) as usize);
    // the operator's semantics at its opset say what gamma and beta belong to
    let semantics = Semantics::preset(&format!("onnx-{}", case.opset), Normalization::Group)?;
    let config = GroupNormConfig::new(groups, channels).semantics(&semantics);
    let mut layer = config.epsilon(epsilon(case)).init()?;
    (layer.gamma, layer.beta) = (case.parameter(1), case.parameter(2));
    Ok(vec![wide(layer.infer(x.view())?)])
}

/// The shape of the axes from `axis` (default −1) on, and that of the statistics: those axes with
/// length 1.
fn normalized_shape(case: &Case) -> (Vec<usize>, Vec<usize>) {
    let shape = case.inputs[0].shape();
    let axis = case.int("axis", -1).rem_euclid(shape.len() as i64) as usize;
    let mut statistics = shape.to_vec();
    statistics[axis..].fill(1);
    (shape[axis..].to_vec(), statistics)
}

/// Scale and bias broadcast to the normalized shape.
fn broadcast(parameter: Option<ArrayD<f64>>, shape: &[usize]) -> Option<ArrayD<f64>> {
    Some(parameter?.broadcast(shape).expect("broadcasts to the normalized shape").to_owned())
}

/// Y, and with it Mean and InvStdDev.
fn layer(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    let (normalized, statistics) = normalized_shape(case);
    let mut layer = LayerNormConfig::new(&normalized).epsilon(epsilon(case)).init()?;
    layer.gamma = broadcast(case.parameter(1), &normalized);
    layer.beta = broadcast(case.parameter(2), &normalized);
    let (y, saved) = layer.forward(case.inputs[0].view())?;
    let table = |values| {
        ArrayD::from_shape_vec(IxDyn(&statistics), values).expect("a statistic for each set")
    };
    let inv_std_dev =
        table(saved.statistics.variance).mapv(|variance| 1.0 / (variance + epsilon(case)).sqrt());
    Ok(vec![wide(y), table(saved.statistics.mean), inv_std_dev])
}

fn rms(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    let (normalized, _) = normalized_shape(case);
    let mut layer = RmsNormConfig::new(&normalized).epsilon(epsilon(case)).init()?;
    layer.gamma = broadcast(case.parameter(1), &normalized);
    Ok(vec![wide(layer.infer(case.inputs[0].view())?)])
}

fn mean_variance(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    let axes: Vec<isize> =
        case.ints("axes", &[0, 2, 3]).into_iter().map(|axis| axis as isize).collect();
    Ok(vec![wide(MeanVarianceNormConfig::new(&axes).init()?.infer(case.inputs[0].view())?)])
}

fn lp(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    let (axis, p) = (case.int("axis", -1) as isize, case.int("p", 2) as f64);
    let layer = LpNormConfig::new(&[axis]).p(p).floor(Floor::None).init()?;
    Ok(vec![wide(layer.forward(case.inputs[0].view())?)])
}

fn local_response(case: &Case) -> Result<Vec<ArrayD<f64>>, Error> {
    let layer = LocalResponseNormConfig::new(case.int("size", 0) as usize)
        .alpha(case.float("alpha", 1e-4))
        .beta(case.float("beta", 0.75))
        .bias(case.float("bias", 1.0))
        .window(Window::Right)
        .init()?;
    Ok(vec![wide(layer.forward(case.inputs[0].view())?)])
}
