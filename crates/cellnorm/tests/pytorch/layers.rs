//! A case taken through Cellnorm: the layer it asks for, step by step.

use crate::cases::Case;
use cellnorm::{
    BatchNormConfig, Error, Gradients, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Momentum, RmsNormConfig,
    RunningVariance,
};
use ndarray::{Array1, ArrayD};

/// What one step of a layer gives.
pub struct Outcome {
    y: ArrayD<f32>,
    dx: ArrayD<f32>,
    dgamma: Option<ArrayD<f64>>,
    dbeta: Option<ArrayD<f64>>,
    running: Option<(Array1<f64>, Array1<f64>)>,
}

impl Outcome {
    pub fn get(&self, quantity: &str) -> Option<Vec<f64>> {
        let wide = |array: &ArrayD<f32>| array.iter().map(|&v| f64::from(v)).collect();
        let flat = |array: &ArrayD<f64>| array.iter().copied().collect();
        match quantity {
            "y" => Some(wide(&self.y)),
            "dx" => Some(wide(&self.dx)),
            "dgamma" => self.dgamma.as_ref().map(flat),
            "dbeta" => self.dbeta.as_ref().map(flat),
            "running_mean" => self.running.as_ref().map(|(mean, _)| mean.to_vec()),
            "running_var" => self.running.as_ref().map(|(_, var)| var.to_vec()),
            _ => unreachable!("no quantity {quantity}"),
        }
    }
}

/// Forward and backward; each layer has its own type of saved statistics, hence a macro.
macro_rules! pass {
    ($layer:ident.$forward:ident, $step:ident) => {{
        let (y, saved) = $layer.$forward($step.x.view())?;
        let Gradients { dx, dgamma, dbeta } = $layer.backward(&saved, $step.x.view(), $step.dy.clone())?;
        Outcome { y, dx, dgamma, dbeta, running: None }
    }};
}

/// The steps of a layer that has no state between them.
macro_rules! stateless {
    ($config:expr, $case:ident, $parameter_shape:expr) => {{
        let (gamma, beta) = $case.parameters($parameter_shape);
        let mut layer =
            $config.epsilon($case.number("epsilon")).scale(gamma.is_some()).center(beta.is_some()).init()?;
        (layer.gamma, layer.beta) = (gamma, beta);
        $case.steps().map(|step| Ok(pass!(layer.forward, step))).collect()
    }};
}

pub fn run(case: &Case) -> Result<Vec<Outcome>, Error> {
    match case.text("layer") {
        "batch" => run_batch(case),
        "layer" => {
            let normalized = case.normalized_shape();
            stateless!(LayerNormConfig::new(normalized), case, normalized)
        }
        "rms" => {
            let normalized = case.normalized_shape();
            stateless!(RmsNormConfig::new(normalized), case, normalized)
        }
        "group" => {
            let (channels, groups) = (case.channels(), case.number("groups") as usize);
            let config = GroupNormConfig::new(groups, channels).channel_axis(case.channel_axis());
            stateless!(config, case, &[channels])
        }
        "instance" => {
            let channels = case.channels();
            let config = InstanceNormConfig::new(channels).channel_axis(case.channel_axis());
            stateless!(config, case, &[channels])
        }
        other => unreachable!("no layer {other}"),
    }
}

fn run_batch(case: &Case) -> Result<Vec<Outcome>, Error> {
    let channels = case.channels();
    let (gamma, beta) = case.parameters(&[channels]);
    let mut layer = BatchNormConfig::new(channels)
        .channel_axis(case.channel_axis())
        .epsilon(case.number("epsilon"))
        .momentum(Momentum::Step(case.number("momentum")))
        .running_variance(RunningVariance::Unbiased)
        .scale(gamma.is_some())
        .center(beta.is_some())
        .init()?;
    (layer.gamma, layer.beta) = (gamma, beta);
    case.steps()
        .map(|step| {
            let outcome = match step.mode {
                "train" => pass!(layer.forward, step),
                "eval" => pass!(layer.forward_fixed, step),
                other => unreachable!("no mode {other}"),
            };
            let running = Some((layer.running_mean.clone(), layer.running_var.clone()));
            Ok(Outcome { running, ..outcome })
        })
        .collect()
}
