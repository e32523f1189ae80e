//! Penalties: the part of the loss that grows with a parameter's size.

use ndarray::{ArrayD, Zip};

use crate::error::{Error, check_number, check_shape};

/// A penalty on the size of a parameter w, without a factor ½: Keras' convention.
///
/// With L2, λ Σ w² has the gradient 2 λ w: the weight decay of an optimizer that adds `decay` · w
/// to the gradient is λ = decay / 2.
///
/// ```
/// use cellnorm::parameters::Regularizer;
/// let gamma = ndarray::array![2.0, -1.0].into_dyn();
/// let mut gradient = ndarray::array![0.0, 0.0].into_dyn();
/// Regularizer::L2(0.1).add_gradient(&gamma, &mut gradient)?;
/// assert_eq!(Regularizer::L2(0.1).loss(&gamma)?, 0.5);
/// assert_eq!(gradient, ndarray::array![0.4, -0.2].into_dyn());
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Regularizer {
    /// λ Σ |w|; the gradient at 0 is 0.
    L1(f64),
    /// λ Σ w².
    L2(f64),
    /// l1 Σ |w| + l2 Σ w².
    L1L2 {
        /// The factor of Σ |w|.
        l1: f64,
        /// The factor of Σ w².
        l2: f64,
    },
}

impl Regularizer {
    /// The penalty of the parameter.
    ///
    /// # Errors
    /// If a factor is negative or not finite.
    pub fn loss(&self, parameter: &ArrayD<f64>) -> Result<f64, Error> {
        let (l1, l2) = self.factors()?;
        Ok(parameter.iter().map(|w| l1 * w.abs() + l2 * w * w).sum())
    }

    /// Adds the gradient of [`Regularizer::loss`] to the parameter's.
    ///
    /// # Errors
    /// If a factor is negative or not finite, or the two have different shapes.
    pub fn add_gradient(
        &self,
        parameter: &ArrayD<f64>,
        gradient: &mut ArrayD<f64>,
    ) -> Result<(), Error> {
        let (l1, l2) = self.factors()?;
        check_shape("the parameter's gradient", gradient.shape(), parameter.shape())?;
        // signum(0) is 1
        let sign = |w: f64| if w == 0.0 { 0.0 } else { w.signum() };
        Zip::from(gradient)
            .and(parameter)
            .for_each(|gradient, &w| *gradient += l1 * sign(w) + 2.0 * l2 * w);
        Ok(())
    }

    /// The factors of Σ |w| and of Σ w².
    ///
    /// # Errors
    /// If one is negative or not finite.
    pub fn factors(&self) -> Result<(f64, f64), Error> {
        let (l1, l2) = match *self {
            Self::L1(l1) => (l1, 0.0),
            Self::L2(l2) => (0.0, l2),
            Self::L1L2 { l1, l2 } => (l1, l2),
        };
        for (name, factor) in [("the regularizer's l1", l1), ("the regularizer's l2", l2)] {
            let sound = (0.0..f64::INFINITY).contains(&factor);
            check_number(name, factor, sound, "finite and at least 0")?;
        }
        Ok((l1, l2))
    }
}
