//! The names under which frameworks store parameters and statistics.

use super::Semantics;
use crate::normalization::Normalization;

/// The names of γ, β, the running mean and variance, and the number of steps.
///
/// Layers without running statistics have names for them, too: those that the framework uses
/// elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterNames {
    /// γ.
    pub gamma: &'static str,
    /// β.
    pub beta: &'static str,
    /// The running mean.
    pub mean: &'static str,
    /// The running variance.
    pub variance: &'static str,
    /// The number of training steps, where it is stored.
    pub steps: Option<&'static str>,
}

impl ParameterNames {
    const fn new(
        gamma: &'static str,
        beta: &'static str,
        mean: &'static str,
        variance: &'static str,
    ) -> Self {
        Self { gamma, beta, mean, variance, steps: None }
    }

    pub(super) const PYTORCH: Self = Self {
        steps: Some("num_batches_tracked"),
        ..Self::new("weight", "bias", "running_mean", "running_var")
    };
    pub(super) const CANDLE: Self = Self::new("weight", "bias", "running_mean", "running_var");
    pub(super) const KERAS: Self = Self::new("gamma", "beta", "moving_mean", "moving_variance");
    pub(super) const KERAS_RMS: Self = Self { gamma: "scale", ..Self::KERAS };
    /// The symbol operator; Gluon's blocks have running statistics instead.
    pub(super) const MXNET: Self = Self::new("gamma", "beta", "moving_mean", "moving_var");
    pub(super) const GLUON: Self = Self::new("gamma", "beta", "running_mean", "running_var");
    pub(super) const FLAX: Self = Self::new("scale", "bias", "mean", "var");
    pub(super) const BURN: Self = Self::GLUON;
    pub(super) const ONNX: Self = Self::new("scale", "B", "input_mean", "input_var");
    /// Batch normalization before opset 14.
    pub(super) const ONNX_BATCH_1: Self = Self { mean: "mean", variance: "var", ..Self::ONNX };
    pub(super) const ONNX_LAYER: Self = Self { gamma: "Scale", ..Self::ONNX };
    pub(super) const ONNX_GROUP: Self = Self { beta: "bias", ..Self::ONNX };
}

impl Semantics {
    /// The name of each tensor that layers store; `None` where this framework does not store it.
    pub(super) fn names(&self) -> [(&'static str, Option<&'static str>); 5] {
        let ParameterNames { gamma, beta, mean, variance, steps } = self.names;
        let running = |name| Some(name).filter(|_| self.normalization == Normalization::Batch);
        [
            ("names.gamma", Some(gamma)),
            ("names.beta", Some(beta)),
            ("names.mean", running(mean)),
            ("names.variance", running(variance)),
            ("names.steps", steps.and_then(running)),
        ]
    }
}
