//! Local response normalization for Burn.
//!
//! y_c = x_c / d_c^β with d_c = k + (α / size) · Σ x_j², over the `size` channels j around c at the
//! same sample and position; see [`cellnorm::norms::LocalResponseNorm`]. On Flex its passes serve;
//! on other devices this is composed of Burn's own operations, and the squares are added up `size`
//! times, shifted by one channel more each time.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use cellnorm::norms::Window;
use cellnorm::shape::Along;

use super::lines;
use crate::ops::LineLayer;

/// Makes a [`LocalResponseNorm`]. What frameworks mean, as numbers for this config, is at
/// [`cellnorm::norms::LocalResponseNormConfig`].
#[derive(Config, Debug)]
pub struct LocalResponseNormConfig {
    /// How many neighbouring channels a window holds.
    pub size: usize,
    /// α, the weight of the mean square of a window. Default: 1e-4
    #[config(default = 1e-4)]
    pub alpha: f64,
    /// The exponent β. Default: 0.75
    #[config(default = 0.75)]
    pub beta: f64,
    /// The constant k that the mean square is added to. Default: 1
    #[config(default = 1.0)]
    pub bias: f64,
    /// Where windows of even size lie. Default: longer toward the first channel, as PyTorch
    #[config(default = "Window::Left")]
    pub window: Window,
    /// The axis of the channels; negative counts from the last. Default: 1; −1 for channels-last
    #[config(default = 1)]
    pub channel_axis: isize,
}

/// Local response normalization of tensors of any rank ≥ 2, without parameters, the same in
/// training and in inference.
///
/// On Flex computed in f64. On other devices computed in f32 unless x is f64: from about 10¹⁹ on,
/// squares overflow and y is 0.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::LocalResponseNormConfig;
/// // one position of three channels: the windows hold 1 + 4, 1 + 4 + 9 and 4 + 9
/// let x = Tensor::<2>::from_floats([[1.0, 2.0, 3.0]], &Device::flex());
/// let y = LocalResponseNormConfig::new(3).with_alpha(3.0).with_beta(1.0).init().forward(x);
/// let expected =
///     Tensor::<2>::from_floats([[1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0]], &Device::flex());
/// y.into_data().assert_approx_eq::<f32>(&expected.into_data(), Default::default());
/// ```
#[derive(Module, Debug)]
pub struct LocalResponseNorm {
    /// How many neighbouring channels a window holds.
    pub size: usize,
    /// α, the weight of the mean square of a window.
    pub alpha: f64,
    /// The exponent β.
    pub beta: f64,
    /// The constant k that the mean square is added to.
    pub bias: f64,
    /// Where windows of even size lie.
    #[module(skip)]
    pub window: Window,
    /// The axis of the channels.
    pub channel_axis: isize,
}

impl LocalResponseNormConfig {
    /// The layer.
    ///
    /// # Panics
    /// If the size is 0, α or β is negative or not finite, the bias k is not finite and at least
    /// 1e-36, or k^(−β) overflows.
    pub fn init(&self) -> LocalResponseNorm {
        let Self { size, alpha, beta, bias, window, channel_axis } = *self;
        let layer = LocalResponseNorm { size, alpha, beta, bias, window, channel_axis };
        layer.on_arrays();
        layer
    }
}

impl LocalResponseNorm {
    /// Normalizes.
    ///
    /// # Panics
    /// If x has fewer than 2 axes or no such channel axis, or no channels.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        lines(x, LineLayer::LocalResponse(self.on_arrays()), |x, along| {
            let window = |(axis, along): (usize, &Along)| match *along {
                Along::Window { before, after } => Some((axis, before, after)),
                _ => None,
            };
            let (axis, before, after) =
                along.iter().enumerate().find_map(window).expect("a window of channels");
            let sums = window_sums(x.clone() * x.clone(), axis, before, after);
            let d = sums.mul_scalar(self.alpha / self.size as f64).add_scalar(self.bias);
            x * d.powf_scalar(-self.beta)
        })
    }

    /// The layer on arrays, which knows what is sound and where windows lie.
    fn on_arrays(&self) -> cellnorm::norms::LocalResponseNorm {
        let config = cellnorm::norms::LocalResponseNormConfig::new(self.size)
            .alpha(self.alpha)
            .beta(self.beta);
        let config = config.bias(self.bias).window(self.window).channel_axis(self.channel_axis);
        config.init().unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The sum over each value along an axis, `before` values before it and `after` after it, where
/// there are so many.
fn window_sums<const D: usize>(
    values: Tensor<D>,
    axis: usize,
    before: usize,
    after: usize,
) -> Tensor<D> {
    let len = values.dims()[axis];
    let zeros = |count: usize| {
        let mut shape = values.dims();
        shape[axis] = count;
        (count > 0).then(|| Tensor::zeros(shape, (&values.device(), values.dtype())))
    };
    let (before, after) = (before.min(len - 1), after.min(len - 1));
    let padded =
        [zeros(before), Some(values.clone()), zeros(after)].into_iter().flatten().collect();
    let padded = Tensor::cat(padded, axis);
    let shifted = |by: usize| padded.clone().narrow(axis, by, len);
    (1..=before + after).fold(shifted(0), |sum, by| sum + shifted(by))
}
