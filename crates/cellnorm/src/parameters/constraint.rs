//! Constraints that a parameter satisfies after every step of the optimizer.

use ndarray::{ArrayD, Axis};

use crate::error::{Error, check_number, check_numbers};
use crate::shape::axis_index;

/// Added to the norm in [`Constraint::MaxNorm`], as in Keras.
const EPSILON: f64 = 1e-7;

/// A set that a parameter is moved back into, after the optimizer's step.
///
/// ```
/// use cellnorm::parameters::Constraint;
/// let mut gamma = ndarray::array![1.5, -0.25].into_dyn();
/// Constraint::NonNegative.apply(&mut gamma)?;
/// assert_eq!(gamma, ndarray::array![1.5, 0.0].into_dyn());
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Constraint {
    /// w where w ≥ 0, else 0. Keras: `NonNeg`.
    NonNegative,
    /// w · min(‖w‖, max) / (1e-7 + ‖w‖), with a norm for every vector along `axis`. Keras:
    /// `MaxNorm`, with axis 0, which for a γ of one axis is all of it. As in Keras, shorter vectors
    /// shrink too, by 1e-7 / ‖w‖.
    MaxNorm {
        /// The greatest norm.
        max: f64,
        /// The axis of the vectors; negative counts from the last.
        axis: isize,
    },
    /// The nearest number in \[low, high\].
    Clip {
        /// The least value.
        low: f64,
        /// The greatest value.
        high: f64,
    },
}

impl Constraint {
    /// That the constraint can be kept.
    ///
    /// # Errors
    /// If `max` is negative or not finite, or `low` is not at most `high`.
    pub fn check(&self) -> Result<(), Error> {
        match *self {
            Self::NonNegative => Ok(()),
            Self::MaxNorm { max, .. } => {
                let sound = (0.0..f64::INFINITY).contains(&max);
                check_number("the constraint's max", max, sound, "finite and at least 0")
            }
            Self::Clip { low, high } => {
                check_number("the constraint's low", low, low <= high, "no more than high")
            }
        }
    }

    /// Moves the parameter into the set.
    ///
    /// # Errors
    /// As [`Constraint::check`]; or if the axis does not exist, or the parameter holds NaN or
    /// infinity. Then nothing has changed.
    pub fn apply(&self, parameter: &mut ArrayD<f64>) -> Result<(), Error> {
        self.check()?;
        check_numbers("the constrained parameter", &*parameter, f64::is_finite, "finite")?;
        match *self {
            Self::NonNegative => parameter.mapv_inplace(|value| value.max(0.0)),
            Self::MaxNorm { max, axis } => {
                let axis = axis_index(axis, parameter.ndim())?;
                for mut vector in parameter.lanes_mut(Axis(axis)) {
                    let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
                    let factor = norm.min(max) / (EPSILON + norm);
                    vector.mapv_inplace(|value| value * factor);
                }
            }
            Self::Clip { low, high } => parameter.mapv_inplace(|value| value.clamp(low, high)),
        }
        Ok(())
    }
}
