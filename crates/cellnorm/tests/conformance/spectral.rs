//! Spectral normalization of a weight.

use cellnorm::Error;
use cellnorm::weights::SpectralNormConfig;
use ndarray::Array1;

use crate::case::{Case, Step};
use crate::layers::Results;

pub fn run(case: &Case) -> Result<Vec<Results>, Error> {
    let weight = case.steps().next().expect("a step").tensor("x").mapv(f64::from);
    let v = case.state("v");
    let config = SpectralNormConfig::preset(case.text("preset"))?
        .axis(case.number("axis").expect("the axis of the rows") as isize)
        .iterations(case.number("power_iterations").unwrap_or(1.0) as usize);
    let mut layer = config.init(weight)?;
    layer.u = Array1::from_vec(case.state("u").expect("the left singular vector"));
    let remembers_v = v.map(|v| layer.v = Array1::from_vec(v)).is_some();
    let step = |step: Step| {
        layer.weight = step.tensor("x").mapv(f64::from);
        let normalized = if step.mode() == "train" { layer.forward()? } else { layer.infer()? };
        let mut results = Results::from([("u", layer.u.to_vec())]);
        if remembers_v {
            results.insert("v", layer.v.to_vec());
        }
        if step.has_gradient() {
            let dx = normalized.backward(step.tensor("dy").mapv(f64::from).view())?;
            results.insert("dx", dx.into_iter().collect());
        }
        results.insert("y", normalized.weight.into_iter().collect());
        Ok(results)
    };
    case.steps().map(step).collect()
}
