//! Adaptive normalization: γ and β are given for each sample, computed from something else.
//!
//! y = γ_{n,c} (x − mean) / √(variance + ε) + β_{n,c}, with the statistics of instance, layer,
//! group or batch normalization.
//!
//! With instance statistics, γ the standard deviations and β the means of a style image, this is
//! AdaIN (X. Huang, S. Belongie, *Arbitrary Style Transfer in Real-time with Adaptive Instance
//! Normalization*, 2017); with any statistics, feature-wise linear modulation (E. Perez et
//! al., *FiLM: Visual Reasoning with a General Conditioning Layer*, 2018) and conditional batch
//! normalization.

use std::fmt;

use ndarray::{Array, ArrayView, ArrayView2, CowArray, Dimension};

use super::axes::{batch_sharing, cell_channels, sample_and_channel};
use crate::error::{Error, check_groups, check_shape};
use crate::kernels::Element;
use crate::momentum::{Momentum, RunningVariance};
use crate::rule::{
    Coefficients, Context, Gradients, Norm, NormConfig, ParameterSpec, Rule, Running, Saved, Table,
};
use crate::shape::{Along, Measure, Sharing};

/// Whose statistics an adaptive normalization takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AdaptiveStatistics {
    /// Each channel's over the batch, with running averages.
    Batch,
    /// Each sample's, over so many groups of channels: 1 is layer, one a channel is instance.
    Groups(usize),
}

/// γ and β for each sample.
#[derive(Clone)]
pub struct Adaptive {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
    /// The statistics.
    pub statistics: AdaptiveStatistics,
    /// The number of samples that γ and β are given for.
    pub samples: usize,
}

/// Without the number of samples, in which ranks may differ: they compare rules as text.
impl fmt::Debug for Adaptive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adaptive")
            .field("channels", &self.channels)
            .field("channel_axis", &self.channel_axis)
            .field("statistics", &self.statistics)
            .finish_non_exhaustive()
    }
}

impl Rule for Adaptive {
    const NAME: &'static str = "adaptive normalization";

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&[self.samples, self.channels])
    }

    fn check(&self) -> Result<(), Error> {
        match self.statistics {
            AdaptiveStatistics::Groups(groups) => check_groups(self.channels, groups),
            AdaptiveStatistics::Batch => Ok(()),
        }
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        (self.statistics == AdaptiveStatistics::Batch).then(|| (vec![self.channels], 1.0))
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        let given = [self.samples, self.channels];
        check_shape("gamma and beta of each sample", &given, &[shape[0], self.channels])?;
        Ok(vec![match self.statistics {
            AdaptiveStatistics::Batch => batch_sharing(shape, channel),
            AdaptiveStatistics::Groups(groups) => {
                let mut of = Sharing::over("group", Measure::MeanVariance, shape, |axis| axis == 0);
                of.along[channel] = Along::Blocks(self.channels / groups);
                of
            }
        }])
    }

    fn cell_axes(&self, shape: &[usize], _affine: bool) -> Result<Vec<bool>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        Ok((0..shape.len()).map(|axis| axis == 0 || axis == channel).collect())
    }

    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let of = context.statistics(0).take(&cells.sets[0]);
        let place =
            cells.grid.labels(|axis| axis == 0).and(&cell_channels(&cells.grid, self.channel_axis));
        context.standardize(of, &place)
    }
}

/// Adaptive normalization of tensors \[N, C, …\] with γ and β, \[N, C\], given at each call.
///
/// ```
/// use cellnorm::{
///     moments,
///     norms::{AdaptiveNorm, AdaptiveStatistics},
/// };
/// use ndarray::{Array4, Ix2};
/// let image = |k: usize| {
///     Array4::from_shape_fn((2, 3, 4, 4), |(n, c, h, w)| {
///         ((k * n + 3 * c + h * w * k) % 11) as f64
///     })
/// };
/// let (content, style) = (image(5), image(7));
/// let (mean, variance) = moments(style.view(), &[2, 3], false)?;
/// let (gamma, beta) = (
///     variance.mapv(f64::sqrt).into_dimensionality::<Ix2>().unwrap(),
///     mean.into_dimensionality().unwrap(),
/// );
/// let layer = AdaptiveNorm::new(3, AdaptiveStatistics::Groups(3))?;
/// let y = layer.infer(content.view(), gamma.view(), beta.view())?;
/// let (of_y, _) = moments(y.view(), &[2, 3], false)?;
/// assert!((of_y - beta.into_dyn()).iter().all(|d| d.abs() < 1e-12));
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveNorm {
    layer: Norm<Adaptive>,
}

impl AdaptiveNorm {
    /// `channels` channels on axis 1, ε = 1e-5.
    ///
    /// # Errors
    /// If groups do not divide the channels.
    pub fn new(channels: usize, statistics: AdaptiveStatistics) -> Result<Self, Error> {
        let rule = Adaptive { channels, channel_axis: 1, statistics, samples: 0 };
        Ok(Self { layer: NormConfig::custom(rule).init()? })
    }

    /// The axis of the channels; negative counts from the last. Default: 1 (NCHW); −1 for NHWC.
    pub fn channel_axis(mut self, axis: isize) -> Self {
        self.layer.rule_mut().channel_axis = axis;
        self
    }

    /// ε, added to the variance inside the root. Default: 1e-5.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.layer.epsilon = epsilon;
        self
    }

    /// The pace of the running averages of [`AdaptiveStatistics::Batch`], and the variance that
    /// they follow. Default: as PyTorch.
    pub fn running_averages(mut self, momentum: Momentum, variance: RunningVariance) -> Self {
        (self.layer.momentum, self.layer.running_variance) = (momentum, variance);
        self
    }

    /// The running averages of [`AdaptiveStatistics::Batch`].
    pub fn running(&mut self) -> Option<&mut Running> {
        self.layer.running.as_mut()
    }

    /// Training.
    ///
    /// # Errors
    /// Same as [`Norm::forward`], or if γ or β is not \[N, C\].
    pub fn forward<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        gamma: ArrayView2<'_, f64>,
        beta: ArrayView2<'_, f64>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.layer = self.with(gamma, beta);
        self.layer.forward(x)
    }

    /// Inference.
    ///
    /// # Errors
    /// Same as [`Norm::infer`], or if γ or β is not \[N, C\].
    pub fn infer<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
        gamma: ArrayView2<'_, f64>,
        beta: ArrayView2<'_, f64>,
    ) -> Result<Array<T, D>, Error> {
        self.with(gamma, beta).infer(x)
    }

    /// The gradients; those of γ and β are \[N, C\], to go on to what computed them.
    ///
    /// # Errors
    /// Same as [`Norm::backward`], or if γ is not \[N, C\].
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        gamma: ArrayView2<'_, f64>,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Gradients<T, D>, Error> {
        // β does not enter its own gradient
        self.with(gamma, gamma).backward(saved, x, dy)
    }

    fn with(&self, gamma: ArrayView2<'_, f64>, beta: ArrayView2<'_, f64>) -> Norm<Adaptive> {
        let mut layer = self.layer.clone();
        layer.rule_mut().samples = gamma.nrows();
        layer.gamma = Some(gamma.to_owned().into_dyn());
        layer.beta = Some(beta.to_owned().into_dyn());
        layer
    }
}
