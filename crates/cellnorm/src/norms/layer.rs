//! Layer normalization: the features of a sample, along any axes, share a mean and a variance.
//!
//! y = γ (x − mean_n) / √(variance_n + ε) + β. γ and β have a value for each element of the
//! normalized axes (transformers, Keras `axis=[1, 2, 3]`) or for each channel. The same in training
//! and in inference.
//!
//! Source: J. L. Ba, J. R. Kiros, G. E. Hinton, *Layer Normalization*, 2016. Defaults as
//! `torch.nn.LayerNorm` of PyTorch 2.

use super::Features;
use super::features::over_features;
use crate::normalization::Normalization;
use crate::rule::{Norm, NormConfig};

/// The features of one sample share statistics.
#[derive(Clone, Debug)]
pub struct Layer(pub Features);

/// Layer normalization over the last axes, any axes, or all features.
///
/// ```
/// use cellnorm::LayerNormConfig;
/// use ndarray::Array3;
/// // two time steps of four channels
/// let x = Array3::from_shape_fn((1, 2, 4), |(_, t, c)| (10 * t + c) as f32);
/// let y = LayerNormConfig::new(&[4]).init()?.infer(x.view())?;
/// assert!((y[[0, 0, 3]] - 1.34164).abs() < 1e-4);
/// assert!((y[[0, 1, 3]] - y[[0, 0, 3]]).abs() < 1e-6);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type LayerNorm = Norm<Layer>;

/// Makes a [`LayerNorm`].
pub type LayerNormConfig = NormConfig<Layer>;

over_features! {
    Layer:
    const NAME: &'static str = "layer normalization";
    const NORMALIZATION: Option<Normalization> = Some(Normalization::Layer);
}
