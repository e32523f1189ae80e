//! The five layers behind one type.

use super::{Numbers, Spec, Which, averages};
use cellnorm::{
    BatchNorm, BatchNormConfig, Element, Error, GroupNorm, GroupNormConfig, InstanceNorm,
    InstanceNormConfig, LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig,
    rule::{Gradients, Saved},
};
use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};

/// γ, β and running statistics, as long as the layer wants them.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub gamma: Vec<f64>,
    pub beta: Vec<f64>,
    pub running_mean: Vec<f64>,
    pub running_var: Vec<f64>,
}

impl Parameters {
    /// Random ones for values around `mean`.
    pub fn random(spec: &Spec, numbers: &mut Numbers, mean: f64) -> Self {
        let (count, channels) = (spec.parameters(), spec.channels());
        Self {
            gamma: (0..count).map(|_| 1.0 + 0.5 * numbers.normal()).collect(),
            beta: (0..count).map(|_| numbers.normal()).collect(),
            running_mean: (0..channels).map(|_| mean + 0.3 * numbers.normal()).collect(),
            running_var: (0..channels).map(|_| 0.5 + numbers.uniform()).collect(),
        }
    }
}

/// One of the layers.
#[derive(Clone, Debug)]
pub enum AnyLayer {
    Batch(BatchNorm),
    Fixed(BatchNorm),
    Layer(LayerNorm),
    Instance(InstanceNorm),
    Group(GroupNorm),
    Rms(RmsNorm),
}

/// All that a layer computes.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    pub y: ArrayD<T>,
    pub dx: ArrayD<T>,
    pub dgamma: Option<ArrayD<f64>>,
    pub dbeta: Option<ArrayD<f64>>,
    pub saved: Saved,
}

/// Runs the same expression on whichever layer it is.
macro_rules! each {
    ($any:expr, $layer:ident => $run:expr) => {
        match $any {
            AnyLayer::Batch($layer) | AnyLayer::Fixed($layer) => $run,
            AnyLayer::Layer($layer) => $run,
            AnyLayer::Instance($layer) => $run,
            AnyLayer::Group($layer) => $run,
            AnyLayer::Rms($layer) => $run,
        }
    };
}

impl AnyLayer {
    pub fn new(spec: &Spec, parameters: &Parameters) -> Result<Self, Error> {
        macro_rules! layer {
            ($config:expr) => {{
                let mut layer =
                    $config.epsilon(spec.epsilon).scale(spec.scale).center(spec.center).init()?;
                for (array, values) in
                    [(&mut layer.gamma, &parameters.gamma), (&mut layer.beta, &parameters.beta)]
                {
                    if let Some(array) = array {
                        *array = ArrayD::from_shape_vec(array.raw_dim(), values.clone()).unwrap();
                    }
                }
                layer
            }};
        }
        let (channels, axis) = (spec.channels(), if spec.channels_last { -1 } else { 1 });
        let lengths: Vec<usize> =
            spec.element_axes().unwrap_or_default().iter().map(|axis| spec.shape[*axis]).collect();
        Ok(match &spec.which {
            Which::Batch { fixed } => {
                let mut layer = layer!(BatchNormConfig::new(channels).channel_axis(axis));
                layer.running = Some(averages(&parameters.running_mean, &parameters.running_var));
                if *fixed { Self::Fixed(layer) } else { Self::Batch(layer) }
            }
            Which::LayerLast(_) => Self::Layer(layer!(LayerNormConfig::new(&lengths))),
            Which::LayerOver(axes) => Self::Layer(layer!(LayerNormConfig::over(axes, &lengths))),
            Which::LayerPerChannel => {
                Self::Layer(layer!(LayerNormConfig::per_channel(channels).channel_axis(axis)))
            }
            Which::Instance => {
                Self::Instance(layer!(InstanceNormConfig::new(channels).channel_axis(axis)))
            }
            Which::Group(groups) => {
                Self::Group(layer!(GroupNormConfig::new(*groups, channels).channel_axis(axis)))
            }
            Which::RmsLast(_) => Self::Rms(layer!(RmsNormConfig::new(&lengths))),
            Which::RmsOver(axes) => Self::Rms(layer!(RmsNormConfig::over(axes, &lengths))),
            Which::RmsPerChannel => {
                Self::Rms(layer!(RmsNormConfig::per_channel(channels).channel_axis(axis)))
            }
        })
    }

    /// Training, except where the statistics are fixed.
    pub fn forward<T: Element>(
        &mut self,
        x: ArrayViewD<'_, T>,
    ) -> Result<(ArrayD<T>, Saved), Error> {
        if let Self::Fixed(layer) = self {
            return layer.forward_fixed(x);
        }
        each!(self, layer => layer.forward(x))
    }

    pub fn infer<'a, T: Element>(
        &self,
        x: impl Into<CowArray<'a, T, IxDyn>>,
    ) -> Result<ArrayD<T>, Error> {
        each!(self, layer => layer.infer(x))
    }

    pub fn backward<'a, T: Element>(
        &self,
        saved: &Saved,
        x: ArrayViewD<'_, T>,
        dy: impl Into<CowArray<'a, T, IxDyn>>,
    ) -> Result<Gradients<T, IxDyn>, Error> {
        each!(self, layer => layer.backward(saved, x, dy))
    }

    /// Forward and backward.
    pub fn run<T: Element>(
        &mut self,
        x: ArrayViewD<'_, T>,
        dy: ArrayViewD<'_, T>,
    ) -> Result<Outcome<T>, Error> {
        let (y, saved) = self.forward(x.view())?;
        let Gradients { dx, dgamma, dbeta, .. } = self.backward(&saved, x, dy)?;
        Ok(Outcome { y, dx, dgamma, dbeta, saved })
    }
}
