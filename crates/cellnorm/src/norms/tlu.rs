//! The thresholded linear unit: a ReLU whose threshold is learned.
//!
//! y = max(x, τ), or in its affine form y = max(x, α x + τ), with τ and α for each channel or each
//! index along several axes. Where x is the larger, or both are equal, dx = dy; elsewhere dx = α
//! dy, and dτ = Σ dy, dα = Σ dy x, with α = 0 in the plain form.
//!
//! It follows filter response normalization, which leaves the mean where it is, so that a ReLU's 0
//! is no good place to cut.
//!
//! Source: S. Singh, S. Krishnan, *Filter Response Normalization Layer*, 2020, with τ for each
//! channel; the affine form is that of `TLU` in TensorFlow Addons 0.23, which has τ and α for each
//! element of a sample.

use ndarray::{Array, ArrayD, ArrayView, ArrayViewD, Dimension, IxDyn, Zip};

use super::axes::{check_lengths, named_axes};
use super::lines::{narrow, wide};
use crate::error::{Error, check_dy, check_numbers, check_shape};
use crate::rule::{like, typed};
use crate::{kernels::Element, shape::check_size};

/// Makes a [`Tlu`].
#[derive(Clone, Debug)]
pub struct TluConfig {
    axes: Vec<isize>,
    lengths: Vec<usize>,
    affine: bool,
}

impl TluConfig {
    /// τ for each of `channels` channels on axis 1, as in the paper; `over(&[-1], &[channels])` has
    /// them last.
    pub fn new(channels: usize) -> Self {
        Self::over(&[1], &[channels])
    }

    /// τ for each index along `axes`, negative ones counted from the last; `lengths` are in the
    /// order of the tensor's axes. TensorFlow Addons takes all axes but that of the samples.
    pub fn over(axes: &[isize], lengths: &[usize]) -> Self {
        Self { axes: axes.to_vec(), lengths: lengths.to_vec(), affine: false }
    }

    /// Whether there is a slope α below the threshold. Default: false.
    pub fn affine(mut self, affine: bool) -> Self {
        self.affine = affine;
        self
    }

    /// The unit, with τ = 0, and α = 0 where it is affine: a ReLU at first.
    ///
    /// # Errors
    /// If there is not one length for each axis, or τ would have too many elements.
    pub fn init(self) -> Result<Tlu, Error> {
        check_lengths(&self.axes, &self.lengths)?;
        check_size(&self.lengths)?;
        let zeros = ArrayD::zeros(IxDyn(&self.lengths));
        let alpha = self.affine.then(|| zeros.clone());
        Ok(Tlu { tau: zeros, alpha, axes: self.axes, lengths: self.lengths })
    }
}

/// The thresholded linear unit, the same in training and in inference. Made by [`TluConfig`].
///
/// ```
/// use cellnorm::norms::{FilterResponseNormConfig, TluConfig};
/// use ndarray::{Array3, array};
/// let x = Array3::from_shape_fn((2, 3, 4), |(n, c, s)| {
///     ((5 * n + 3 * c + s * s) % 7) as f32 - 3.0
/// });
/// let normalized = FilterResponseNormConfig::new(3).init()?.infer(x)?;
/// let mut unit = TluConfig::new(3).init()?;
/// unit.tau = array![-0.5, 0.0, 0.5].into_dyn();
/// let y = unit.forward(normalized.view())?;
/// assert_eq!(y[[0, 2, 1]], normalized[[0, 2, 1]].max(0.5));
/// let gradients = unit.backward(normalized.view(), y.view())?;
/// assert_eq!(gradients.dtau.shape(), [3]);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tlu {
    /// The thresholds τ, in the shape of the axes' lengths.
    pub tau: ArrayD<f64>,
    /// The slopes α, in the same shape; None in the plain form.
    pub alpha: Option<ArrayD<f64>>,
    axes: Vec<isize>,
    lengths: Vec<usize>,
}

/// The gradients of a [`Tlu`].
#[derive(Clone, Debug, PartialEq)]
pub struct TluGradients<T, D: Dimension> {
    /// ∂L/∂x.
    pub dx: Array<T, D>,
    /// ∂L/∂τ, in the shape of τ.
    pub dtau: ArrayD<f64>,
    /// ∂L/∂α, in the shape of α; None in the plain form.
    pub dalpha: Option<ArrayD<f64>>,
}

/// τ and α by number, and the number that belongs to each element of x.
struct Thresholds {
    tau: Vec<f64>,
    alpha: Option<Vec<f64>>,
    /// Broadcasts to the shape of x.
    numbers: ArrayD<usize>,
}

impl Thresholds {
    fn alpha(&self, number: usize) -> f64 {
        self.alpha.as_ref().map_or(0.0, |alpha| alpha[number])
    }

    /// The value that takes the place of x; None where x stays, NaN too.
    fn instead(&self, x: f64, number: usize) -> Option<f64> {
        // 0 · x would be NaN for an infinite x
        let slope = self.alpha.as_ref().map_or(0.0, |alpha| alpha[number] * x);
        Some(slope + self.tau[number]).filter(|other| *other > x)
    }

    /// Σ dy and Σ dy x of each threshold, where it takes the place of x; in logical order, so that
    /// memory's does not matter.
    fn sums<T: Element>(
        &self,
        x: ArrayViewD<'_, T>,
        dy: ArrayViewD<'_, T>,
    ) -> Result<(Vec<f64>, Vec<f64>), Error> {
        let sets = self.tau.len();
        let (mut dtau, mut dalpha) = (vec![0.0; sets], vec![0.0; sets]);
        let numbers = self.numbers.broadcast(x.shape()).expect("the lengths of x, or 1");
        for ((x, dy), number) in x.iter().zip(&dy).zip(&numbers) {
            let (x, dy) = (wide(x), wide(dy));
            if self.instead(x, *number).is_some() {
                dtau[*number] += dy;
                dalpha[*number] += dy * x;
            }
        }
        let finite = |set: &usize| {
            dtau[*set].is_finite() && (self.alpha.is_none() || dalpha[*set].is_finite())
        };
        match (0..sets).find(|set| !finite(set)) {
            Some(set) => Err(Error::NotFinite { name: "dy", set, sets }),
            None => Ok((dtau, dalpha)),
        }
    }
}

impl Tlu {
    /// max(x, τ), or max(x, α x + τ). NaN stays NaN.
    ///
    /// # Errors
    /// If x does not have the unit's axes with their lengths, or τ or α was set to another shape or
    /// to NaN or infinity.
    pub fn forward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>, Error> {
        let thresholds = self.thresholds(x.shape())?;
        let value = |x: &T, number| thresholds.instead(wide(x), number).map_or(*x, narrow);
        let mut y = like(&x.view().into_dyn(), vec![T::default(); x.len()]);
        Zip::from(&mut y)
            .and(&x.into_dyn())
            .and_broadcast(&thresholds.numbers)
            .for_each(|y, x, number| *y = value(x, *number));
        Ok(typed(y))
    }

    /// The gradients, given the x of the forward pass and dy.
    ///
    /// # Errors
    /// As [`Tlu::forward`], or if dy has another shape than x, or a sum of dy or of dy x is not
    /// finite; a statistic, in that message, is an index along the unit's axes.
    pub fn backward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
        dy: ArrayView<'_, T, D>,
    ) -> Result<TluGradients<T, D>, Error> {
        let thresholds = self.thresholds(x.shape())?;
        let (x, dy) = (x.into_dyn(), dy.into_dyn());
        check_dy(dy.shape(), x.shape())?;
        let slope = |x: &T, number| match thresholds.instead(wide(x), number) {
            Some(_) => thresholds.alpha(number),
            None => 1.0,
        };
        let mut dx = like(&x, vec![T::default(); x.len()]);
        Zip::from(&mut dx)
            .and(&x)
            .and(&dy)
            .and_broadcast(&thresholds.numbers)
            .for_each(|dx, x, dy, number| *dx = narrow(slope(x, *number) * wide(dy)));
        let (dtau, dalpha) = thresholds.sums(x, dy)?;
        let shaped = |values| {
            ArrayD::from_shape_vec(IxDyn(&self.lengths), values).expect("as many values as τ")
        };
        let dalpha = self.alpha.as_ref().map(|_| shaped(dalpha));
        Ok(TluGradients { dx: typed(dx), dtau: shaped(dtau), dalpha })
    }

    fn thresholds(&self, shape: &[usize]) -> Result<Thresholds, Error> {
        let named = named_axes(shape, &self.axes, &self.lengths)?;
        for (name, values) in [("tau", Some(&self.tau)), ("alpha", self.alpha.as_ref())] {
            let Some(values) = values else { continue };
            check_shape(name, values.shape(), &self.lengths)?;
            check_numbers(name, values, f64::is_finite, "finite")?;
        }
        let flat = |values: &ArrayD<f64>| values.iter().copied().collect::<Vec<f64>>();
        let along: Vec<usize> =
            named.iter().zip(shape).map(|(named, len)| if *named { *len } else { 1 }).collect();
        let numbers = ArrayD::from_shape_vec(IxDyn(&along), (0..self.tau.len()).collect());
        let (tau, alpha) = (flat(&self.tau), self.alpha.as_ref().map(flat));
        Ok(Thresholds { tau, alpha, numbers: numbers.expect("a number for each threshold") })
    }
}
