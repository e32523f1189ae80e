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

use super::axes::{HasChannels, channels_of, of_batch, sample_and_channel, samples_of};
use crate::error::Error;
use crate::semantics::Semantics;
use crate::tables::{
    Along, Coefficients, Figure, Given, Labels, Rule, Sharing, Slot, Table, TableNorm,
    TableNormConfig, Tracked,
};

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
/// use cellnorm::{BatchNormConfig, GhostBatchNormConfig};
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
pub type GhostBatchNorm = TableNorm<Ghost>;

/// Makes a [`GhostBatchNorm`].
pub type GhostBatchNormConfig = TableNormConfig<Ghost>;

impl TableNormConfig<Ghost> {
    /// `channels` channels on axis 1, in parts of `size` samples.
    pub fn new(channels: usize, size: usize) -> Self {
        Self::of(Ghost { channels, channel_axis: 1, size, interleaved: false })
    }

    /// Whether a part takes every so many-th sample, as Keras 2 does, instead of neighbours.
    /// Default: false.
    pub fn interleaved(mut self, interleaved: bool) -> Self {
        self.rule.interleaved = interleaved;
        self
    }
}

impl Ghost {
    /// The part and the channel of each cell.
    fn sets<V: Table>(&self, figure: &Figure<'_, V>) -> Labels {
        if !self.interleaved {
            return figure.sets[0].clone();
        }
        let parts = figure.shape[0].div_ceil(self.size);
        samples_of(figure)
            .map(parts, |sample| sample % parts)
            .and(&channels_of(figure, self.channel_axis))
    }
}

impl HasChannels for Ghost {
    fn channel_axis_mut(&mut self) -> &mut isize {
        &mut self.channel_axis
    }
}

impl Rule for Ghost {
    const NAME: &'static str = "ghost batch normalization";

    fn slots(&self) -> Vec<Slot> {
        Slot::affine(&[self.channels])
    }

    fn check(&self) -> Result<(), Error> {
        if self.size == 0 {
            return Err(Error::Number {
                name: "the size of a part",
                given: 0.0,
                expected: "at least 1",
            });
        }
        Ok(())
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.channels], 1.0))
    }

    fn adopt(&mut self, semantics: &Semantics) {
        self.channel_axis = semantics.channel_axis;
    }

    /// Interleaved parts are as many and as large as the blocks that stand for them here.
    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        let mut parts = of_batch(shape, channel);
        parts.along[0] = Along::Blocks(self.size);
        Ok(vec![parts])
    }

    fn estimated(&self) -> Option<usize> {
        Some(0)
    }

    fn table<V: Table>(&self, figure: &Figure<'_, V>, given: &Given<'_, V>) -> Coefficients<V> {
        let channel = channels_of(figure, self.channel_axis);
        let of = if given.batch {
            let sets = self.sets(figure);
            figure.merge(&sets).take(&sets)
        } else {
            given.statistics(figure, &channel).take(&channel)
        };
        given.standardize(figure, of, &channel)
    }

    fn tracked<V: Table>(
        &self,
        figure: &Figure<'_, V>,
        _given: &Given<'_, V>,
    ) -> Option<Tracked<V>> {
        let sets = self.sets(figure);
        let Tracked { mean, variance, values } = Tracked::merged(figure, &sets);
        let channel = Labels::new(
            (0..sets.count()).map(|set| (set % self.channels) as u32).collect(),
            self.channels,
        );
        // a part without values says nothing
        let there: Vec<f64> = values.iter().map(|values| f64::from(*values > 0.0)).collect();
        let parts = channel.sums(&there);
        let shares =
            there.iter().zip(channel.of()).map(|(there, c)| there / parts[*c as usize].max(1.0));
        let shares = mean.constant(shares.collect());
        let mean_of = |table: V| (table * shares.clone()).sum(&channel);
        let values = channel
            .sums(&values)
            .iter()
            .zip(&parts)
            .map(|(values, parts)| values / parts.max(1.0))
            .collect();
        Some(Tracked { mean: mean_of(mean), variance: mean_of(variance), values })
    }
}
