//! Batch-instance normalization: a gate for each channel blends the batch's and the instance's
//! result.
//!
//! y = γ (ρ (x − mean_c) r_c + (1 − ρ) (x − mean_{n,c}) r_{n,c}) + β, with r = 1/√(variance + ε)
//! and ρ kept in \[0, 1\].
//!
//! ρ = 1 is batch normalization, ρ = 0 instance normalization. The gate is trained: where style
//! matters it goes toward 1.
//!
//! Source: H. Nam, H.-E. Kim, *Batch-Instance Normalization for Adaptively Style-Invariant Neural
//! Networks*, 2018; ρ starts at 1 as in the authors' code.

use super::axes::{HasChannels, of_batch, of_instances, sample_and_channel};
use crate::error::Error;
use crate::semantics::Semantics;
use crate::tables::{
    Coefficients, Figure, Given, Rule, Sharing, Slot, Table, TableNorm, TableNormConfig, Tracked,
};

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
/// use cellnorm::{BatchInstanceNormConfig, BatchNormConfig, InstanceNormConfig};
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
pub type BatchInstanceNorm = TableNorm<BatchInstance>;

/// Makes a [`BatchInstanceNorm`].
pub type BatchInstanceNormConfig = TableNormConfig<BatchInstance>;

impl TableNormConfig<BatchInstance> {
    /// `channels` channels on axis 1.
    pub fn new(channels: usize) -> Self {
        Self::of(BatchInstance { channels, channel_axis: 1 })
    }
}

impl HasChannels for BatchInstance {
    fn channel_axis_mut(&mut self) -> &mut isize {
        &mut self.channel_axis
    }
}

impl Rule for BatchInstance {
    const NAME: &'static str = "batch-instance normalization";
    const FORMULA: &'static str =
        "y = γ (ρ x̂_batch + (1 − ρ) x̂_instance) + β,  x̂ = (x − mean) / √(variance + ε)";

    fn slots(&self) -> Vec<Slot> {
        let mut slots = Slot::affine(&[self.channels]);
        slots.push(Slot::new("rho", &[self.channels], 1.0));
        slots
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.channels], 1.0))
    }

    fn adopt(&mut self, semantics: &Semantics) {
        self.channel_axis = semantics.channel_axis;
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        Ok(vec![of_batch(shape, channel), of_instances(shape, channel)])
    }

    fn estimated(&self) -> Option<usize> {
        Some(0)
    }

    fn table<V: Table>(&self, figure: &Figure<'_, V>, given: &Given<'_, V>) -> Coefficients<V> {
        let (channel, instance) = (&figure.sets[0], &figure.sets[1]);
        let rho = given.parameter("rho").expect("a slot that is always there");
        let bounded = rho.clone() + (rho.clone().clamp(0.0, 1.0) - rho.clone()).detach();
        let gate = bounded.take(channel);
        let of_batch = given.statistics(figure, channel).take(channel);
        let of_instance = figure.merge(instance).take(instance);
        let [batch, own] = [(gate.clone(), of_batch), (gate.times(-1.0).plus(1.0), of_instance)]
            .map(|(gate, of)| {
                let scale = gate * given.rstd(of.variance);
                (scale.clone(), scale * (figure.center.clone() - of.mean))
            });
        given.affine(batch.0 + own.0, batch.1 + own.1, channel)
    }

    fn tracked<V: Table>(
        &self,
        figure: &Figure<'_, V>,
        _given: &Given<'_, V>,
    ) -> Option<Tracked<V>> {
        Some(Tracked::merged(figure, &figure.sets[0]))
    }
}
