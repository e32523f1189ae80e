//! RMS normalization with a gain stored as γ − 1, as Gemma's models have it.
//!
//! y = (1 + g) x / √(mean(x²) + ε), with the stored gain g for each element; there is no β unless
//! asked for. A gain of 0 is plain RMS normalization, so that weight decay pulls γ toward 1.
//!
//! Source: `GemmaRMSNorm` of Hugging Face Transformers 4, ε = 1e-6; Gemma Team, *Gemma: Open Models
//! Based on Gemini Research and Technology*, 2024.

use super::Features;
use super::features::over_features;
use crate::rule::{Norm, NormConfig};
use crate::shape::Centering;

/// The features of one sample share a mean square; the gain is stored as γ − 1.
#[derive(Clone, Debug)]
pub struct GemmaRms(pub Features);

/// RMS normalization with a gain stored as γ − 1; the parameter gamma is the stored one.
///
/// ```
/// use cellnorm::norms::{GemmaRmsNormConfig, RmsNormConfig};
/// let x = ndarray::array![[3.0_f64, 4.0, 0.0, 0.0]];
/// let mut layer = GemmaRmsNormConfig::new(&[4]).init()?;
/// let rms = RmsNormConfig::new(&[4]).epsilon(1e-6).init()?;
/// assert_eq!(layer.infer(x.view())?, rms.infer(x.view())?);
/// layer.gamma.as_mut().unwrap().fill(1.0); // γ = 2
/// assert_eq!(layer.infer(x.view())?, rms.infer(x.view())? * 2.0);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type GemmaRmsNorm = Norm<GemmaRms>;

/// Makes a [`GemmaRmsNorm`].
pub type GemmaRmsNormConfig = NormConfig<GemmaRms>;

over_features! {
    GemmaRms:
    const NAME: &'static str = "Gemma RMS normalization";
    const FORMULA: &'static str = "y = (1 + gamma) x / √(mean(x²) + ε)";
    const EPSILON: f64 = 1e-6;
    const CENTER: bool = false;
    const CENTERING: Centering = Centering::Zero;
    const GAMMA_OFFSET: f64 = 1.0;
}
