//! Batch normalization: the cells of one channel share a mean and a variance, and running
//! statistics serve inference.
//!
//! y = γ (x − mean_c) / √(variance_c + ε) + β over all axes but the channels'. In training, mean
//! and biased variance are those of the batch, and the running statistics move toward them; in
//! inference they are the running statistics.
//!
//! Source: S. Ioffe, C. Szegedy, *Batch Normalization: Accelerating Deep Network Training by
//! Reducing Internal Covariate Shift*, 2015. Defaults as `torch.nn.BatchNorm*d` of PyTorch 2.

use ndarray::{Array, Array1, ArrayD, ArrayView, CowArray, Dimension};

use super::axes::channel_axis;
use super::running::{check_statistics, follow};
use super::{
    Gradients, Kind, Mode, Momentum, Phase, Run, RunningVariance, Saved, StatisticsFrom, phases,
};
use crate::arrays::Roles;
use crate::element::Element;
use crate::error::Error;
use crate::functions::moments;
use crate::semantics::{Frozen, Normalization, OneValue, Semantics};
use crate::standardize::{About, Statistics};

/// The cells of one channel share statistics.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
}

impl Kind for Batch {
    const NAME: &'static str = "batch normalization";
    const ABOUT: About = About::Mean;

    const NORMALIZATION: Option<Normalization> = Some(Normalization::Batch);

    fn parameter_shape(&self) -> Vec<usize> {
        vec![self.channels]
    }

    fn adopt(&mut self, semantics: &Semantics) {
        self.channel_axis = semantics.channel_axis;
    }

    fn roles(&self, shape: &[usize], _affine: bool) -> Result<Roles, Error> {
        let channel = channel_axis(Self::NAME, shape, self.channel_axis, self.channels, 2)?;
        Ok(Roles::new((0..shape.len()).map(|axis| (axis != channel, axis == channel))))
    }
}

impl Batch {
    /// The statistics of x alone.
    fn statistics<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<Statistics, Error> {
        let channel = channel_axis(Self::NAME, x.shape(), self.channel_axis, self.channels, 2)?;
        let axes: Vec<isize> =
            (0..x.ndim()).filter(|axis| *axis != channel).map(|axis| axis as isize).collect();
        let (mean, variance) = moments(x, &axes, false)?;
        Ok(Statistics {
            mean: mean.into_iter().collect(),
            variance: variance.into_iter().collect(),
        })
    }
}

/// Batch normalization of tensors of any rank ≥ 2. Made by
/// [`BatchNormConfig`](super::BatchNormConfig).
///
/// ```
/// use cellnorm::{BatchNormConfig, Momentum, RunningVariance};
/// use ndarray::Array4;
/// // the worked example of MXNet Gluon's normalization tutorial
/// let x =
///     Array4::from_shape_fn((2, 2, 2, 2), |(n, c, h, w)| (8 * n + 4 * c + 2 * h + w) as f32);
/// let mut layer = BatchNormConfig::new(2)
///     .momentum(Momentum::Keep(0.9))
///     .running_variance(RunningVariance::Biased)
///     .init()?;
/// let (y, saved) = layer.forward(x.view())?;
/// assert!((y[[0, 0, 0, 0]] + 1.3242440).abs() < 1e-6);
/// assert!((layer.running_var[0] - 2.625).abs() < 1e-12);
///
/// let dy = y.mapv(f32::signum);
/// let gradients = layer.backward(&saved, x.view(), dy)?;
/// assert!((gradients.dgamma.unwrap()[0] - 7.7047).abs() < 1e-4);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// The factor of each channel, \[C\]; None without scale.
    pub gamma: Option<ArrayD<f64>>,
    /// The offset of each channel, \[C\]; None without center.
    pub beta: Option<ArrayD<f64>>,
    /// The mean for inference, \[C\].
    pub running_mean: Array1<f64>,
    /// The variance for inference, \[C\].
    pub running_var: Array1<f64>,
    /// ε inside the root.
    pub epsilon: f64,
    /// The pace of the running statistics.
    pub momentum: Momentum,
    /// Which variance the running variance follows.
    pub running_variance: RunningVariance,
    /// What one value a statistic does in training.
    pub one_value: OneValue,
    /// What `forward` and `backward` do; [`train`](Self::train) and [`freeze`](Self::freeze) set
    /// it, too.
    pub mode: Mode,
    /// How often the running statistics have moved: PyTorch's `num_batches_tracked`. Cumulative
    /// momentum needs it.
    pub steps: u64,
    pub(super) phase: Phase,
    pub(crate) kind: Batch,
}

impl BatchNorm {
    phases!();

    /// Normalizes as [`mode`](Self::mode) says; in training, with the batch's statistics, and moves
    /// the running ones toward them.
    ///
    /// # Errors
    /// If x has fewer than 2 axes, no such channel axis or another number of channels, is empty,
    /// has one value per channel and the policy forbids it, or holds NaN or infinity; or if a
    /// parameter was set to a wrong shape. Then nothing has changed.
    pub fn forward<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.check_running()?;
        self.momentum.check()?;
        let roles = self.kind.roles(x.shape(), true)?;
        let values = (x.len() / self.kind.channels.max(1)) as f64;
        let Mode { statistics, update, .. } = self.mode;
        let running = statistics == StatisticsFrom::Running;
        if running && !update || values == 1.0 && self.one_value == OneValue::UseRunning {
            return self.forward_fixed(x);
        }
        let shape = [self.kind.channels];
        let (y, saved, batch) = if running {
            self.run(&shape).check_one_value(values, true, x.shape())?;
            let batch = self.kind.statistics(x.view())?;
            let (y, saved) = self.forward_fixed(x)?;
            (y, saved, batch)
        } else {
            let (y, saved) = self.run(&shape).forward(CowArray::from(x), &roles, true)?;
            let batch = saved.statistics.clone();
            (y, saved, batch)
        };
        if update {
            self.follow(&batch, &vec![values; self.kind.channels]);
        }
        Ok((y, saved))
    }

    /// Moves the running statistics of each channel toward those of a batch, where it has any
    /// values; without any at all, it is no step. [`forward`](Self::forward) does so itself: this
    /// is for callers that normalize elsewhere, as on a device.
    ///
    /// # Panics
    /// If there is not one mean, variance and number of values for each channel.
    pub fn follow(&mut self, batch: &Statistics, values: &[f64]) {
        if values.iter().all(|values| *values == 0.0) {
            return;
        }
        self.steps += 1;
        let step = self.momentum.weight(self.steps);
        let weight = |moves: bool| if moves { step } else { 0.0 };
        let of_variance = |n| weight(self.running_variance.moves(n, self.one_value));
        let correction =
            |channel: usize| self.running_variance.factor(values[channel], self.epsilon);
        follow(
            &mut self.running_mean,
            &batch.mean,
            |_| 1.0,
            |channel| weight(values[channel] > 0.0),
        );
        follow(&mut self.running_var, &batch.variance, correction, |channel| {
            of_variance(values[channel])
        });
    }

    /// Inference: normalizes with the running statistics, over x itself where the array is handed
    /// over.
    ///
    /// # Errors
    /// As [`BatchNorm::forward`], but one value per channel is fine, and NaN and infinity in x pass
    /// on to y, since nothing is summed; or if a running statistic is not finite or a running
    /// variance negative.
    pub fn infer<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Array<T, D>, Error> {
        let x = x.into();
        self.check_running()?;
        let roles = self.kind.roles(x.shape(), true)?;
        self.run(&[self.kind.channels]).forward_fixed(x, &roles, &self.running())
    }

    /// As [`BatchNorm::infer`], with what the backward pass of a frozen layer needs.
    ///
    /// # Errors
    /// As [`BatchNorm::infer`].
    pub fn forward_fixed<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        Ok((self.infer(x)?, Saved { statistics: self.running(), fixed: true, masked: None }))
    }

    /// The gradients, given what the forward pass saved, its x, and dy; dx is written over dy where
    /// that is handed over.
    ///
    /// # Errors
    /// If dy has another shape than x, x is not that of the forward pass, or the sums of dy are not
    /// finite.
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Gradients<T, D>, Error> {
        let roles = self.kind.roles(x.shape(), true)?;
        self.run(&[self.kind.channels]).backward(saved, x, dy.into(), &roles)
    }

    pub(crate) fn run<'a>(&'a self, shape: &'a [usize]) -> Run<'a> {
        let (gamma, beta) = (self.gamma.as_ref(), self.beta.as_ref());
        Run {
            name: Batch::NAME,
            about: About::Mean,
            epsilon: self.epsilon,
            gamma,
            beta,
            shape,
            one_value: self.one_value,
            train_parameters: self.mode.train_parameters,
        }
    }

    pub(crate) fn running(&self) -> Statistics {
        Statistics { mean: self.running_mean.to_vec(), variance: self.running_var.to_vec() }
    }

    pub(crate) fn check_running(&self) -> Result<(), Error> {
        self.running_variance.check(self.epsilon)?;
        check_statistics(&self.running_mean, &self.running_var, self.kind.channels)
    }
}
