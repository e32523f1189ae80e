//! Lp normalization: the vectors along some axes are divided by their length.
//!
//! y = x / D with D = ‖x‖_p = (Σ |x_i|^p)^(1/p), or max |x_i| for p = ∞, kept from 0 by a
//! [`Floor`]. There are no parameters. With n = ‖x‖_p:
//!
//! dx_i = (dy_i − (Σ dy_j y_j) · ∂D/∂n · ∂n/∂x_i) / D,   ∂n/∂x_i = sign(x_i) (|x_i| / n)^(p − 1)
//!
//! For p = ∞ the largest values share ∂n/∂x equally. ∂D/∂n is 0 under a floor; then dx = dy
//! / D.
//!
//! Defaults as `torch.nn.functional.normalize` of PyTorch 2.

use ndarray::{Array, ArrayView, Dimension};

use super::length::{Divisor, Divisors, Lengths, Slope, Slopes, add, for_lines, joined, length};
use super::lines::{Lines, map_lines, narrow, reduce, wide};
use super::strips::{Fault, for_strips};
use crate::error::{Error, check_epsilon, check_number};
use crate::kernels::Element;
use crate::shape::{Cells, Measure, Sharing, axis_set};

/// A floor that keeps the divisor D from 0, with n = ‖x‖_p. [`LpNormConfig::preset`] takes a
/// framework's.
///
/// | framework | floor |
/// |---|---|
/// | PyTorch `F.normalize` | `Max(1e-12)` |
/// | Keras 3 `UnitNormalization` | `MaxSquare(1e-24)` |
/// | TensorFlow `tf.math.l2_normalize`, and with it tf.keras | `MaxSquare(1e-12)` |
/// | Flax `SpectralNorm` and `WeightNorm` | `AddSquare(1e-12)` |
/// | MXNet `L2Normalization` | `AddSquare(1e-10)` |
/// | ONNX `LpNormalization` | `None` |
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Floor {
    /// D = max(n, ε).
    Max(f64),
    /// D = √max(n², ε).
    MaxSquare(f64),
    /// D = √(n² + ε).
    AddSquare(f64),
    /// D = n; a vector of zeros gives y = 0 and dx = 0. Below 1e-38, dx can be too large for f32.
    None,
}

/// Makes an [`LpNorm`].
///
/// ```
/// use cellnorm::norms::{Floor, LpNormConfig};
/// // ONNX LpNormalization with its defaults
/// let onnx = LpNormConfig::new(&[-1]).p(2.0).floor(Floor::None).init()?;
/// // the largest value of each image becomes 1
/// let largest = LpNormConfig::new(&[1, 2, 3]).p(f64::INFINITY).init()?;
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LpNormConfig {
    axes: Vec<isize>,
    p: f64,
    floor: Floor,
}

impl LpNormConfig {
    /// Vectors along `axes`, divided by their Euclidean length; negative axes count from the last.
    pub fn new(axes: &[isize]) -> Self {
        Self { axes: axes.to_vec(), p: 2.0, floor: Floor::Max(1e-12) }
    }

    /// Unit normalization: p = 2 with the floor of Keras 3, `MaxSquare(1e-24)`. Its default axes
    /// are `&[-1]`.
    #[doc(alias = "UnitNorm")]
    pub fn unit(axes: &[isize]) -> Self {
        Self::new(axes).floor(Floor::MaxSquare(1e-24))
    }

    setters! {
        /// The power p ≥ 1; `f64::INFINITY` divides by the largest magnitude. Default: 2.
        p: f64,
        /// The floor that keeps the divisor from 0. Default: `Floor::Max(1e-12)`.
        floor: Floor,
    }

    /// The layer.
    ///
    /// # Errors
    /// If no axis is named, p is below 1, or the floor's ε is not finite and at least 1e-36.
    pub fn init(self) -> Result<LpNorm, Error> {
        if self.axes.is_empty() {
            return Err(Error::NoAxes);
        }
        let expected = "at least 1, or f64::INFINITY for the largest magnitude";
        check_number("p", self.p, self.p >= 1.0, expected)?;
        match self.floor {
            Floor::Max(floor) | Floor::MaxSquare(floor) | Floor::AddSquare(floor) => {
                check_epsilon(floor)?;
            }
            Floor::None => {}
        }
        Ok(LpNorm(self))
    }
}

/// Lp normalization over any axes of tensors of any rank. Made by [`LpNormConfig`].
///
/// It has no parameters, and is the same in training and in inference. Norms are f64, and neither
/// overflow nor vanish for any finite x.
///
/// ```
/// use cellnorm::norms::LpNormConfig;
/// let x = ndarray::array![[3.0_f32, 4.0], [0.0, -2.0]];
/// let layer = LpNormConfig::unit(&[-1]).init()?;
/// assert_eq!(layer.forward(x.view())?, ndarray::array![[0.6, 0.8], [0.0, -1.0]]);
/// // a gradient along x changes only the length, which is gone
/// assert_eq!(layer.backward(x.view(), x.view())?.row(1), ndarray::array![0.0, 0.0]);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LpNorm(LpNormConfig);

impl Lines for LpNorm {
    const NAME: &'static str = "Lp normalization";
    const FORMULA: &'static str = "y = x / (Σ |x|^p)^(1/p)";

    fn sharing(&self, shape: &[usize]) -> Result<Sharing, Error> {
        let along = axis_set(&self.0.axes, shape.len())?;
        Ok(Sharing::over("lp", Measure::Norm, shape, |axis| !along[axis]))
    }

    fn forward_lines<T: Element>(&self, x: &[T], y: &mut [T], lines: &Cells) -> Result<(), Fault> {
        let LpNormConfig { p, floor, .. } = self.0;
        if lines.inner == 1 {
            return for_lines(
                x,
                y,
                lines.positions,
                #[inline(always)]
                |x, y| {
                    let length = length(x, p);
                    let divisor = Divisor::new(length, floor);
                    for (y, x) in y.iter_mut().zip(x) {
                        *y = narrow(divisor.divide(wide(x)));
                    }
                    length.checked().map(drop)
                },
            );
        }
        for_strips(
            x,
            y,
            lines,
            #[inline(always)]
            |x, y, strip, (): &mut ()| {
                let lengths = Lengths::new(x, strip, p);
                let divisors = Divisors::new(&lengths, floor);
                for i in 0..strip.len {
                    strip.store(y, i, divisors.divide(strip.load(x, i)));
                }
                lengths.checked()
            },
        )
    }

    fn backward_lines<T: Element>(
        &self,
        x: &[T],
        dy_dx: &mut [T],
        lines: &Cells,
    ) -> Result<(), Fault> {
        let LpNormConfig { p, floor, .. } = self.0;
        if lines.inner == 1 {
            return for_lines(
                x,
                dy_dx,
                lines.positions,
                #[inline(always)]
                |x, dy_dx| {
                    let length = length(x, p);
                    let divisor = Divisor::new(length, floor);
                    let through_length = reduce([x, dy_dx], |[x, dy]| divisor.divide(x) * dy, add);
                    let slope = Slope::new(p, length, || x.iter().map(wide));
                    let factor = through_length * divisor.slope;
                    for (dy_dx, x) in dy_dx.iter_mut().zip(x) {
                        *dy_dx = narrow(divisor.divide(wide(dy_dx) - factor * slope.at(wide(x))));
                    }
                    length.checked().and(if through_length.is_finite() {
                        Ok(())
                    } else {
                        Err("dy")
                    })
                },
            );
        }
        for_strips(
            x,
            dy_dx,
            lines,
            #[inline(always)]
            |x, dy_dx, strip, (): &mut ()| {
                let lengths = Lengths::new(x, strip, p);
                let divisors = Divisors::new(&lengths, floor);
                let through_lengths = joined(
                    strip.len,
                    add,
                    #[inline(always)]
                    |i| divisors.divide(strip.load(x, i)).zip(strip.load(dy_dx, i), |y, dy| y * dy),
                );
                let units = Divisors::of(&lengths);
                let slopes = Slopes::new(p, &lengths, |line| strip.line(x, line));
                let factors = through_lengths
                    .zip(divisors.slope, |through_length, slope| through_length * slope);
                for i in 0..strip.len {
                    let through = factors
                        .zip(slopes.at(&units, strip.load(x, i)), |factor, slope| factor * slope);
                    let dx = strip.load(dy_dx, i).zip(through, |dy, through| dy - through);
                    strip.store(dy_dx, i, divisors.divide(dx));
                }
                lengths.checked().and(through_lengths.finite("dy"))
            },
        )
    }
}

impl LpNorm {
    /// Normalizes.
    ///
    /// # Errors
    /// If an axis does not exist or is named twice, a norm has no values, or x holds NaN or
    /// infinity; a statistic, in that message, is a vector.
    pub fn forward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>, Error> {
        let along = axis_set(&self.0.axes, x.ndim())?;
        map_lines(x, None, &along, |x, y, lines| self.forward_lines(x, y, lines))
    }

    /// The gradient of x, given the x of the forward pass and dy.
    ///
    /// # Errors
    /// As [`LpNorm::forward`], or if dy has another shape than x or its sums are not finite.
    pub fn backward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
        dy: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>, Error> {
        let along = axis_set(&self.0.axes, x.ndim())?;
        map_lines(x, Some(dy), &along, |x, dy, lines| self.backward_lines(x, dy, lines))
    }

    /// x / D of one vector; None where D does not depend on x: below the floor, or for zeros.
    pub(crate) fn divided(&self, x: &[f64]) -> Result<Option<Vec<f64>>, Error> {
        let length = length(x, self.0.p);
        length.checked().map_err(|name| Error::NotFinite { name, set: 0, sets: 1 })?;
        let divisor = Divisor::new(length, self.0.floor);
        Ok((divisor.slope > 0.0).then(|| x.iter().map(|x| divisor.divide(*x)).collect()))
    }
}
