//! The layers, with Burn's names and records.

mod batch;
mod features;
mod group;
mod instance;
mod layer;
mod rms;

pub use batch::{BatchNorm, BatchNormConfig, RunningVariance};
pub use features::Features;
pub use group::{GroupNorm, GroupNormConfig};
pub use instance::{InstanceNorm, InstanceNormConfig};
pub use layer::{LayerNorm, LayerNormConfig};
pub use rms::{RmsNorm, RmsNormConfig};

use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

/// γ and β as a layer holds them.
type Parameter = Option<Param<Tensor<1>>>;

/// γ and β for `len` channels, where they are wanted.
fn parameters(len: usize, wanted: [bool; 2], initializers: [&Initializer; 2], device: &Device) -> [Parameter; 2] {
    std::array::from_fn(|i| wanted[i].then(|| initializers[i].init([len], device)))
}

fn value(parameter: &Parameter) -> Option<Tensor<1>> {
    parameter.as_ref().map(|parameter| parameter.val())
}

/// # Panics
/// If ε is not finite and at least 1e-36.
pub(crate) fn check_epsilon(epsilon: f64) {
    if let Err(error) = cellnorm::check_epsilon(epsilon) {
        panic!("{error}");
    }
}
