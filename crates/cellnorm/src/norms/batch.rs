//! Batch normalization: the cells of one channel share a mean and a variance, and running statistics serve inference.
//!
//! y = γ (x − mean_c) / √(variance_c + ε) + β over all axes but the channels'. In training, mean and biased variance are those
//! of the batch, and the running statistics move toward them; in inference they are the running statistics.
//!
//! Source: S. Ioffe, C. Szegedy, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
//! Shift*, 2015. Defaults as `torch.nn.BatchNorm*d` of PyTorch 2.

use ndarray::{Array, Array1, ArrayD, ArrayView, CowArray, Dimension};

use super::{Gradients, Kind, Run, Saved, channel_axis, common_options, parameter};
use crate::arrays::Roles;
use crate::element::Element;
use crate::error::{Error, check_epsilon};
use crate::parameters::Initializer;
use crate::standardize::{About, Statistics};

/// How far the running statistics move in one training step.
///
/// A type rather than a number, because frameworks disagree about its direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Momentum {
    /// running = (1 − m) · running + m · batch, as PyTorch means it (default 0.1).
    Step(f64),
    /// running = m · running + (1 − m) · batch, as Keras (default 0.99), MXNet and ONNX (default 0.9) mean it.
    Keep(f64),
}

impl Momentum {
    /// The weight of the batch, in \[0, 1\].
    pub fn step(self) -> f64 {
        match self {
            Self::Step(step) => step,
            Self::Keep(keep) => 1.0 - keep,
        }
    }

    fn check(self) -> Result<(), Error> {
        let (Self::Step(given) | Self::Keep(given)) = self;
        if (0.0..=1.0).contains(&given) {
            return Ok(());
        }
        Err(Error::Number { name: "momentum", given, expected: "between 0 and 1" })
    }
}

/// Which variance of the batch the running variance moves toward. The batch itself is always normalized with the biased one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunningVariance {
    /// M2 / (n − 1), as PyTorch does.
    #[default]
    Unbiased,
    /// M2 / n, as Keras 3, MXNet, ONNX and Flax do.
    Biased,
}

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

    fn parameter_shape(&self) -> Vec<usize> {
        vec![self.channels]
    }

    fn roles(&self, shape: &[usize], _affine: bool) -> Result<Roles, Error> {
        let channel = channel_axis(Self::NAME, shape, self.channel_axis, self.channels, 2)?;
        Ok(Roles::new((0..shape.len()).map(|axis| (axis != channel, axis == channel))))
    }
}

/// Makes a [`BatchNorm`].
///
/// ```
/// use cellnorm::{BatchNormConfig, Momentum, RunningVariance};
/// let keras = BatchNormConfig::new(64)
///     .channel_axis(-1)
///     .epsilon(1e-3)
///     .momentum(Momentum::Keep(0.99))
///     .running_variance(RunningVariance::Biased)
///     .init()?;
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchNormConfig {
    kind: Batch,
    epsilon: f64,
    momentum: Momentum,
    running_variance: RunningVariance,
    scale: bool,
    center: bool,
    gamma_initializer: Initializer,
    beta_initializer: Initializer,
}

impl BatchNormConfig {
    /// Batch normalization of `channels` channels on axis 1, with γ and β.
    pub fn new(channels: usize) -> Self {
        Self {
            kind: Batch { channels, channel_axis: 1 },
            epsilon: 1e-5,
            momentum: Momentum::Step(0.1),
            running_variance: RunningVariance::default(),
            scale: true,
            center: true,
            gamma_initializer: Initializer::Ones,
            beta_initializer: Initializer::Zeros,
        }
    }

    /// The axis of the channels; negative counts from the last. Default: 1 (NCHW); −1 for channels-last.
    pub fn channel_axis(mut self, axis: isize) -> Self {
        self.kind.channel_axis = axis;
        self
    }

    /// The pace of the running statistics. Default: `Momentum::Step(0.1)`.
    pub fn momentum(mut self, momentum: Momentum) -> Self {
        self.momentum = momentum;
        self
    }

    /// Which variance the running variance follows. Default: unbiased.
    pub fn running_variance(mut self, rule: RunningVariance) -> Self {
        self.running_variance = rule;
        self
    }

    common_options!();

    /// The layer, with γ = 1 and β = 0 unless they start otherwise, running mean 0 and running variance 1.
    ///
    /// # Errors
    /// If ε is not finite and at least 1e-36, momentum is not in \[0, 1\], or an initializer cannot be used.
    pub fn init(self) -> Result<BatchNorm, Error> {
        check_epsilon(self.epsilon)?;
        self.momentum.check()?;
        let channels = self.kind.channels;
        let shape = [channels];
        Ok(BatchNorm {
            gamma: parameter(self.scale, &shape, self.gamma_initializer)?,
            beta: parameter(self.center, &shape, self.beta_initializer)?,
            running_mean: Array1::zeros(channels),
            running_var: Array1::ones(channels),
            epsilon: self.epsilon,
            momentum: self.momentum,
            running_variance: self.running_variance,
            kind: self.kind,
        })
    }
}

/// Batch normalization of tensors of any rank ≥ 2. Made by [`BatchNormConfig`].
///
/// ```
/// use cellnorm::{BatchNormConfig, Momentum, RunningVariance};
/// use ndarray::Array4;
/// // the worked example of MXNet Gluon's normalization tutorial
/// let x = Array4::from_shape_fn((2, 2, 2, 2), |(n, c, h, w)| (8 * n + 4 * c + 2 * h + w) as f32);
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
    kind: Batch,
}

impl BatchNorm {
    /// Training: normalizes with the batch's statistics and moves the running ones toward them.
    ///
    /// # Errors
    /// If x has fewer than 2 axes, no such channel axis or another number of channels, is empty, has one value per channel,
    /// or holds NaN or infinity; or if a parameter was set to a wrong shape. Then nothing has changed.
    pub fn forward<T: Element, D: Dimension>(&mut self, x: ArrayView<'_, T, D>) -> Result<(Array<T, D>, Saved), Error> {
        self.check_running()?;
        self.momentum.check()?;
        let roles = self.kind.roles(x.shape(), true)?;
        let values = (x.len() / self.kind.channels.max(1)) as f64;
        let (y, saved) = self.run(&[self.kind.channels]).forward(CowArray::from(x), &roles, true)?;
        let step = self.momentum.step();
        let correction = match self.running_variance {
            RunningVariance::Unbiased => values / (values - 1.0),
            RunningVariance::Biased => 1.0,
        };
        for channel in 0..self.kind.channels {
            let (mean, variance) = (saved.statistics.mean[channel], saved.statistics.variance[channel] * correction);
            self.running_mean[channel] += step * (mean - self.running_mean[channel]);
            self.running_var[channel] += step * (variance - self.running_var[channel]);
        }
        Ok((y, saved))
    }

    /// Inference: normalizes with the running statistics, over x itself where the array is handed over.
    ///
    /// # Errors
    /// As [`BatchNorm::forward`], but one value per channel is fine, and NaN and infinity in x pass on to y, since nothing is
    /// summed; or if a running statistic is not finite or a running variance negative.
    pub fn infer<'a, T: Element, D: Dimension>(&self, x: impl Into<CowArray<'a, T, D>>) -> Result<Array<T, D>, Error> {
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
        Ok((self.infer(x)?, Saved { statistics: self.running(), fixed: true }))
    }

    /// The gradients, given what the forward pass saved, its x, and dy; dx is written over dy where that is handed over.
    ///
    /// # Errors
    /// If dy has another shape than x, x is not that of the forward pass, or the sums of dy are not finite.
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Gradients<T, D>, Error> {
        let roles = self.kind.roles(x.shape(), true)?;
        self.run(&[self.kind.channels]).backward(saved, x, dy.into(), &roles)
    }

    fn run<'a>(&'a self, shape: &'a [usize]) -> Run<'a> {
        let (gamma, beta) = (self.gamma.as_ref(), self.beta.as_ref());
        Run { name: Batch::NAME, about: About::Mean, epsilon: self.epsilon, gamma, beta, shape }
    }

    fn running(&self) -> Statistics {
        Statistics { mean: self.running_mean.to_vec(), variance: self.running_var.to_vec() }
    }

    fn check_running(&self) -> Result<(), Error> {
        for (name, table) in [("running_mean", &self.running_mean), ("running_var", &self.running_var)] {
            if table.len() != self.kind.channels {
                let (given, expected) = (vec![table.len()], vec![self.kind.channels]);
                return Err(Error::Parameter { name, given, expected });
            }
            if let Some(given) = table.iter().find(|v| !v.is_finite() || (name == "running_var" && **v < 0.0)) {
                return Err(Error::Number { name, given: *given, expected: "finite, and a variance not negative" });
            }
        }
        Ok(())
    }
}
