//! Instance normalization that keeps running statistics: each instance normalizes itself in
//! training, all share in inference.
//!
//! In training as [`InstanceNorm`]; the running statistics follow the mean over samples of the
//! instances' means and variances. In inference γ (x − running_mean_c) / √(running_var_c + ε) + β,
//! which is batch normalization.
//!
//! Source: `torch.nn.InstanceNorm*d` of PyTorch 2 with `track_running_stats=True`, whose instances'
//! variances are unbiased. Its `momentum=None` leaves the running statistics as they are; here
//! [`Momentum::Cumulative`] is a plain mean.

use ndarray::{Array, Array1, ArrayView, CowArray, Dimension};

use super::running::{check_statistics, follow};
use super::{Batch, Gradients, InstanceNorm, Kind, Momentum, RunningVariance, Saved};
use crate::element::Element;
use crate::error::Error;
use crate::standardize::Statistics;

/// Instance normalization with running statistics. Made by [`InstanceNorm::track`].
///
/// ```
/// use cellnorm::{InstanceNormConfig, Momentum};
/// use ndarray::Array3;
/// let x = Array3::from_shape_fn((4, 2, 8), |(n, c, s)| ((n + 3 * c + 1) * s) as f64);
/// let mut layer = InstanceNormConfig::new(2).init()?.track(Momentum::Step(1.0));
/// layer.forward(x.view())?;
/// // the mean of 3.5, 7, 10.5 and 14
/// assert_eq!(layer.running_mean[0], 8.75);
/// assert!(
///     (layer.infer(x.view())?[[0, 0, 0]] + 8.75 / (layer.running_var[0] + 1e-5).sqrt())
///         .abs()
///         < 1e-12
/// );
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrackedInstanceNorm {
    /// The layer: γ, β and ε.
    pub norm: InstanceNorm,
    /// The mean for inference, \[C\].
    pub running_mean: Array1<f64>,
    /// The variance for inference, \[C\].
    pub running_var: Array1<f64>,
    /// The pace of the running statistics.
    pub momentum: Momentum,
    /// Which variance of an instance the running variance follows. Default: unbiased.
    pub running_variance: RunningVariance,
    /// How often the running statistics have moved.
    pub steps: u64,
}

impl InstanceNorm {
    /// The layer with running statistics, mean 0 and variance 1.
    pub fn track(self, momentum: Momentum) -> TrackedInstanceNorm {
        let channels = self.kind().channels;
        TrackedInstanceNorm {
            norm: self,
            running_mean: Array1::zeros(channels),
            running_var: Array1::ones(channels),
            momentum,
            running_variance: RunningVariance::default(),
            steps: 0,
        }
    }
}

impl TrackedInstanceNorm {
    /// Training: as [`InstanceNorm::forward`], and moves the running statistics.
    ///
    /// # Errors
    /// As [`InstanceNorm::forward`], or if momentum is not in \[0, 1\], or a running statistic has
    /// a wrong shape or is not finite. Then nothing has changed.
    pub fn forward<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.check()?;
        let (y, saved) = self.norm.forward(x.view())?;
        let (samples, channels) = (x.shape()[0], self.norm.kind().channels);
        let mean_of_samples = |table: &[f64]| -> Vec<f64> {
            let of_channel = |channel| {
                table.iter().skip(channel).step_by(channels).sum::<f64>() / samples as f64
            };
            (0..channels).map(of_channel).collect()
        };
        self.steps += 1;
        let weight = self.momentum.weight(self.steps);
        let values = (x.len() / (samples * channels)) as f64;
        let correction = self.running_variance.factor(values, self.norm.epsilon);
        follow(
            &mut self.running_mean,
            &mean_of_samples(&saved.statistics.mean),
            |_| 1.0,
            |_| weight,
        );
        follow(
            &mut self.running_var,
            &mean_of_samples(&saved.statistics.variance),
            |_| correction,
            |_| weight,
        );
        Ok((y, saved))
    }

    /// Inference: normalizes with the running statistics, over x itself where the array is handed
    /// over.
    ///
    /// # Errors
    /// As [`BatchNorm::infer`](super::BatchNorm::infer).
    pub fn infer<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Array<T, D>, Error> {
        let x = x.into();
        self.check()?;
        // all samples share a channel's statistics, as in batch normalization
        self.norm.roles(x.shape())?;
        let kind = self.norm.kind();
        let kind = Batch { channels: kind.channels, channel_axis: kind.channel_axis };
        let statistics =
            Statistics { mean: self.running_mean.to_vec(), variance: self.running_var.to_vec() };
        let roles = kind.roles(x.shape(), true)?;
        self.norm.run(&kind.parameter_shape()).forward_fixed(x, &roles, &statistics)
    }

    /// The gradients of training, given what [`forward`](Self::forward) saved, its x, and dy.
    ///
    /// # Errors
    /// As [`InstanceNorm::backward`].
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Gradients<T, D>, Error> {
        self.norm.backward(saved, x, dy)
    }

    fn check(&self) -> Result<(), Error> {
        self.momentum.check()?;
        self.running_variance.check(self.norm.epsilon)?;
        check_statistics(&self.running_mean, &self.running_var, self.norm.kind().channels)
    }
}
