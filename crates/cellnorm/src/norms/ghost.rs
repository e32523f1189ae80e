//! Ghost batch normalization: a large batch is normalized in small parts.
//!
//! y = γ (x − mean_{g,c}) / √(variance_{g,c} + ε) + β, where g numbers the parts of `size` samples
//! that the batch is cut into. The running statistics move once a step, toward the mean over the
//! parts of their means and of their variances.
//!
//! One part is batch normalization. Small parts keep the noise that makes small batches generalize.
//!
//! Source: E. Hoffer, I. Hubara, D. Soudry, *Train longer, generalize better*, 2017; Keras 2 calls
//! it `virtual_batch_size`.

use super::axes::{HasChannels, batch_sharing, cell_channels, sample_and_channel};
use crate::error::{Error, check_number};
use crate::rule::{
    Coefficients, Context, Grid, Norm, NormConfig, ParameterSpec, Rule, Table, Tracked,
};
use crate::semantics::Semantics;
use crate::shape::{Along, Labels, Sharing};

/// The samples of one part of the batch share statistics, channel by channel.
#[derive(Clone, Debug)]
pub struct Ghost {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
    /// The number of samples of a part; the last part holds the rest.
    pub size: usize,
    /// Whether a part takes every so many-th sample, as in Keras 2, instead of neighbours.
    pub interleaved: bool,
}

/// Ghost batch normalization of tensors \[N, C, …\]; parameters gamma and beta, \[C\].
///
/// ```
/// use cellnorm::{BatchNormConfig, norms::GhostBatchNormConfig};
/// use ndarray::{Array2, s};
/// let x = Array2::from_shape_fn((6, 3), |(n, c)| ((5 * n + c * c) % 7) as f64);
/// let (y, _) = GhostBatchNormConfig::new(3, 2).init()?.forward(x.view())?;
/// let (part, _) = BatchNormConfig::new(3).init()?.forward(x.slice(s![2..4, ..]))?;
/// assert!((&y.slice(s![2..4, ..]) - &part).iter().all(|d| d.abs() < 1e-12));
/// // one part is batch normalization
/// let (whole, _) = GhostBatchNormConfig::new(3, 6).init()?.forward(x.view())?;
/// let (batch, _) = BatchNormConfig::new(3).init()?.forward(x.view())?;
/// assert!((whole - batch).iter().all(|d| d.abs() < 1e-12));
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type GhostBatchNorm = Norm<Ghost>;

/// Makes a [`GhostBatchNorm`].
pub type GhostBatchNormConfig = NormConfig<Ghost>;

impl NormConfig<Ghost> {
    /// `channels` channels on axis 1, in parts of `size` samples.
    pub fn new(channels: usize, size: usize) -> Self {
        Self::custom(Ghost { channels, channel_axis: 1, size, interleaved: false })
    }

    /// Whether a part takes every so many-th sample, as in tf.keras 2, whose semantics set it, not
    /// neighbours. Default: false.
    pub fn interleaved(mut self, interleaved: bool) -> Self {
        self.rule.interleaved = interleaved;
        self
    }
}

impl HasChannels for Ghost {}

impl Rule for Ghost {
    const NAME: &'static str = "ghost batch normalization";

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&[self.channels])
    }

    fn check(&self) -> Result<(), Error> {
        check_number("the size of a part", self.size as f64, self.size > 0, "at least 1")
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.channels], 1.0))
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    /// Whether their framework has this layer; the parts are interleaved where its parts are.
    fn described(semantics: &Semantics) -> bool {
        semantics.ghost_interleaved.is_some()
    }

    fn adopt(&mut self, semantics: &Semantics) {
        self.channel_axis = semantics.channel_axis;
        self.interleaved = semantics.ghost_interleaved.unwrap_or(self.interleaved);
    }

    /// Interleaved parts are as many and as large as the blocks that stand for them here.
    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        let mut parts = batch_sharing(shape, channel);
        parts.along[0] = Along::Blocks(self.size);
        Ok(vec![parts])
    }

    fn sets(&self, grid: &Grid<'_>) -> Result<Vec<Labels>, Error> {
        let parts = grid.shape[0].div_ceil(self.size);
        let part = |sample| {
            if self.interleaved { sample % parts } else { sample / self.size }
        };
        let samples = grid.labels(|axis| axis == 0).map(parts, part);
        Ok(vec![samples.and(&cell_channels(grid, self.channel_axis))])
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let channel = cell_channels(&cells.grid, self.channel_axis);
        let statistics = match context.batch {
            true => cells.merge(0).take(&cells.sets[0]),
            false => context.statistics(0).take(&channel),
        };
        context.standardize(statistics, &channel)
    }

    fn tracked<V: Table>(&self, context: &Context<'_, V>) -> Option<Tracked<V>> {
        let cells = context.cells;
        let channel = |set| (set % self.channels) as u32;
        let channels = (0..cells.sets[0].count()).map(channel).collect();
        Some(Tracked::merged(cells, 0).mean_by(&Labels::new(channels, self.channels)))
    }
}
