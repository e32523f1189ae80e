//! Filter response normalization: each channel of each sample is divided by its root mean square.
//!
//! y = γ x / √(ν² + |ε| + |ε_l|) + β, ν² = mean of x² over the positions, with ε_l learned where
//! asked for. The paper follows it by max(y, τ) with a learned τ for each channel:
//! [`Tlu`](super::Tlu).
//!
//! Source: S. Singh, S. Krishnan, *Filter Response Normalization Layer*, 2020; ε and ε_l as
//! `FilterResponseNormalization` of TensorFlow Addons 0.23.

use super::axes::{HasChannels, cell_channels, sample_and_channel};
use crate::error::Error;
use crate::rule::{Coefficients, Context, Norm, NormConfig, ParameterSpec, Rule, Table};
use crate::shape::{Labels, Measure, Sharing};

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
/// use cellnorm::{RmsNormConfig, norms::FilterResponseNormConfig};
/// let x = ndarray::Array3::from_shape_fn((2, 3, 4), |(n, c, s)| (n + c + s) as f64);
/// let y = FilterResponseNormConfig::new(3).init()?.infer(x.view())?;
/// let rms = RmsNormConfig::new(&[4]).epsilon(1e-6).init()?.infer(x.view())?;
/// assert!((y - rms).iter().all(|d| d.abs() < 1e-12));
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type FilterResponseNorm = Norm<FilterResponse>;

/// Makes a [`FilterResponseNorm`].
pub type FilterResponseNormConfig = NormConfig<FilterResponse>;

impl NormConfig<FilterResponse> {
    /// `channels` channels on axis 1, ε = 1e-6.
    pub fn new(channels: usize) -> Self {
        Self::custom(FilterResponse { channels, channel_axis: 1, learned_epsilon: false })
    }

    /// Whether |ε_l|, learned and 1e-4 at first, is added to ε. Default: false.
    pub fn learned_epsilon(mut self, learned: bool) -> Self {
        self.rule.learned_epsilon = learned;
        self
    }
}

impl HasChannels for FilterResponse {}

impl Rule for FilterResponse {
    const NAME: &'static str = "filter response normalization";
    const FORMULA: &'static str = "y = γ x / √(mean(x²) + ε) + β";
    const EPSILON: f64 = 1e-6;

    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut slots = ParameterSpec::affine(&[self.channels]);
        slots.extend(
            self.learned_epsilon.then(|| ParameterSpec::new("learned_epsilon", &[1], 1e-4)),
        );
        slots
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        let apart = |axis| axis == 0 || axis == channel;
        Ok(vec![Sharing::over("filter-response", Measure::MeanSquare, shape, apart)])
    }

    fn variance_sharing(&self) -> Option<usize> {
        None
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let channel = cell_channels(&cells.grid, self.channel_axis);
        let mut square = cells.mean_square(0).take(&cells.sets[0]);
        if let Some(learned) = context.parameter("learned_epsilon") {
            square = square
                + learned.clone().abs().take(&Labels::new(vec![0; cells.grid.counts.len()], 1));
        }
        let r = context.rstd(square);
        context.affine(r.clone(), r * cells.center.clone(), &channel)
    }
}
