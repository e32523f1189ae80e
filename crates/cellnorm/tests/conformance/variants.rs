//! Variants of batch normalization, and the layers with other parameters.

use cellnorm::rule::{Norm, Rule};
use cellnorm::weights::WeightNormConfig;
use cellnorm::{
    Error, Momentum, Normalization,
    norms::{BatchRenormConfig, FilterResponseNormConfig, GhostBatchNormConfig},
};

use crate::case::{Case, Step};
use crate::layers::{AFFINE, Name, Results, flat, pass, running, set_parameters};

pub fn ghost(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Batch)?;
    let size = case.number("virtual_batch_size").expect("a size of the parts") as usize;
    let config =
        GhostBatchNormConfig::new(case.length(semantics.channel_axis), size).semantics(&semantics);
    run(case, config.init()?, &AFFINE, running)
}

pub fn renorm(case: &Case) -> Result<Vec<Results>, Error> {
    let semantics = case.semantics(Normalization::Batch)?;
    let bound = |name| case.given("renorm_clipping").and_then(|bounds| bounds.get(name)?.as_f64());
    let [r_min, r_max, d_max] = ["rmin", "rmax", "dmax"].map(bound);
    let config = BatchRenormConfig::new(case.length(semantics.channel_axis));
    let mut config = config.semantics(&semantics).clipping(r_min, r_max, d_max);
    if let Some(momentum) = case.number("renorm_momentum") {
        config = config.correction_momentum(Momentum::Keep(momentum));
    }
    run(case, config.init()?, &AFFINE, |layer| {
        let inference = layer.running.as_ref().expect("running averages");
        let correction =
            layer.correction.as_ref().map_or(inference, |correction| &correction.averages);
        let deviation = flat(&inference.variance);
        let variance = deviation
            .iter()
            .map(|deviation| (deviation * deviation - layer.epsilon).max(0.0))
            .collect();
        Results::from([
            ("running_mean", flat(&inference.mean)),
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
    let mut config = FilterResponseNormConfig::preset(case.text("preset"), case.length(axis))?
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
    mut layer: Norm<R>,
    names: &[Name],
    remembered: impl Fn(&Norm<R>) -> Results,
) -> Result<Vec<Results>, Error> {
    let given: Vec<Name> =
        names.iter().filter(|(_, theirs, _)| case.has_parameter(theirs)).copied().collect();
    set_parameters(case, &mut layer, &given);
    let step = |step: Step| {
        layer.train(step.mode() == "train");
        let mut results = pass(&mut layer, &step, names)?;
        results.extend(remembered(&layer));
        Ok(results)
    };
    case.steps().map(step).collect()
}
