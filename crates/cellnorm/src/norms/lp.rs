//! Lp normalization: the vectors along some axes are divided by their length.
//!
//! y = x / D with D = ‖x‖_p = (Σ |x_i|^p)^(1/p), or max |x_i| for p = ∞, kept from 0 by a [`Floor`]. There are no parameters.
//! With n = ‖x‖_p:
//!
//! dx_i = (dy_i − (Σ dy_j y_j) · ∂D/∂n · ∂n/∂x_i) / D,   ∂n/∂x_i = sign(x_i) (|x_i| / n)^(p − 1)
//!
//! For p = ∞ the largest values share ∂n/∂x equally. ∂D/∂n is 0 where a floor under the norm holds; then dx = dy / D.
//!
//! Defaults as `torch.nn.functional.normalize` of PyTorch 2.

use ndarray::{Array, ArrayView, Dimension};

use super::lines::{Lines, map_lines, narrow, reduce, wide};
use crate::arrays::axis_set;
use crate::element::Element;
use crate::error::{Error, check_epsilon};
use crate::sharing::{Measure, Sharing};

/// What keeps the divisor D from 0, with n = ‖x‖_p.
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
    /// D = n; a vector of zeros gives y = 0 and dx = 0. Where D is below 1e-38, dx can be too large for f32.
    None,
}

/// Makes an [`LpNorm`].
///
/// ```
/// use cellnorm::{Floor, LpNormConfig};
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

    /// Unit normalization: p = 2 with the floor of Keras 3, `MaxSquare(1e-24)`. Its default axes are `&[-1]`.
    #[doc(alias = "UnitNorm")]
    pub fn unit(axes: &[isize]) -> Self {
        Self::new(axes).floor(Floor::MaxSquare(1e-24))
    }

    /// The power p ≥ 1; `f64::INFINITY` divides by the largest magnitude. Default: 2.
    pub fn p(mut self, p: f64) -> Self {
        self.p = p;
        self
    }

    /// What keeps the divisor from 0. Default: `Floor::Max(1e-12)`.
    pub fn floor(mut self, floor: Floor) -> Self {
        self.floor = floor;
        self
    }

    /// The layer.
    ///
    /// # Errors
    /// If no axis is named, p is below 1, or the floor's ε is not finite and at least 1e-36.
    pub fn init(self) -> Result<LpNorm, Error> {
        if self.axes.is_empty() {
            return Err(Error::NoAxes);
        }
        if self.p.is_nan() || self.p < 1.0 {
            let expected = "at least 1, or f64::INFINITY for the largest magnitude";
            return Err(Error::Number { name: "p", given: self.p, expected });
        }
        if let Floor::Max(epsilon) | Floor::MaxSquare(epsilon) | Floor::AddSquare(epsilon) = self.floor {
            check_epsilon(epsilon)?;
        }
        Ok(LpNorm(self))
    }
}

/// Lp normalization over any axes of tensors of any rank. Made by [`LpNormConfig`].
///
/// It has no parameters, and is the same in training and in inference. Norms are f64, and neither overflow nor vanish for any
/// finite x.
///
/// ```
/// use cellnorm::LpNormConfig;
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
}

impl LpNorm {
    /// Normalizes.
    ///
    /// # Errors
    /// If an axis does not exist or is named twice, or x is empty or holds NaN or infinity; a statistic, in that message, is a
    /// vector.
    pub fn forward<T: Element, D: Dimension>(&self, x: ArrayView<'_, T, D>) -> Result<Array<T, D>, Error> {
        let along = axis_set(&self.0.axes, x.ndim())?;
        map_lines([x], &along, |[x], y| {
            let divisor = Divisor::new(self.length(x)?, self.0.floor);
            for (y, x) in y.iter_mut().zip(x) {
                *y = narrow(divisor.divide(wide(x)));
            }
            Ok(())
        })
    }

    /// The gradient of x, given the x of the forward pass and dy.
    ///
    /// # Errors
    /// As [`LpNorm::forward`], or if dy has another shape than x or holds NaN, infinity or numbers too large to sum.
    pub fn backward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
        dy: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>, Error> {
        let along = axis_set(&self.0.axes, x.ndim())?;
        map_lines([x, dy], &along, |[x, dy], dx| {
            let length = self.length(x)?;
            let divisor = Divisor::new(length, self.0.floor);
            let through_length = reduce([x, dy], |[x, dy]| divisor.divide(x) * dy, add);
            if !through_length.is_finite() {
                return Err("dy");
            }
            let factor = through_length * divisor.slope;
            let largest = x.iter().filter(|x| wide(*x).abs() == length.scale).count();
            for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                *dx = narrow(divisor.divide(wide(dy) - factor * self.slope(wide(x), length, largest)));
            }
            Ok(())
        })
    }

    /// x / D of one vector; None where D does not depend on x: the floor is above its length, or it is zeros.
    pub(crate) fn divided(&self, x: &[f64]) -> Result<Option<Vec<f64>>, Error> {
        let length = self.length(x).map_err(|name| Error::NotFinite { name, set: 0, sets: 1 })?;
        let divisor = Divisor::new(length, self.0.floor);
        Ok((divisor.slope > 0.0).then(|| x.iter().map(|x| divisor.divide(*x)).collect()))
    }

    /// ‖x‖_p.
    fn length<T: Element>(&self, x: &[T]) -> Result<Length, &'static str> {
        // a comparison with NaN is false, so NaN stays
        let scale = reduce([x], |[x]| x.abs(), |a, b| if a >= b || a.is_nan() { a } else { b });
        if !scale.is_finite() {
            return Err("x");
        }
        let unit = Divisor::by(scale, 1.0, 1.0);
        let relative = match self.0.p {
            _ if scale == 0.0 => 0.0,
            1.0 => reduce([x], |[x]| unit.divide(x).abs(), add),
            2.0 => reduce([x], |[x]| unit.divide(x).powi(2), add).sqrt(),
            f64::INFINITY => 1.0,
            p => reduce([x], |[x]| unit.divide(x).abs().powf(p), add).powf(1.0 / p),
        };
        Ok(Length { scale, relative })
    }

    /// ∂n/∂x_i, where `largest` values have the largest magnitude.
    fn slope(&self, x: f64, length: Length, largest: usize) -> f64 {
        if x == 0.0 {
            return 0.0;
        }
        let share = x.abs() / length.scale / length.relative;
        let magnitude = match self.0.p {
            1.0 => 1.0,
            2.0 => share,
            f64::INFINITY if x.abs() < length.scale => 0.0,
            f64::INFINITY => 1.0 / largest as f64,
            p => share.powf(p - 1.0),
        };
        magnitude.copysign(x)
    }
}

/// n as scale · relative, where scale = max |x| and relative is the norm of x / scale: powers of that neither overflow nor
/// vanish.
#[derive(Clone, Copy)]
struct Length {
    scale: f64,
    relative: f64,
}

/// 1 / D as a product, for the same reason, and ∂D/∂n.
struct Divisor {
    first: f64,
    second: f64,
    slope: f64,
}

impl Divisor {
    fn new(length: Length, floor: Floor) -> Self {
        let Length { scale, relative } = length;
        let at_least = |least: f64| match scale * relative < least {
            true => Self::by(least, 1.0, 0.0),
            false => Self::by(scale, relative, 1.0),
        };
        match floor {
            Floor::Max(epsilon) => at_least(epsilon),
            Floor::MaxSquare(epsilon) => at_least(epsilon.sqrt()),
            Floor::AddSquare(epsilon) => {
                let common = scale.max(epsilon.sqrt());
                let norm = scale / common * relative;
                let both = norm.hypot(epsilon.sqrt() / common);
                Self::by(common, both, norm / both)
            }
            Floor::None => Self::by(scale, relative, 1.0),
        }
    }

    /// D = scale · relative; where that is 0, everything divided by it is 0.
    fn by(scale: f64, relative: f64, slope: f64) -> Self {
        if scale == 0.0 {
            return Self { first: 0.0, second: 0.0, slope: 0.0 };
        }
        // 1 / scale can overflow, or have lost digits below the least normal number; the second factor makes up for both
        let first = f64::min(1.0 / scale, 1e300);
        Self { first, second: 1.0 / (scale * first * relative), slope }
    }

    #[inline(always)]
    fn divide(&self, value: f64) -> f64 {
        value * self.first * self.second
    }
}

fn add(a: f64, b: f64) -> f64 {
    a + b
}
