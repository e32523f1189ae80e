//! Normalizations of a layer's weights instead of its activations.

mod spectral;

pub use spectral::{SpectralNorm, SpectralNormConfig, SpectralWeight};
