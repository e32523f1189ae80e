//! Spectral normalization of a weight.

use cellnorm::Error;
use cellnorm::weights::SpectralNormConfig;
use ndarray::Array1;

use crate::case::{Case, Step};
use crate::layers::{Results, Run};

pub fn run(case: &Case) -> Result<Run, Error> {
    let (Some(u), Some(v)) = (case.state("u"), case.state("v")) else {
        return Ok(Run::NotYet("spectral normalization that remembers u alone"));
    };
    let weight = case.steps().next().expect("a step").tensor("x").mapv(f64::from);
    let axis = case.number("axis").expect("the axis of the rows") as isize;
    let iterations = case.number("power_iterations").unwrap_or(1.0) as usize;
    let mut layer = SpectralNormConfig::default().axis(axis).iterations(iterations).init(weight)?;
    (layer.u, layer.v) = (Array1::from_vec(u), Array1::from_vec(v));
    let step = |step: Step| {
        let normalized = if step.mode() == "train" { layer.forward()? } else { layer.infer()? };
        let dx = normalized.backward(step.tensor("dy").mapv(f64::from).view())?;
        Ok(Results::from([
            ("y", normalized.weight.into_iter().collect()),
            ("dx", dx.into_iter().collect()),
            ("u", layer.u.to_vec()),
            ("v", layer.v.to_vec()),
        ]))
    };
    case.steps().map(step).collect::<Result<_, Error>>().map(Run::Done)
}
