//! Local response normalization: each value is divided by a power of the mean square of its neighbours in channel.
//!
//! y_c = x_c / d_c^β with d_c = k + (α / size) · Σ x_j², over the `size` channels j around c at the same sample and position.
//! Channels beyond the first and the last count as zeros; the sum is always divided by `size`. With r_c = d_c^(−β):
//!
//! dx_j = r_j dy_j − (2 α β / size) · x_j · Σ dy_c x_c r_c / d_c, over the channels c whose windows hold j
//!
//! Source: A. Krizhevsky, I. Sutskever, G. E. Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*, 2012,
//! section 3.3. Defaults as `torch.nn.LocalResponseNorm` of PyTorch 2.

use ndarray::{Array, ArrayView, Dimension};

use super::lines::{Lines, map_lines, narrow, wide};
use crate::arrays::axis_index;
use crate::element::Element;
use crate::error::Error;
use crate::sharing::{Along, Measure, Sharing};

/// On which side of its channel a window of even size is longer by one; of odd size, both sides are equal.
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
/// What frameworks mean, as numbers for this config:
///
/// | framework | size | α | β | bias k | window | channel axis |
/// |---|---|---|---|---|---|---|
/// | PyTorch `LocalResponseNorm` | `size` | `alpha` (1e-4) | 0.75 | 1 | left | 1 |
/// | ONNX `LRN` | `size` | `alpha` (1e-4) | 0.75 | 1 | right | 1 |
/// | MXNet `LRN` | `nsize`, odd | `alpha` (1e-4) | 0.75 | 2 | | 1 |
/// | TensorFlow `tf.nn.local_response_normalization` | 2 · `depth_radius` + 1 | `alpha` · size (1 · 11) | 0.5 | 1 | | −1 |
///
/// TensorFlow does not divide α by the size, so here its α is multiplied by it. The paper uses size 5, k = 2, β = 0.75 and,
/// undivided, α = 1e-4, which is 5e-4 here.
///
/// ```
/// use cellnorm::{LocalResponseNormConfig, Window};
/// let onnx = LocalResponseNormConfig::new(4).window(Window::Right).init()?;
/// let (depth_radius, alpha) = (5, 1.0);
/// let size = 2 * depth_radius + 1;
/// let tensorflow = LocalResponseNormConfig::new(size).alpha(alpha * size as f64).beta(0.5).channel_axis(-1).init()?;
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
        Self { size, alpha: 1e-4, beta: 0.75, bias: 1.0, window: Window::default(), channel_axis: 1 }
    }

    /// α, the weight of the mean square of a window. Default: 1e-4.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// The exponent β. Default: 0.75.
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// The constant k that the mean square is added to. Default: 1.
    pub fn bias(mut self, bias: f64) -> Self {
        self.bias = bias;
        self
    }

    /// Where windows of even size lie. Default: [`Window::Left`].
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// The axis of the channels; negative counts from the last. Default: 1 (NCHW); −1 for channels-last.
    pub fn channel_axis(mut self, axis: isize) -> Self {
        self.channel_axis = axis;
        self
    }

    /// The layer.
    ///
    /// # Errors
    /// If the size is 0, α or β is negative or not finite, the bias k is not finite and at least 1e-36, or k^(−β) overflows.
    pub fn init(self) -> Result<LocalResponseNorm, Error> {
        let number = |name, given, sound: bool, expected| match sound {
            true => Ok(()),
            false => Err(Error::Number { name, given, expected }),
        };
        let not_negative = |given: f64| given.is_finite() && given >= 0.0;
        number("size", self.size as f64, self.size > 0, "at least 1")?;
        number("alpha", self.alpha, not_negative(self.alpha), "finite and not negative, such as 1e-4")?;
        let bias = (1e-36..f64::INFINITY).contains(&self.bias);
        number("bias", self.bias, bias, "finite and at least 1e-36, such as 1")?;
        let beta = not_negative(self.beta) && self.bias.powf(-self.beta).is_finite();
        number("beta", self.beta, beta, "not negative, such as 0.75, and bias^-beta finite")?;
        Ok(LocalResponseNorm(self))
    }
}

/// Local response normalization of tensors of any rank ≥ 2. Made by [`LocalResponseNormConfig`].
///
/// It has no parameters, and is the same in training and in inference.
///
/// ```
/// use cellnorm::LocalResponseNormConfig;
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
        let along = channel.iter().map(|channel| if *channel { Along::Window { before, after } } else { Along::Apart });
        let (name, measure) = ("local-response", Measure::SumOfSquares);
        Ok(Sharing { name, measure, shape: shape.to_vec(), along: along.collect() })
    }
}

impl LocalResponseNorm {
    /// Normalizes.
    ///
    /// # Errors
    /// If x has fewer than 2 axes or no such channel axis, is empty, or holds NaN, infinity or numbers too large to square; a
    /// statistic, in that message, is a position of a sample.
    pub fn forward<T: Element, D: Dimension>(&self, x: ArrayView<'_, T, D>) -> Result<Array<T, D>, Error> {
        let along = self.along(x.shape())?;
        map_lines([x], &along, |[x], y| {
            let x: Vec<f64> = x.iter().map(wide).collect();
            let d = self.denominators(&x)?;
            for ((y, x), d) in y.iter_mut().zip(&x).zip(&d) {
                *y = narrow(x * d.powf(-self.0.beta));
            }
            Ok(())
        })
    }

    /// The gradient of x, given the x of the forward pass and dy.
    ///
    /// # Errors
    /// As [`LocalResponseNorm::forward`], or if dy has another shape than x or holds NaN, infinity or numbers too large to sum.
    pub fn backward<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
        dy: ArrayView<'_, T, D>,
    ) -> Result<Array<T, D>, Error> {
        let along = self.along(x.shape())?;
        let (before, after) = self.reach();
        let factor = 2.0 * self.0.alpha * self.0.beta / self.0.size as f64;
        map_lines([x, dy], &along, |[x, dy], dx| {
            let x: Vec<f64> = x.iter().map(wide).collect();
            let d = self.denominators(&x)?;
            let direct: Vec<f64> = dy.iter().zip(&d).map(|(dy, d)| wide(dy) * d.powf(-self.0.beta)).collect();
            let terms: Vec<f64> = direct.iter().zip(&x).zip(&d).map(|((direct, x), d)| direct * (x / d)).collect();
            // j is in the window of c where c is in the mirrored window of j
            let sums = window_sums(&terms, after, before);
            if !sums.iter().all(|sum| sum.is_finite()) {
                return Err("dy");
            }
            for (((dx, direct), x), sum) in dx.iter_mut().zip(&direct).zip(&x).zip(&sums) {
                *dx = narrow(direct - factor * x * sum);
            }
            Ok(())
        })
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

    /// d of each channel.
    fn denominators(&self, x: &[f64]) -> Result<Vec<f64>, &'static str> {
        let squares: Vec<f64> = x.iter().map(|x| x * x).collect();
        let (before, after) = self.reach();
        let mut d = window_sums(&squares, before, after);
        for d in &mut d {
            *d = self.0.bias + self.0.alpha / self.0.size as f64 * *d;
            if !d.is_finite() {
                return Err("x");
            }
        }
        Ok(d)
    }
}

/// The sum over each value, `before` values before it and `after` after it, where there are so many.
///
/// A sum that slides by adding the next value and subtracting the last keeps the rounding errors of what has left the window.
/// Here values are cut into blocks as long as a window, so each window is the end of one block and the beginning of the next
/// (M. van Herk, 1992, does so for maxima): nothing is subtracted, and the work is the same for every size.
fn window_sums(values: &[f64], before: usize, after: usize) -> Vec<f64> {
    let farthest = values.len() - 1;
    let (before, after) = (before.min(farthest), after.min(farthest));
    let size = before + after + 1;
    let mut to_end = vec![0.0; values.len() + before + after];
    to_end[before..][..values.len()].copy_from_slice(values);
    let mut from_start = to_end.clone();
    for block in from_start.chunks_mut(size) {
        (1..block.len()).for_each(|i| block[i] += block[i - 1]);
    }
    for block in to_end.chunks_mut(size) {
        (1..block.len()).rev().for_each(|i| block[i - 1] += block[i]);
    }
    let window = |i: usize| to_end[i] + if i.is_multiple_of(size) { 0.0 } else { from_start[i + size - 1] };
    (0..values.len()).map(window).collect()
}
