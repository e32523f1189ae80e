//! Batch-instance normalization: a gate for each channel blends the two results.
//!
//! y = γ (ρ (x − mean_c) r_c + (1 − ρ) (x − mean_{n,c}) r_{n,c}) + β, with r = 1/√(variance + ε)
//! and ρ kept in \[0, 1\].
//!
//! ρ = 1 is batch normalization, ρ = 0 instance normalization. The gate is trained: where style
//! matters it goes toward 1.
//!
//! Source: H. Nam, H.-E. Kim, *Batch-Instance Normalization for Adaptively Style-Invariant Neural
//! Networks*, 2018; ρ starts at 1 as in the authors' code.

use super::axes::{HasChannels, batch_sharing, instance_sharing, sample_and_channel};
use crate::rule::{Coefficients, Context, Norm, NormConfig, ParameterSpec, Rule, Table};
use crate::{error::Error, shape::Sharing};

/// A gate ρ for each channel blends batch and instance normalization.
#[derive(Clone, Debug)]
pub struct BatchInstance {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
}

/// Batch-instance normalization of tensors \[N, C, …\]; parameters gamma, beta and rho, \[C\] each.
///
/// A gate outside \[0, 1\] counts as the nearer bound, and its gradient still flows, so that an
/// optimizer can bring it back.
///
/// ```
/// use cellnorm::{BatchNormConfig, InstanceNormConfig, norms::BatchInstanceNormConfig};
/// let x = ndarray::Array3::from_shape_fn((4, 2, 5), |(n, c, s)| {
///     ((7 * n + 3 * c + s * s) % 11) as f64
/// });
/// let mut layer = BatchInstanceNormConfig::new(2).init()?;
/// let (y, _) = layer.forward(x.view())?;
/// let (batch, _) = BatchNormConfig::new(2).init()?.forward(x.view())?;
/// assert!((y - batch).iter().all(|d| d.abs() < 1e-12));
/// layer.parameter_mut("rho").unwrap().fill(0.0);
/// let (y, _) = layer.forward(x.view())?;
/// let instance = InstanceNormConfig::new(2).init()?.infer(x.view())?;
/// assert!((y - instance).iter().all(|d| d.abs() < 1e-12));
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type BatchInstanceNorm = Norm<BatchInstance>;

/// Makes a [`BatchInstanceNorm`].
pub type BatchInstanceNormConfig = NormConfig<BatchInstance>;

impl NormConfig<BatchInstance> {
    /// `channels` channels on axis 1.
    pub fn new(channels: usize) -> Self {
        Self::custom(BatchInstance { channels, channel_axis: 1 })
    }
}

impl HasChannels for BatchInstance {}

impl Rule for BatchInstance {
    const NAME: &'static str = "batch-instance normalization";
    const FORMULA: &'static str =
        "y = γ (ρ x̂_batch + (1 − ρ) x̂_instance) + β,  x̂ = (x − mean) / √(variance + ε)";

    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut slots = ParameterSpec::affine(&[self.channels]);
        slots.push(ParameterSpec::new("rho", &[self.channels], 1.0));
        slots
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.channels], 1.0))
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        Ok(vec![batch_sharing(shape, channel), instance_sharing(shape, channel)])
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let (channel, instance) = (&cells.sets[0], &cells.sets[1]);
        let rho = context.always("rho");
        let bounded = rho.clone() + (rho.clone().clamp(0.0, 1.0) - rho.clone()).detach();
        let gate = bounded.take(channel);
        let batch_sharing = context.statistics(0).take(channel);
        let instance = cells.merge(1).take(instance);
        let [batch, own] = [(gate.clone(), batch_sharing), (gate.times(-1.0).plus(1.0), instance)]
            .map(|(gate, of)| {
                let scale = gate * context.rstd(of.variance);
                (scale.clone(), scale * (cells.center.clone() - of.mean))
            });
        context.affine(batch.0 + own.0, batch.1 + own.1, channel)
    }
}
