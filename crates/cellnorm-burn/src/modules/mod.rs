//! The layers, with Burn's names and records.

mod batch;
mod features;
mod group;
mod instance;
mod layer;
mod rms;
mod rules;

pub use batch::{BatchNorm, BatchNormConfig, RunningVariance};
pub use features::Features;
pub use group::{GroupNorm, GroupNormConfig};
pub use instance::{InstanceNorm, InstanceNormConfig};
pub use layer::{LayerNorm, LayerNormConfig};
pub use rms::{RmsNorm, RmsNormConfig};
pub use rules::{
    BatchInstanceNorm, BatchRenorm, FilterResponseNorm, GhostBatchNorm, MeanVarianceNorm, StepBatchNorm, SwitchableNorm,
};

use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

/// γ and β as a layer holds them.
type Parameter = Option<Param<Tensor<1>>>;

/// γ = 1 and β = 0 for `len` channels, where they are wanted.
fn parameters(len: usize, scale: bool, center: bool, device: &Device) -> (Parameter, Parameter) {
    let parameter = |wanted: bool, value: Initializer| wanted.then(|| value.init([len], device));
    (parameter(scale, Initializer::Ones), parameter(center, Initializer::Zeros))
}

fn value(parameter: &Parameter) -> Option<Tensor<1>> {
    parameter.as_ref().map(|parameter| parameter.val())
}

/// # Panics
/// If ε is not finite and at least 1e-36.
fn check_epsilon(epsilon: f64) {
    if let Err(error) = cellnorm::check_epsilon(epsilon) {
        panic!("{error}");
    }
}
