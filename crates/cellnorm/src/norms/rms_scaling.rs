//! Scaling by the standard deviation: the features of one sample are divided by it, and keep their
//! mean.
//!
//! y = γ x / √(variance_n + ε), with the variance about the mean; there is no β unless asked for.
//! The same in training and in inference. Where the mean is 0 this is RMS normalization.
//!
//! Source: `LayerNormalization(rms_scaling=True)` of Keras 3, which is not
//! [`RmsNorm`](crate::RmsNorm) in spite of its name. ε is 1e-3 there; the semantics of its layer
//! normalization say so, and there is a γ and no β whatever they say. Its checkpoints are read by
//! `Semantics { center: false, ..keras_layer }`.

use super::Features;
use super::axes::HasChannels;
use super::features::OverFeatures;
use crate::error::Error;
use crate::normalization::Normalization;
use crate::rule::{Coefficients, Context, Norm, NormConfig, ParameterSpec, Rule, Table};
use crate::semantics::Semantics;
use crate::shape::{Measure, Roles, Sharing};

/// The features of one sample share a variance, and keep their mean.
#[derive(Clone, Debug)]
pub struct RmsScaling(pub Features);

/// Scaling by the standard deviation, over the last axes, any axes, or all features.
///
/// ```
/// use cellnorm::{Normalization, Semantics, norms::RmsScalingNormConfig};
/// let keras = Semantics::preset("keras-3", Normalization::Layer)?;
/// let layer = RmsScalingNormConfig::new(&[2]).semantics(&keras).epsilon(1e-12);
/// // the standard deviation is 1
/// let y = layer.init()?.infer(ndarray::array![[4.0_f64, 6.0]])?;
/// assert!((y[[0, 0]] - 4.0).abs() < 1e-9 && (y[[0, 1]] - 6.0).abs() < 1e-9);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type RmsScalingNorm = Norm<RmsScaling>;

/// Makes a [`RmsScalingNorm`].
pub type RmsScalingNormConfig = NormConfig<RmsScaling>;

impl RmsScaling {
    fn axes(&self, shape: &[usize], affine: bool) -> Result<Roles, Error> {
        self.0.roles(Self::NAME, shape, affine)
    }
}

impl From<Features> for RmsScaling {
    fn from(features: Features) -> Self {
        Self(features)
    }
}

impl OverFeatures for RmsScaling {}

impl HasChannels for RmsScaling {}

impl Rule for RmsScaling {
    const NAME: &'static str = "RMS-scaled layer normalization";
    const FORMULA: &'static str = "y = γ x / √(variance + ε)";
    const CENTER: bool = false;
    const NORMALIZATION: Option<Normalization> = Some(Normalization::Layer);

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&self.0.parameter_shape())
    }

    fn check(&self) -> Result<(), Error> {
        self.0.check()
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        self.0.channel_axis_mut()
    }

    /// Keras ignores `scale` and `center` here.
    fn learned(_semantics: &Semantics) -> [bool; 2] {
        [true, false]
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let along = self.axes(shape, true)?.along(shape);
        Ok(vec![Sharing {
            name: "layer",
            measure: Measure::MeanVariance,
            shape: shape.to_vec(),
            along,
        }])
    }

    fn cell_axes(&self, shape: &[usize], affine: bool) -> Result<Vec<bool>, Error> {
        Ok(self.axes(shape, affine)?.cell_axes())
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let affine = ["gamma", "beta"].iter().any(|name| context.parameter(name).is_some());
        let roles = self.axes(cells.grid.shape, affine).expect("checked with the sharings");
        let channels = cells.grid.labels(|axis| roles.carries(axis));
        let r = context.rstd(cells.merge(0).variance.take(&cells.sets[0]));
        context.affine(r.clone(), r * cells.center.clone(), &channels)
    }
}
