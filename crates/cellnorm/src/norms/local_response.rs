//! Local response normalization: each value is divided by a power of its neighbours' mean square.
//!
//! y_c = x_c / d_c^β with d_c = k + (α / size) · Σ x_j², over the `size` channels j around c at the
//! same sample and position. Channels beyond the first and the last count as zeros; the sum is
//! always divided by `size`. With r_c = d_c^(−β):
//!
//! dx_j = r_j dy_j − (2 α β / size) · x_j · Σ dy_c x_c r_c / d_c, over all c whose windows hold
//! j
//!
//! Source: A. Krizhevsky, I. Sutskever, G. E. Hinton, *ImageNet Classification with Deep
//! Convolutional Neural Networks*, 2012, section 3.3. Defaults as `LocalResponseNorm` of PyTorch 2.

use ndarray::{Array, ArrayView, Dimension};

use super::lines::{Lines, map_lines};
use super::strips::{Fault, Row, Strip, for_strips};
use super::windows::{Power, Windows};
use crate::error::{Error, check_number};
use crate::kernels::Element;
use crate::shape::{Along, Cells, Measure, Sharing, axis_index};

/// On which side of its channel a window of even size is longer by one; odd ones are symmetric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Window {
    /// Toward the first channel: c − size/2 to c + size/2 − 1.
    #[default]
    Left,
    /// Toward the last channel: c − size/2 + 1 to c + size/2.
    Right,
}

/// Makes a [`LocalResponseNorm`].
///
/// The settings of frameworks, which [`preset`](Self::preset) makes, as numbers for this config:
///
/// | framework | size | α | β | bias k | window | channel axis |
/// |---|---|---|---|---|---|---|
/// | PyTorch `LocalResponseNorm` | `size` | `alpha` (1e-4) | 0.75 | 1 | left | 1 |
/// | ONNX `LRN` | `size` | `alpha` (1e-4) | 0.75 | 1 | right | 1 |
/// | MXNet `LRN` | `nsize`, odd | `alpha` (1e-4) | 0.75 | 2 | | 1 |
/// | TensorFlow `tf.nn.local_response_normalization` | 2 · `depth_radius` + 1 | `alpha` · size (1 · 11) | 0.5 | 1 | | −1 |
///
/// TensorFlow does not divide α by the size, so here its α is multiplied by it. The paper uses size
/// 5, k = 2, β = 0.75 and, undivided, α = 1e-4, which is 5e-4 here.
///
/// ```
/// use cellnorm::norms::{LocalResponseNormConfig, Window};
/// let onnx = LocalResponseNormConfig::new(4).window(Window::Right).init()?;
/// let (depth_radius, alpha) = (5, 1.0);
/// let size = 2 * depth_radius + 1;
/// let tensorflow = LocalResponseNormConfig::new(size)
///     .alpha(alpha * size as f64)
///     .beta(0.5)
///     .channel_axis(-1)
///     .init()?;
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LocalResponseNormConfig {
    size: usize,
    alpha: f64,
    beta: f64,
    bias: f64,
    window: Window,
    channel_axis: isize,
}

impl LocalResponseNormConfig {
    /// Windows of `size` channels on axis 1.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            alpha: 1e-4,
            beta: 0.75,
            bias: 1.0,
            window: Window::default(),
            channel_axis: 1,
        }
    }

    setters! {
        /// α, the weight of the mean square of a window. Default: 1e-4.
        alpha: f64,
        /// The exponent β. Default: 0.75.
        beta: f64,
        /// The constant k that the mean square is added to. Default: 1.
        bias: f64,
        /// Where windows of even size lie. Default: [`Window::Left`].
        window: Window,
        /// The axis of the channels; negative counts from the last. Default: 1 (NCHW); −1 for NHWC.
        channel_axis: isize,
    }

    /// The layer.
    ///
    /// # Errors
    /// If the size is 0, α or β is negative or not finite, the bias k is not finite and at least
    /// 1e-36, or k^(−β) overflows.
    pub fn init(self) -> Result<LocalResponseNorm, Error> {
        let Self { size, alpha, beta, bias, .. } = self;
        let not_negative = |given: f64| given.is_finite() && given >= 0.0;
        check_number("size", size as f64, size > 0, "at least 1")?;
        let expected = "finite and not negative, such as 1e-4";
        check_number("alpha", alpha, not_negative(alpha), expected)?;
        let sound = (1e-36..f64::INFINITY).contains(&bias);
        check_number("bias", bias, sound, "finite and at least 1e-36, such as 1")?;
        let sound = not_negative(beta) && bias.powf(-beta).is_finite();
        check_number("beta", beta, sound, "not negative, such as 0.75, and bias^-beta finite")?;
        Ok(LocalResponseNorm(self))
    }
}

/// Local response normalization of tensors of any rank ≥ 2. Made by [`LocalResponseNormConfig`].
///
/// It has no parameters, and is the same in training and in inference.
///
/// ```
/// use cellnorm::norms::LocalResponseNormConfig;
/// // one position of three channels: the windows hold 1 + 4, 1 + 4 + 9 and 4 + 9
/// let x = ndarray::array![[1.0_f32, 2.0, 3.0]];
/// let layer = LocalResponseNormConfig::new(3).alpha(3.0).beta(1.0).init()?;
/// let y = layer.forward(x.view())?;
/// assert_eq!(y, ndarray::array![[1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0]]);
/// let dx = layer.backward(x.view(), y.view())?;
/// assert_eq!(dx.dim(), (1, 3));
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LocalResponseNorm(LocalResponseNormConfig);

impl Lines for LocalResponseNorm {
    const NAME: &'static str = "local response normalization";
    const FORMULA: &'static str = "y = x / (k + α/n Σ x²)^β,  k, α, β fixed";

    fn sharing(&self, shape: &[usize]) -> Result<Sharing, Error> {
        let (channel, (before, after)) = (self.along(shape)?, self.reach());
        let window = Along::Window { before, after };
        let along = channel.iter().map(|channel| if *channel { window } else { Along::Apart });
        let (name, measure) = ("local-response", Measure::SumOfSquares);
        Ok(Sharing { name, measure, shape: shape.to_vec(), along: along.collect() })
    }

    fn forward_lines<T: Element>(&self, x: &[T], y: &mut [T], lines: &Cells) -> Result<(), Fault> {
        let power = Power::of(self.0.beta);
        for_strips(
            x,
            y,
            lines,
            #[inline(always)]
            |x, y, strip, windows: &mut Windows| {
                let mut finite = Row::ZEROS;
                self.denominators(
                    x,
                    strip,
                    windows,
                    #[inline(always)]
                    |i, d| {
                        finite = still(finite, d);
                        let (power, _) = power.of_row(d);
                        strip.store(y, i, strip.load(x, i).zip(power, |x, power| x * power));
                    },
                );
                finite.finite("x")
            },
        )
    }

    fn backward_lines<T: Element>(
        &self,
        x: &[T],
        dy_dx: &mut [T],
        lines: &Cells,
    ) -> Result<(), Fault> {
        let power = Power::of(self.0.beta);
        let (before, after) = self.reach();
        let factor = 2.0 * self.0.alpha * self.0.beta / self.0.size as f64;
        for_strips(
            x,
            dy_dx,
            lines,
            #[inline(always)]
            |x, dy_dx, strip, Scratch { direct, terms, windows }: &mut Scratch| {
                direct.resize(strip.len, Row::ZEROS);
                terms.resize(strip.len, Row::ZEROS);
                let (mut finite_x, mut finite_dy) = (Row::ZEROS, Row::ZEROS);
                self.denominators(
                    x,
                    strip,
                    windows,
                    #[inline(always)]
                    |i, d| {
                        finite_x = still(finite_x, d);
                        let (power, inverse) = power.of_row(d);
                        direct[i] = power.zip(strip.load(dy_dx, i), |power, dy| power * dy);
                        let share = strip.load(x, i).zip(inverse, |x, inverse| x * inverse);
                        terms[i] = direct[i].zip(share, |direct, share| direct * share);
                    },
                );
                // j is in the window of c where c is in the mirrored window of j
                windows.sum(
                    strip.len,
                    (after, before),
                    #[inline(always)]
                    |i| terms[i],
                    #[inline(always)]
                    |i, sum| {
                        finite_dy = still(finite_dy, sum);
                        let through = strip.load(x, i).zip(sum, |x, sum| factor * x * sum);
                        let dx = direct[i].zip(through, |direct, through| direct - through);
                        strip.store(dy_dx, i, dx);
                    },
                );
                finite_x.finite("x").and(finite_dy.finite("dy"))
            },
        )
    }
}

impl LocalResponseNorm {
    /// Normalizes.
    ///
    /// # Errors
    /// If x has fewer than 2 axes, no such channel axis or no channels, or holds NaN, infinity or
    /// numbers too large to square; a statistic, in that message, is a position of a sample.
    pub fn forward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>, Error> {
        let along = self.along(x.shape())?;
        map_lines(x, None, &along, |x, y, lines| self.forward_lines(x, y, lines))
    }

    /// The gradient of x, given the x of the forward pass and dy.
    ///
    /// # Errors
    /// As [`LocalResponseNorm::forward`], or if dy has another shape than x or holds NaN, infinity
    /// or numbers too large to sum.
    pub fn backward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
        dy: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>, Error> {
        let along = self.along(x.shape())?;
        map_lines(x, Some(dy), &along, |x, dy, lines| self.backward_lines(x, dy, lines))
    }

    fn along(&self, shape: &[usize]) -> Result<Vec<bool>, Error> {
        if shape.len() < 2 {
            return Err(Error::Rank { layer: Self::NAME, shape: shape.to_vec(), least: 2 });
        }
        let channel = axis_index(self.0.channel_axis, shape.len())?;
        Ok((0..shape.len()).map(|axis| axis == channel).collect())
    }

    /// How many channels before and after its own a window holds.
    fn reach(&self) -> (usize, usize) {
        let (long, short) = (self.0.size / 2, (self.0.size - 1) / 2);
        match self.0.window {
            Window::Left => (long, short),
            Window::Right => (short, long),
        }
    }

    /// Calls `give(channel, d)`, which must be `#[inline(always)]`, for each channel of a strip.
    #[inline(always)]
    fn denominators<T: Element>(
        &self,
        x: &[T],
        strip: Strip,
        windows: &mut Windows,
        mut give: impl FnMut(usize, Row),
    ) {
        let (bias, factor) = (self.0.bias, self.0.alpha / self.0.size as f64);
        windows.sum(
            strip.len,
            self.reach(),
            #[inline(always)]
            |i| strip.load(x, i).map(|x| x * x),
            #[inline(always)]
            |i, sum| give(i, sum.map(|sum| bias + factor * sum)),
        );
    }
}

/// The buffers of backward, which one strip hands on to the next.
#[derive(Default)]
struct Scratch {
    direct: Vec<Row>,
    terms: Vec<Row>,
    windows: Windows,
}

/// 0 as long as all values of a line are finite.
#[inline(always)]
#[expect(clippy::eq_op, reason = "0 for a finite value, else NaN")]
fn still(finite: Row, values: Row) -> Row {
    finite.zip(values, |finite, value| finite + (value - value))
}
