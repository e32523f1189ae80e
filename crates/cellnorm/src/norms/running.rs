//! How running statistics follow those of the batches.

use ndarray::Array1;

use crate::error::Error;
use crate::semantics::OneValue;

/// How far the running statistics move in one training step.
///
/// A type rather than a number, because frameworks disagree about its direction.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Momentum {
    /// running = (1 − m) · running + m · batch, as PyTorch means it (default 0.1).
    Step(f64),
    /// running = m · running + (1 − m) · batch, as Keras (default 0.99), MXNet and ONNX (default
    /// 0.9) mean it.
    Keep(f64),
    /// The plain mean of all batches so far: the k-th has the weight 1/k. PyTorch's
    /// `momentum=None`. Batches are counted for all channels together: one that a mask leaves empty
    /// in the first batch keeps a share of what it started with. So do the averages of a
    /// [`StepBatchNorm`](super::StepBatchNorm) that is given one step at a time, since each call
    /// counts: give it whole sequences.
    Cumulative,
}

impl Momentum {
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
            Self::Cumulative => 1.0 / step.max(1) as f64,
        }
    }

    pub(crate) fn check(self) -> Result<(), Error> {
        match self {
            Self::Step(given) | Self::Keep(given) if !(0.0..=1.0).contains(&given) => {
                Err(Error::Number { name: "momentum", given, expected: "between 0 and 1" })
            }
            _ => Ok(()),
        }
    }
}

/// Which variance of the batch the running variance moves toward. The batch itself is always
/// normalized with the biased one.
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
        if self == Self::KerasLegacy && epsilon >= 1.0 {
            let expected = "below 1 where the running variance is Keras' legacy one, which \
                            divides by n - 1 - epsilon";
            return Err(Error::Number { name: "epsilon", given: epsilon, expected });
        }
        Ok(())
    }

    /// What the biased variance of n values is multiplied by; 1 for a single value, whose variance
    /// is 0.
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
}

impl RunningVariance {
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

impl Momentum {
    /// Where a statistic stands after a step of this weight toward another.
    pub(crate) fn moved(running: f64, to: f64, weight: f64) -> f64 {
        // the difference would round a small `to` away
        if weight == 1.0 { to } else { running + weight * (to - running) }
    }
}

/// running += weight · (correction · batch − running), channel by channel.
pub(super) fn follow(
    running: &mut Array1<f64>,
    batch: &[f64],
    correction: impl Fn(usize) -> f64,
    weight: impl Fn(usize) -> f64,
) {
    for (channel, (running, batch)) in running.iter_mut().zip(batch).enumerate() {
        *running = Momentum::moved(*running, batch * correction(channel), weight(channel));
    }
}

/// Running statistics may have been set since the layer was made.
pub(super) fn check_statistics(
    mean: &Array1<f64>,
    variance: &Array1<f64>,
    channels: usize,
) -> Result<(), Error> {
    for (name, table) in [("running_mean", mean), ("running_var", variance)] {
        if table.len() != channels {
            return Err(Error::Parameter {
                name,
                given: vec![table.len()],
                expected: vec![channels],
            });
        }
        if let Some(given) =
            table.iter().find(|v| !v.is_finite() || (name == "running_var" && **v < 0.0))
        {
            return Err(Error::Number {
                name,
                given: *given,
                expected: "finite, and a variance not negative",
            });
        }
    }
    Ok(())
}
