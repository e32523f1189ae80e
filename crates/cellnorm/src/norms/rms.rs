//! RMS normalization: the features of one sample are divided by their root mean square.
//!
//! y = γ x / √(mean(x²) + ε) + β, the same in training and inference; β only where asked for.
//!
//! Source: B. Zhang, R. Sennrich, *Root Mean Square Layer Normalization*, 2019. ε is 1e-5;
//! `torch.nn.RMSNorm` of PyTorch 2 uses 1.19e-7 where none is given, Keras 3 1e-6.

use super::Features;
use super::features::over_features;
use crate::rule::{Norm, NormConfig};
use crate::{normalization::Normalization, shape::Centering};

/// The features of one sample share a mean square.
#[derive(Clone, Debug)]
pub struct Rms(pub Features);

/// RMS normalization over the last axes, any axes, or all features.
///
/// ```
/// use cellnorm::RmsNormConfig;
/// let x = ndarray::array![[3.0_f64, 4.0, 0.0, 0.0]];
/// let y = RmsNormConfig::new(&[4]).epsilon(1e-12).init()?.infer(x.view())?;
/// assert!((y[[0, 0]] - 1.2).abs() < 1e-9 && (y[[0, 1]] - 1.6).abs() < 1e-9);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type RmsNorm = Norm<Rms>;

/// Makes a [`RmsNorm`].
pub type RmsNormConfig = NormConfig<Rms>;

over_features! {
    Rms:
    const NAME: &'static str = "RMS normalization";
    const FORMULA: &'static str = "y = γ x / √(mean(x²) + ε)";
    const CENTERING: Centering = Centering::Zero;
    const CENTER: bool = false;
    const NORMALIZATION: Option<Normalization> = Some(Normalization::Rms);
}
