//! Local response normalization: y_c = x_c / d_c^β with d_c = k + (α / size) · Σ x_j² over the
//! `size` channels j around c.

use candle_core::{CpuStorage, CustomOp1, Layout, Module, Result, Shape, Tensor};
use cellnorm::norms::Lines;
use cellnorm::norms::LocalResponseNormConfig;
use cellnorm::shape::Along;

use crate::numbers::{to_storage, untracked, view, with_elements, with_gradient, wrong};
use crate::ops::accumulator;

const NAME: &str = cellnorm::norms::LocalResponseNorm::NAME;

/// Local response normalization, without parameters, the same in training and in inference; see
/// [`cellnorm::norms::LocalResponseNorm`].
///
/// x has at least two axes; NaN, infinity and numbers too large to square are refused. On the CPU
/// computed in f64; on other devices in f32 unless x is f64, where squares overflow from about 10¹⁹
/// on and y is 0.
///
/// Source: A. Krizhevsky, I. Sutskever, G. E. Hinton, *ImageNet Classification with Deep
/// Convolutional Neural Networks*, 2012; defaults as `torch.nn.LocalResponseNorm` of PyTorch 2.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_nn::Module;
/// use cellnorm_candle::LocalResponseNorm;
/// // one position of three channels: the windows hold 1 + 4, 1 + 4 + 9 and 4 + 9
/// let layer = LocalResponseNorm { alpha: 3.0, beta: 1.0, ..LocalResponseNorm::new(3) };
/// let y = layer.forward(&Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu)?)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalResponseNorm {
    /// How many neighbouring channels a window holds.
    pub size: usize,
    /// α, the weight of the mean square of a window. Default: 1e-4.
    pub alpha: f64,
    /// The exponent β. Default: 0.75.
    pub beta: f64,
    /// The constant k that the mean square is added to. Default: 1.
    pub bias: f64,
    /// Where windows of even size lie. Default: longer toward the first channel, as PyTorch.
    pub window: cellnorm::norms::Window,
    /// The axis of the channels; negative counts from the last. Default: 1; −1 for channels-last.
    pub channel_axis: isize,
}

impl LocalResponseNorm {
    /// Windows of `size` channels.
    pub fn new(size: usize) -> Self {
        let window = cellnorm::norms::Window::default();
        Self { size, alpha: 1e-4, beta: 0.75, bias: 1.0, window, channel_axis: 1 }
    }

    /// The layer on arrays, which checks the fields and knows where windows lie.
    fn on_arrays(self) -> Result<cellnorm::norms::LocalResponseNorm> {
        let config = LocalResponseNormConfig::new(self.size)
            .alpha(self.alpha)
            .beta(self.beta)
            .bias(self.bias);
        config.window(self.window).channel_axis(self.channel_axis).init().map_err(wrong)
    }

    /// The layer of Candle's own operations.
    pub(crate) fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let sharing = self.on_arrays()?.sharing(x.dims()).map_err(wrong)?;
        if x.elem_count() == 0 {
            return Ok(x.clone());
        }
        let window = |(axis, along): (usize, &Along)| match *along {
            Along::Window { before, after } => Some((axis, before, after)),
            _ => None,
        };
        let Some((axis, before, after)) = sharing.along.iter().enumerate().find_map(window) else {
            candle_core::bail!("{NAME}: no axis holds windows")
        };
        let wide = x.to_dtype(accumulator(x.dtype()))?;
        let sums = window_sums(&wide.sqr()?, axis, before, after)?;
        let d = sums.affine(self.alpha / self.size as f64, self.bias)?;
        (wide * d.powf(-self.beta)?)?.to_dtype(x.dtype())
    }
}

impl Module for LocalResponseNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() { x.apply_op1(*self) } else { self.composed(x) }
    }
}

impl CustomOp1 for LocalResponseNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let layer = self.on_arrays()?;
        let y = with_elements!(x, NAME, x => {
            layer.forward(view(x, layout)?).map(to_storage).map_err(wrong)
        })?;
        Ok((y, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let layer = self.on_arrays()?;
        let dx = with_gradient!(x, dy, NAME, (x_view, dy_view) => {
            layer.backward(x_view, dy_view).map(to_storage).map_err(wrong)
        })?;
        Ok(Some(untracked(dx, x.shape())))
    }
}

/// The sum over each value along an axis, `before` values before it and `after` after it, where
/// there are so many.
fn window_sums(values: &Tensor, axis: usize, before: usize, after: usize) -> Result<Tensor> {
    let len = values.dim(axis)?;
    let (before, after) = (before.min(len - 1), after.min(len - 1));
    let padded = values.pad_with_zeros(axis, before, after)?;
    let shifted = |by: usize| padded.narrow(axis, by, len);
    (1..=before + after).try_fold(shifted(0)?, |sum, by| sum + shifted(by)?)
}
