//! Graph normalization: instance normalization that learns how much of the mean to take away.
//!
//! y = γ (x − α mean_{n,c}) / √(mean of (x − α mean_{n,c})² + ε) + β over the nodes of a graph,
//! with a share α for each channel; since x − mean has mean 0, the mean of squares is variance + (1
//! − α)² mean².
//!
//! α = 1 is instance normalization. A mean can hold what tells one graph from another (the degree
//! of a regular graph), and then α goes toward 0.
//!
//! Source: T. Cai, S. Luo, K. Xu, D. He, T.-Y. Liu, L. Wang, *GraphNorm: A Principled Approach to
//! Accelerating Graph Neural Network Training*, 2021; names and α = 1 at first as `GraphNorm` of
//! PyTorch Geometric 2.

use super::axes::{HasChannels, cell_channels, instance_sharing, sample_and_channel};
use crate::rule::{
    Coefficients, Context, Norm, NormConfig, ParameterSpec, Rule, Statistics, Table,
};
use crate::{error::Error, shape::Sharing};

/// A share of the mean for each channel of each sample.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
}

/// Graph normalization of tensors \[N, C, nodes\]; parameters gamma, beta, mean_scale (α), \[C\].
///
/// With graphs of different sizes, give [`Mask::lengths`](crate::Mask::lengths).
///
/// ```
/// use cellnorm::{InstanceNormConfig, norms::GraphNormConfig};
/// let x = ndarray::Array3::from_shape_fn((4, 2, 5), |(n, c, s)| {
///     ((7 * n + 3 * c + s * s) % 11) as f64
/// });
/// let mut layer = GraphNormConfig::new(2).init()?;
/// let instance = InstanceNormConfig::new(2).init()?.infer(x.view())?;
/// assert!((layer.infer(x.view())? - instance).iter().all(|d| d.abs() < 1e-12));
/// // nothing taken away: each channel of each graph is divided by its root mean square
/// layer.parameter_mut("mean_scale").unwrap().fill(0.0);
/// let square = layer.infer(x.view())?.mapv(|y| y * y).sum() / x.len() as f64;
/// assert!((square - 1.0).abs() < 1e-5);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type GraphNorm = Norm<Graph>;

/// Makes a [`GraphNorm`].
pub type GraphNormConfig = NormConfig<Graph>;

impl NormConfig<Graph> {
    /// `channels` channels on axis 1, ε = 1e-5.
    pub fn new(channels: usize) -> Self {
        Self::custom(Graph { channels, channel_axis: 1 })
    }
}

impl HasChannels for Graph {}

impl Rule for Graph {
    const NAME: &'static str = "graph normalization";
    const FORMULA: &'static str = "y = γ (x − α mean) / √(mean((x − α mean)²) + ε) + β";

    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut slots = ParameterSpec::affine(&[self.channels]);
        slots.push(ParameterSpec::new("mean_scale", &[self.channels], 1.0));
        slots
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        Ok(vec![instance_sharing(shape, channel)])
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let channel = cell_channels(&cells.grid, self.channel_axis);
        let alpha = context.always("mean_scale").take(&channel);
        let Statistics { mean, variance } = cells.merge(0).take(&cells.sets[0]);
        let taken = alpha * mean.clone();
        let left = mean - taken.clone();
        let variance = variance + left.clone() * left;
        context.standardize(Statistics { mean: taken, variance }, &channel)
    }
}
