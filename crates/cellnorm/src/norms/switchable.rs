//! Switchable normalization: two softmaxes weigh instance, layer and batch statistics.
//!
//! mean = Σ_k a_k mean_k, variance = Σ_k b_k variance_k, y = γ (x − mean) / √(variance + ε) + β,
//! where k runs over instance, layer and batch, a = softmax(mean_weight) and b =
//! softmax(variance_weight), each of three.
//!
//! Source: P. Luo, J. Ren, Z. Peng, R. Zhang, J. Li, *Differentiable Learning-to-Normalize via
//! Switchable Normalization*, 2018; weights start equal, in the order of the authors' code. That
//! code takes instance variances over n − 1 and makes those of layer and batch of them; here, as in
//! the paper, all are over n, unless [`authors_code`](NormConfig::authors_code) says otherwise.

use super::axes::{HasChannels, batch_sharing, instance_sharing, sample_and_channel};
use crate::error::Error;
use crate::momentum::RunningVariance;
use crate::rule::{
    CellTables, Coefficients, Context, Norm, NormConfig, ParameterSpec, Rule, Statistics, Table,
    Tracked,
};
use crate::shape::{Labels, Measure, Sharing};

/// Learned weights blend the statistics of instance, layer and batch normalization.
#[derive(Clone, Debug)]
pub struct Switchable {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
    /// Whether it is as the authors' code has it: instance variances are over n − 1, those of layer
    /// and batch are made of these, and the running variance starts at 0.
    pub authors_code: bool,
}

/// Switchable normalization of tensors \[N, C, …\]; parameters gamma and beta, \[C\], mean_weight
/// and variance_weight, \[3\]: instance, layer, batch.
///
/// ```
/// use cellnorm::{InstanceNormConfig, norms::SwitchableNormConfig};
/// let x = ndarray::Array3::from_shape_fn((4, 2, 5), |(n, c, s)| {
///     ((7 * n + 3 * c + s * s) % 11) as f32
/// });
/// let mut layer = SwitchableNormConfig::new(2).init()?;
/// let (y, saved) = layer.forward(x.view())?;
/// let gradients = layer.backward(&saved, x.view(), y.mapv(f32::sin))?;
/// // a softmax only knows differences of its weights
/// assert!(gradients.parameter("mean_weight").unwrap().sum().abs() < 1e-12);
/// // all weight on the first is instance normalization
/// for name in ["mean_weight", "variance_weight"] {
///     layer.parameter_mut(name).unwrap()[0] = 100.0;
/// }
/// let instance = InstanceNormConfig::new(2).init()?.infer(x.view())?;
/// assert!((layer.infer(x.view())? - instance).iter().all(|d| d.abs() < 1e-6));
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type SwitchableNorm = Norm<Switchable>;

/// Makes a [`SwitchableNorm`].
pub type SwitchableNormConfig = NormConfig<Switchable>;

impl NormConfig<Switchable> {
    /// `channels` channels on axis 1.
    pub fn new(channels: usize) -> Self {
        Self::custom(Switchable { channels, channel_axis: 1, authors_code: false })
    }

    /// As the authors' code has it rather than their paper: with v = Σ (x − mean)² / (n − 1) for
    /// each instance, the layer's and the batch's variances are the means of v + mean², less their
    /// mean squared. An instance of one value is an error in training, and ranks do not share the
    /// batch's statistics. Default: false. [`preset`](SwitchableNormConfig::preset) sets the rest
    /// of that code.
    pub fn authors_code(mut self, authors_code: bool) -> Self {
        self.rule.authors_code = authors_code;
        self
    }
}

/// Each of three weights' share, for each cell.
fn softmax<V: Table>(weights: &V, cells: usize) -> [V; 3] {
    let all = Labels::new(vec![0; 3], 1);
    // less the largest, so that no power overflows: max(a, b) = (a + b + |a − b|) / 2
    let [a, b, c] = [0, 1, 2].map(|k| weights.clone().detach().take(&Labels::new(vec![k; 3], 3)));
    let max = |a: V, b: V| (a.clone() + b.clone() + (a - b).abs()).times(0.5);
    let powers = (weights.clone() - max(max(a, b), c)).exp();
    let shares = powers.clone() / powers.sum(&all).take(&all);
    [0, 1, 2].map(|k| shares.take(&Labels::new(vec![k; cells], 3)))
}

impl Switchable {
    /// The cells with the variances that the statistics are made of.
    fn cells<'a, V: Table>(&self, cells: &CellTables<'a, V>) -> CellTables<'a, V> {
        let mut cells = cells.clone();
        if self.authors_code {
            let factor = |n: &f64| RunningVariance::Unbiased.factor(*n, 0.0);
            let factors = cells.grid.counts.iter().map(factor).collect();
            cells.variance = cells.variance * cells.center.constant(factors);
        }
        cells
    }
}

impl HasChannels for Switchable {}

impl Rule for Switchable {
    const NAME: &'static str = "switchable normalization";
    const FORMULA: &'static str = "y = γ (x − Σ a_k mean_k) / √(Σ b_k variance_k + ε) + β,  a and \
                                   b a softmax of three weights each";

    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut slots = ParameterSpec::affine(&[self.channels]);
        slots.extend(
            ["mean_weight", "variance_weight"].map(|name| ParameterSpec::new(name, &[3], 1.0)),
        );
        slots
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.channels], if self.authors_code { 0.0 } else { 1.0 }))
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        let layer = Sharing::over("layer", Measure::MeanVariance, shape, |axis| axis == 0);
        Ok(vec![instance_sharing(shape, channel), layer, batch_sharing(shape, channel)])
    }

    fn variance_sharing(&self) -> Option<usize> {
        Some(if self.authors_code { 0 } else { 2 })
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = &self.cells(context.cells);
        let context = &Context { cells, ..context.clone() };
        let [cell, sample, channel] = [0, 1, 2].map(|k| &cells.sets[k]);
        let weights = |name| softmax(context.always(name), cells.grid.counts.len());
        let [mean_i, mean_l, mean_b] = weights("mean_weight");
        let [variance_i, variance_l, variance_b] = weights("variance_weight");
        let instance = cells.merge(0).take(cell);
        let layer = cells.merge(1).take(sample);
        let batch = context.statistics(2).take(channel);
        let mean = mean_i * instance.mean + mean_l * layer.mean + mean_b * batch.mean;
        let variance = variance_i * instance.variance
            + variance_l * layer.variance
            + variance_b * batch.variance;
        context.standardize(Statistics { mean, variance }, channel)
    }

    fn tracked<V: Table>(&self, context: &Context<'_, V>) -> Option<Tracked<V>> {
        Some(Tracked::merged(&self.cells(context.cells), 2))
    }

    fn exchanges(&self, _shape: &[usize], batch: bool) -> bool {
        batch && !self.authors_code
    }
}
