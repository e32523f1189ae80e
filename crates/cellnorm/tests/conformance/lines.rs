//! The layers that divide by a size, without statistics and without parameters.

use cellnorm::{
    Error,
    norms::{LocalResponseNormConfig, LpNormConfig},
};
use ndarray::{ArrayD, ArrayViewD};

use crate::case::{Case, Step};
use crate::layers::{Results, axes, wide};

pub fn unit(case: &Case) -> Result<Vec<Results>, Error> {
    let axes = case.given("axis").map(axes).expect("axes");
    let config = LpNormConfig::preset(case.text("preset"), &axes)?;
    let layer = config.p(case.number("p").unwrap_or(2.0)).init()?;
    run(case, |x| layer.forward(x), |x, dy| layer.backward(x, dy))
}

pub fn local_response(case: &Case) -> Result<Vec<Results>, Error> {
    let size = case.number("size").expect("a size") as usize;
    let mut config = LocalResponseNormConfig::preset(case.text("preset"), size)?;
    if let Some(alpha) = case.number("alpha") {
        config = config.alpha(alpha);
    }
    if let Some(beta) = case.number("beta") {
        config = config.beta(beta);
    }
    if let Some(bias) = case.number("k") {
        config = config.bias(bias);
    }
    let layer = config.init()?;
    run(case, |x| layer.forward(x), |x, dy| layer.backward(x, dy))
}

fn run(
    case: &Case,
    forward: impl Fn(ArrayViewD<'_, f32>) -> Result<ArrayD<f32>, Error>,
    backward: impl Fn(ArrayViewD<'_, f32>, ArrayViewD<'_, f32>) -> Result<ArrayD<f32>, Error>,
) -> Result<Vec<Results>, Error> {
    let step = |step: Step| {
        let (x, dy) = (step.tensor("x"), step.tensor("dy"));
        Ok(Results::from([
            ("y", wide(forward(x.view())?)),
            ("dx", wide(backward(x.view(), dy.view())?)),
        ]))
    };
    case.steps().map(step).collect()
}
