//! Filter response normalization: each channel of each sample is divided by its root mean square,
//! whatever its mean.
//!
//! y = γ x / √(ν² + |ε| + |ε_l|) + β, ν² = mean of x² over the positions, with ε_l learned where
//! asked for. The paper follows it by max(y, τ) with a learned τ for each channel:
//! [`Tlu`](super::Tlu).
//!
//! Source: S. Singh, S. Krishnan, *Filter Response Normalization Layer*, 2020; ε and ε_l as
//! `FilterResponseNormalization` of TensorFlow Addons 0.23.

use super::axes::{HasChannels, channels_of, sample_and_channel};
use crate::error::Error;
use crate::semantics::Semantics;
use crate::tables::{
    Coefficients, Figure, Given, Labels, Measure, Rule, Sharing, Slot, Table, TableNorm,
    TableNormConfig,
};

/// Each channel of each sample is divided by its root mean square.
#[derive(Clone, Debug)]
pub struct FilterResponse {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
    /// Whether there is a learned ε_l, the parameter learned_epsilon.
    pub learned_epsilon: bool,
}

/// Filter response normalization of tensors \[N, C, …\]; parameters gamma and beta, \[C\], and
/// learned_epsilon, \[1\], where it is asked for.
///
/// ```
/// use cellnorm::{FilterResponseNormConfig, RmsNormConfig};
/// let x = ndarray::Array3::from_shape_fn((2, 3, 4), |(n, c, s)| (n + c + s) as f64);
/// let y = FilterResponseNormConfig::new(3).init()?.infer(x.view())?;
/// let rms = RmsNormConfig::new(&[4]).epsilon(1e-6).init()?.infer(x.view())?;
/// assert!((y - rms).iter().all(|d| d.abs() < 1e-12));
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type FilterResponseNorm = TableNorm<FilterResponse>;

/// Makes a [`FilterResponseNorm`].
pub type FilterResponseNormConfig = TableNormConfig<FilterResponse>;

impl TableNormConfig<FilterResponse> {
    /// `channels` channels on axis 1, ε = 1e-6.
    pub fn new(channels: usize) -> Self {
        Self::of(FilterResponse { channels, channel_axis: 1, learned_epsilon: false })
    }

    /// Whether |ε_l|, learned and 1e-4 at first, is added to ε. Default: false.
    pub fn learned_epsilon(mut self, learned: bool) -> Self {
        self.rule.learned_epsilon = learned;
        self
    }
}

impl HasChannels for FilterResponse {
    fn channel_axis_mut(&mut self) -> &mut isize {
        &mut self.channel_axis
    }
}

impl Rule for FilterResponse {
    const NAME: &'static str = "filter response normalization";
    const FORMULA: &'static str = "y = γ x / √(mean(x²) + ε) + β";
    const EPSILON: f64 = 1e-6;

    fn slots(&self) -> Vec<Slot> {
        let mut slots = Slot::affine(&[self.channels]);
        slots.extend(self.learned_epsilon.then(|| Slot::new("learned_epsilon", &[1], 1e-4)));
        slots
    }

    fn adopt(&mut self, semantics: &Semantics) {
        self.channel_axis = semantics.channel_axis;
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        let apart = |axis| axis == 0 || axis == channel;
        Ok(vec![Sharing::over("filter-response", Measure::MeanSquare, shape, apart)])
    }

    fn table<V: Table>(&self, figure: &Figure<'_, V>, given: &Given<'_, V>) -> Coefficients<V> {
        let channel = channels_of(figure, self.channel_axis);
        let mut square = figure.mean_square(&figure.sets[0]).take(&figure.sets[0]);
        if let Some(learned) = given.parameter("learned_epsilon") {
            square =
                square + learned.clone().abs().take(&Labels::new(vec![0; figure.counts.len()], 1));
        }
        let r = given.rstd(square);
        given.affine(r.clone(), r * figure.center.clone(), &channel)
    }
}
