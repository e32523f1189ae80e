//! Instance normalization that keeps running averages: each instance normalizes itself in training,
//! all share in inference.
//!
//! In training as [`InstanceNorm`]; the running averages follow the mean over samples of the
//! instances' means and variances. In inference γ (x − running_mean_c) / √(running_var_c + ε) + β,
//! which is batch normalization.
//!
//! Source: `torch.nn.InstanceNorm*d` of PyTorch 2 with `track_running_stats=True`, whose instances'
//! variances are unbiased. Its `momentum=None` leaves the running averages as they are, which is
//! [`Momentum::Step(0.0)`](crate::Momentum::Step) here; [`Cumulative`](crate::Momentum::Cumulative)
//! is a plain mean. Its checkpoints are read by
//! `Semantics { running_statistics: true, ..pytorch_instance }`.

use super::axes::HasChannels;
use super::{Instance, InstanceNorm};
use crate::rule::{Norm, NormConfig, ParameterSpec, Rule};
use crate::shape::{Labels, Roles};
use crate::{error::Error, momentum::Momentum};

/// Each cell has its own statistics in training, each channel the running ones in inference.
#[derive(Clone, Debug)]
pub struct TrackedInstance {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
}

/// Instance normalization with running averages, \[C\].
///
/// ```
/// use cellnorm::{Momentum, norms::TrackedInstanceNormConfig};
/// use ndarray::Array3;
/// let x = Array3::from_shape_fn((4, 2, 8), |(n, c, s)| ((n + 3 * c + 1) * s) as f64);
/// let mut layer = TrackedInstanceNormConfig::new(2).momentum(Momentum::Step(1.0)).init()?;
/// layer.forward(x.view())?;
/// let running = layer.running.as_ref().unwrap();
/// // the mean of 3.5, 7, 10.5 and 14
/// assert_eq!(running.mean[0], 8.75);
/// let y = layer.infer(x.view())?[[0, 0, 0]];
/// assert!((y + 8.75 / (running.variance[0] + 1e-5).sqrt()).abs() < 1e-12);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type TrackedInstanceNorm = Norm<TrackedInstance>;

/// Makes a [`TrackedInstanceNorm`].
pub type TrackedInstanceNormConfig = NormConfig<TrackedInstance>;

impl NormConfig<TrackedInstance> {
    /// `channels` channels on axis 1, with γ and β per channel.
    pub fn new(channels: usize) -> Self {
        Self::custom(TrackedInstance { channels, channel_axis: 1 })
    }
}

impl InstanceNorm {
    /// The layer with running averages, mean 0 and variance 1, and all else as it is.
    ///
    /// # Errors
    /// If momentum is not in \[0, 1\].
    pub fn track(self, momentum: Momentum) -> Result<TrackedInstanceNorm, Error> {
        let Instance { channels, channel_axis } = *self.rule();
        let rule = TrackedInstance { channels, channel_axis };
        let mut layer = NormConfig::custom(rule).momentum(momentum).init()?;
        (layer.gamma, layer.beta) = (self.gamma, self.beta);
        (layer.epsilon, layer.one_value) = (self.epsilon, self.one_value);
        (layer.excluded, layer.activation) = (self.excluded, self.activation);
        (layer.running_variance, layer.mode) = (self.running_variance, self.mode);
        (layer.phase, layer.frozen_parameters) = (self.phase, self.frozen_parameters);
        Ok(layer)
    }
}

impl HasChannels for TrackedInstance {}

impl Rule for TrackedInstance {
    const NAME: &'static str = "instance normalization";

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&[self.channels])
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((vec![self.channels], 1.0))
    }

    fn roles(&self, shape: &[usize], affine: bool) -> Result<Option<Roles>, Error> {
        let Self { channels, channel_axis } = *self;
        Instance { channels, channel_axis }.roles(shape, affine)
    }

    fn running_labels(&self, shape: &[usize]) -> Option<Labels> {
        let sets = shape.first().map_or(0, |samples| samples * self.channels);
        let channels = (0..sets).map(|set| (set % self.channels) as u32).collect();
        Some(Labels::new(channels, self.channels))
    }
}
