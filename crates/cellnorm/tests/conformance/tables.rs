//! The layers that are rules on small tables.

use cellnorm::tables::{Rule, TableNorm};
use cellnorm::weights::WeightNormConfig;
use cellnorm::{
    AxesBatchNormConfig, BatchRenormConfig, Error, FilterResponseNormConfig, GhostBatchNormConfig,
    Momentum, Normalization,
};
use ndarray::ArrayD;

use crate::case::{Case, Step};
use crate::layers::{Results, axes, wide};

/// A parameter as Cellnorm and as the file call it, and its gradient in the file.
type Name = (&'static str, &'static str, &'static str);

const AFFINE: [Name; 2] = [("gamma", "gamma", "dgamma"), ("beta", "beta", "dbeta")];

pub fn ghost(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Batch)?;
    let size = case.number("virtual_batch_size").expect("a size of the parts") as usize;
    let config =
        GhostBatchNormConfig::new(case.length(semantics.channel_axis), size).semantics(&semantics);
    let interleaved = case.given("interleaved").is_some_and(|interleaved| interleaved == true);
    run(case, config.interleaved(interleaved).init()?, &AFFINE, running_statistics)
}

pub fn batch_over_axes(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Batch)?;
    let axes = case.given("axis").map(axes).expect("axes");
    let lengths: Vec<usize> = axes.iter().map(|&axis| case.length(axis)).collect();
    let config = AxesBatchNormConfig::new(&axes, &lengths).semantics(&semantics);
    run(case, config.init()?, &AFFINE, running_statistics)
}

fn running_statistics<R: Rule>(layer: &TableNorm<R>) -> Results {
    let running = layer.running.as_ref().expect("running statistics");
    Results::from([("running_mean", flat(&running.mean)), ("running_var", flat(&running.variance))])
}

fn flat(table: &ArrayD<f64>) -> Vec<f64> {
    table.iter().copied().collect()
}

pub fn renorm(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Batch)?;
    let bound = |name| case.given("renorm_clipping").and_then(|bounds| bounds.get(name)?.as_f64());
    let [r_max, d_max] = ["rmax", "dmax"].map(|name| bound(name).unwrap_or(f64::INFINITY));
    assert_eq!(bound("rmin").unwrap_or(0.0), 1.0 / r_max, "one bound for r and 1 / r");
    let config = BatchRenormConfig::new(case.length(semantics.channel_axis));
    let mut config = config.semantics(&semantics).bounds(r_max, d_max);
    if let Some(momentum) = case.number("renorm_momentum") {
        config = config.correction_momentum(Momentum::Keep(momentum));
    }
    run(case, config.init()?, &AFFINE, |layer| {
        let running = layer.running.as_ref().expect("running averages");
        let correction =
            layer.correction.as_ref().map_or(running, |correction| &correction.averages);
        let deviation = flat(&running.variance);
        let variance = deviation
            .iter()
            .map(|deviation| (deviation * deviation - layer.epsilon).max(0.0))
            .collect();
        Results::from([
            ("running_mean", flat(&running.mean)),
            ("running_var", variance),
            ("moving_stddev", deviation),
            ("renorm_mean", flat(&correction.mean)),
            ("renorm_stddev", flat(&correction.variance)),
        ])
    })
}

pub fn filter_response(case: &Case) -> Result<Vec<Results>, Error> {
    let axis = case.number("axis").expect("a channel axis") as isize;
    let learned = case.given("learned_epsilon").is_some_and(|learned| learned == true);
    let mut config = FilterResponseNormConfig::new(case.length(axis))
        .channel_axis(axis)
        .learned_epsilon(learned);
    if let Some(epsilon) = case.number("epsilon") {
        config = config.epsilon(epsilon);
    }
    let names = [AFFINE[0], AFFINE[1], ("learned_epsilon", "learned_epsilon", "dlearned_epsilon")];
    run(case, config.init()?, &names, |_| Results::new())
}

pub fn weight_norm(case: &Case) -> Result<Vec<Results>, Error> {
    let first = case.steps().next().expect("a step").tensor("x");
    let axis = case.number("axis").map(|axis| axis as isize);
    let mut layer = WeightNormConfig::of_weight(first.view(), axis)?;
    if case.has_parameter("gamma") {
        return run(case, layer, &[("g", "gamma", "dgamma")], |_| Results::new());
    }
    layer.parameter_mut("g").expect("a parameter that is always there").fill(1.0);
    run(case, layer, &[], |_| Results::new())
}

/// Each step of a case, with the parameters that the file has, and what the layer remembers after
/// it.
fn run<R: Rule>(
    case: &Case,
    mut layer: TableNorm<R>,
    names: &[Name],
    remembered: impl Fn(&TableNorm<R>) -> Results,
) -> Result<Vec<Results>, Error> {
    for (ours, theirs, _) in names {
        if let Some(parameter) = layer.parameter_mut(ours).filter(|_| case.has_parameter(theirs)) {
            *parameter = case.parameter(theirs, parameter.shape());
        }
    }
    let step = |step: Step| {
        layer.train(step.mode() == "train");
        let (x, dy) = (step.tensor("x"), step.tensor("dy"));
        let (y, saved) = layer.forward(x.view())?;
        let gradients = layer.backward(&saved, x.view(), dy)?;
        let mut results = remembered(&layer);
        for (ours, _, gradient) in names {
            results.extend(
                gradients.parameter(ours).map(|array| (*gradient, array.iter().copied().collect())),
            );
        }
        results.extend([("y", wide(y)), ("dx", wide(gradients.dx))]);
        Ok(results)
    };
    case.steps().map(step).collect()
}
