//! How a layer with running statistics behaves: momentum, which variance is kept, one value a
//! statistic, and the mode: three separate switches, which frameworks join in one word.
//!
//! | here | PyTorch | Keras 3, tf.keras 2 | Keras 2.3.1 | MXNet | Flax |
//! |---|---|---|---|---|---|
//! | [`Mode::training`] | `train()` | `training=True` | `training=True` | `autograd.record()` | `use_running_average=False` |
//! | [`Mode::inference`] | `eval()` | `training=False` | `training=False` | `use_global_stats=True` | `use_running_average=True` |
//! | [`Frozen::Inference`] | `eval()` and `requires_grad=False` | `trainable=False` | | `use_global_stats=True` and `lr_mult=0` | both |
//! | [`Frozen::BatchStatistics`] | `track_running_stats=False` and `requires_grad=False` | | `trainable=False` | | |
//! | `running_statistics(false)` | `track_running_stats=False` | | | | |
//! | [`Frozen::ParametersOnly`] | `requires_grad=False` | | | `lr_mult=0` | no update from the optimizer |

use crate::error::{Error, check_number};

/// How far the running statistics move in one training step.
///
/// A type rather than a number, because frameworks disagree about its direction.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Momentum {
    /// running = (1 − m) · running + m · batch, as PyTorch means it (default 0.1).
    Step(f64),
    /// running = m · running + (1 − m) · batch: Keras (default 0.99), MXNet and ONNX (default
    /// 0.9).
    Keep(f64),
    /// The plain mean of all batches so far: the k-th has the weight 1/k. PyTorch's
    /// `momentum=None`. Batches are counted for all channels together: one that a mask leaves empty
    /// in the first batch keeps a share of what it started with. So do the averages of a
    /// [`StepBatchNorm`](crate::norms::StepBatchNorm) that is given one step at a time, since each
    /// call counts: give it whole sequences.
    Cumulative,
    /// The statistics of all batches so far together, where each had the same number of values:
    /// the mean as [`Cumulative`](Self::Cumulative), and the variance with the spread of the
    /// batches' means, E\[x²\] − E\[x\]² with [`RunningVariance::Biased`]. Batches are counted as
    /// there. Switchable normalization's `using_moving_average=False`.
    Pooled,
}

impl Momentum {
    /// Whether the weight of a batch depends on how many there have been.
    pub fn counts_batches(self) -> bool {
        matches!(self, Self::Cumulative | Self::Pooled)
    }

    /// The share of (mean − running mean)² in the running variance, at a batch of this weight.
    ///
    /// ```
    /// use cellnorm::Momentum;
    /// // the second of two batches: half of the variance of two means is (a − b)² / 4
    /// assert_eq!(Momentum::Pooled.spread(0.5), 0.25);
    /// assert_eq!(Momentum::Cumulative.spread(0.5), 0.0);
    /// ```
    pub fn spread(self, weight: f64) -> f64 {
        if self == Self::Pooled { weight * (1.0 - weight) } else { 0.0 }
    }

    /// The weight of the batch in its step, counted from 1; in \[0, 1\].
    ///
    /// ```
    /// use cellnorm::Momentum;
    /// assert_eq!((Momentum::Step(0.1).weight(7), Momentum::Keep(0.75).weight(7)), (0.1, 0.25));
    /// assert_eq!(Momentum::Cumulative.weight(8), 0.125);
    /// ```
    pub fn weight(self, step: u64) -> f64 {
        match self {
            Self::Step(step) => step,
            Self::Keep(keep) => 1.0 - keep,
            Self::Cumulative | Self::Pooled => 1.0 / step.max(1) as f64,
        }
    }

    /// Where a statistic stands after a step of this weight toward another.
    pub(crate) fn moved(running: f64, to: f64, weight: f64) -> f64 {
        // the difference would round a small `to` away
        if weight == 1.0 { to } else { running + weight * (to - running) }
    }

    pub(crate) fn check(self) -> Result<(), Error> {
        let (Self::Step(given) | Self::Keep(given)) = self else { return Ok(()) };
        check_number("momentum", given, (0.0..=1.0).contains(&given), "between 0 and 1")
    }
}

/// Which variance of the batch the running variance moves toward; the biased one normalizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RunningVariance {
    /// M2 / (n − 1), as PyTorch does, and the fused operation of TensorFlow 2.
    #[default]
    Unbiased,
    /// M2 / n, as Keras 3, MXNet, ONNX and Flax do.
    Biased,
    /// M2 / (n − 1 − ε), as Keras 2.3.1 does.
    KerasLegacy,
}

impl RunningVariance {
    /// The legacy rule divides by n − 1 − ε, which must be positive from two values on.
    pub(crate) fn check(self, epsilon: f64) -> Result<(), Error> {
        let expected = "below 1 where the running variance is Keras' legacy one, which divides by \
                        n - 1 - epsilon";
        check_number("epsilon", epsilon, self != Self::KerasLegacy || epsilon < 1.0, expected)
    }

    /// The factor of the biased variance of n values; 1 for one value, whose variance is 0.
    ///
    /// ```
    /// use cellnorm::RunningVariance;
    /// let factors =
    ///     [RunningVariance::Unbiased, RunningVariance::Biased, RunningVariance::KerasLegacy]
    ///         .map(|r| r.factor(5.0, 0.5));
    /// assert_eq!(factors, [5.0 / 4.0, 1.0, 5.0 / 3.5]);
    /// ```
    pub fn factor(self, n: f64, epsilon: f64) -> f64 {
        match self {
            // infinite: what is averaged is no variance
            _ if n <= 1.0 || n.is_infinite() => 1.0,
            Self::Unbiased => n / (n - 1.0),
            Self::Biased => 1.0,
            Self::KerasLegacy => n / (n - 1.0 - epsilon),
        }
    }

    /// Whether the running variance moves toward that of n values. One value has no unbiased
    /// variance to move toward, unless the policy takes it as 0, as frameworks do that give β then.
    ///
    /// ```
    /// use cellnorm::{OneValue, RunningVariance};
    /// assert!(!RunningVariance::Unbiased.moves(1.0, OneValue::Error));
    /// assert!(RunningVariance::Unbiased.moves(2.0, OneValue::Error));
    /// assert!(
    ///     RunningVariance::Biased.moves(1.0, OneValue::Error)
    ///         && !RunningVariance::Biased.moves(0.0, OneValue::Error)
    /// );
    /// ```
    pub fn moves(self, n: f64, one_value: OneValue) -> bool {
        n > 1.0 || n > 0.0 && (self == Self::Biased || one_value == OneValue::Beta)
    }
}

/// The treatment of statistics of one value, whose variance is always 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OneValue {
    /// Training is an error, inference runs: PyTorch's batch normalization.
    #[default]
    Error,
    /// An error in inference too, except with running averages: PyTorch's instance normalization,
    /// and its group normalization of one sample.
    AlwaysError,
    /// The layer runs: y = β. Running statistics move, the variance toward 0: Keras, TensorFlow on
    /// the CPU, MXNet, Flax, ONNX.
    Beta,
    /// The running statistics normalize, and stay as they are; for normalizations that keep some.
    UseRunning,
}

impl OneValue {
    /// Where each statistic of an x of this shape has one value: whether the running statistics
    /// normalize it, and stay as they are. `batch`: whether statistics are those of x.
    ///
    /// # Errors
    /// If the policy refuses such an x.
    pub fn uses_running(
        self,
        layer: &'static str,
        shape: &[usize],
        batch: bool,
    ) -> Result<bool, Error> {
        match self {
            Self::Error if !batch => Ok(false),
            Self::Error | Self::AlwaysError => {
                Err(Error::OneValue { layer, shape: shape.to_vec() })
            }
            Self::UseRunning => Ok(true),
            Self::Beta => Ok(false),
        }
    }
}

/// The behaviour of a frozen batch normalization in training.
///
/// The three are what Keras meant by `trainable=False` at one time or another. See
/// [`Mode::frozen`](crate::Mode::frozen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// As inference: the running statistics normalize and stay. Keras 3 and tf.keras 2
    /// (`trainable=False`), Burn (`freeze`).
    Inference,
    /// The batch's statistics normalize, the running ones stay: Keras 2.3.1 (`trainable=False`).
    BatchStatistics,
    /// Only γ and β stay; the batch's statistics normalize and move the running ones. PyTorch
    /// (`requires_grad=False`), MXNet (`lr_mult=0`), early Keras 2.
    ParametersOnly,
}

/// Whose mean and variance normalize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum StatisticsFrom {
    /// The statistics of x.
    #[default]
    Batch,
    /// The running ones.
    Running,
}

/// The behaviour of [`forward`](crate::BatchNorm::forward) and `backward`. All eight settings work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Mode {
    /// Whose mean and variance normalize.
    pub statistics: StatisticsFrom,
    /// Whether the running statistics move toward those of x.
    pub update: bool,
    /// Whether γ and β have gradients.
    pub train_parameters: bool,
}

impl Mode {
    /// The batch's statistics normalize and move the running ones; γ and β are trained.
    pub const fn training() -> Self {
        Self { statistics: StatisticsFrom::Batch, update: true, train_parameters: true }
    }

    /// The running statistics normalize and stay. γ and β keep their gradients, as with PyTorch's
    /// `eval()`.
    pub const fn inference() -> Self {
        Self { statistics: StatisticsFrom::Running, update: false, train_parameters: true }
    }

    /// A frozen layer in training: γ and β have no gradients, statistics do as [`Frozen`] says.
    ///
    /// ```
    /// use cellnorm::{
    ///     Mode,
    ///     momentum::{Frozen, StatisticsFrom},
    /// };
    /// let keras_legacy = Mode::frozen(Frozen::BatchStatistics);
    /// assert_eq!((keras_legacy.statistics, keras_legacy.update), (StatisticsFrom::Batch, false));
    /// ```
    pub const fn frozen(regime: Frozen) -> Self {
        let (statistics, update) = match regime {
            Frozen::Inference => (StatisticsFrom::Running, false),
            Frozen::BatchStatistics => (StatisticsFrom::Batch, false),
            Frozen::ParametersOnly => (StatisticsFrom::Batch, true),
        };
        Self { statistics, update, train_parameters: false }
    }
}

impl Default for Mode {
    fn default() -> Self {
        Self::training()
    }
}

/// The state that `train`, `freeze` and `unfreeze` set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) training: bool,
    pub(crate) frozen: Option<Frozen>,
}

impl Phase {
    /// Training, not frozen.
    pub(crate) const START: Self = Self { training: true, frozen: None };

    pub(crate) fn mode(self) -> Mode {
        match (self.frozen, self.training) {
            (None, true) => Mode::training(),
            (None, false) => Mode::inference(),
            (Some(regime), true) => Mode::frozen(regime),
            // in inference all regimes are one
            (Some(_), false) => Mode::frozen(Frozen::Inference),
        }
    }
}
