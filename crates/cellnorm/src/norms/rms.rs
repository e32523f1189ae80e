//! RMS normalization: the features of one sample are divided by their root mean square.
//!
//! y = γ x / √(mean(x²) + ε) + β; there is no β unless asked for. The same in training and in
//! inference.
//!
//! Source: B. Zhang, R. Sennrich, *Root Mean Square Layer Normalization*, 2019. ε is 1e-5;
//! `torch.nn.RMSNorm` of PyTorch 2 uses 1.19e-7 where none is given, Keras 3 1e-6.

use super::axes::HasChannels;
use super::{Features, OverFeatures};
use crate::error::Error;
use crate::normalization::Normalization;
use crate::rule::{Norm, NormConfig, ParameterSpec, Rule};
use crate::shape::{Centering, Roles};

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

impl From<Features> for Rms {
    fn from(features: Features) -> Self {
        Self(features)
    }
}

impl OverFeatures for Rms {}

impl HasChannels for Rms {}

impl Rule for Rms {
    const NAME: &'static str = "RMS normalization";
    const FORMULA: &'static str = "y = γ x / √(mean(x²) + ε)";
    const CENTERING: Centering = Centering::Zero;
    const CENTER: bool = false;
    const NORMALIZATION: Option<Normalization> = Some(Normalization::Rms);

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&self.0.parameter_shape())
    }

    fn check(&self) -> Result<(), Error> {
        self.0.check()
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        self.0.channel_axis_mut()
    }

    fn roles(&self, shape: &[usize], affine: bool) -> Result<Option<Roles>, Error> {
        self.0.roles(Self::NAME, shape, affine).map(Some)
    }
}
