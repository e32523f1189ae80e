//! Normalizations of weights: a weight is a tensor too, and its outputs are its channels.
//!
//! | normalization | w | source |
//! |---|---|---|
//! | [`WeightNorm`] | g v / ‖v‖ | T. Salimans, D. P. Kingma, 2016 |
//! | [`SpectralNorm`] | v / σ(v), the largest singular value | T. Miyato et al., 2018 |
//! | [`WeightStandardization`] | (v − mean) / √(variance + ε) of each output | S. Qiao et al., 2019 |
//!
//! All except [`SpectralNorm`], which keeps its weight itself, are rules of [rules](crate::rule):
//! `forward` makes the weight w that the network uses from the trained v, and `backward` takes
//! ∂L/∂w to ∂L/∂v and the parameters' gradients; `infer` makes a weight to ship.

mod power_iteration;
mod spectral;
mod standardization;
mod weight_norm;

pub use power_iteration::Iteration;
pub use spectral::{SpectralNorm, SpectralNormConfig, SpectralWeight};
pub use standardization::{Standardization, WeightStandardization, WeightStandardizationConfig};
pub use weight_norm::{WeightDirection, WeightNorm, WeightNormConfig};
