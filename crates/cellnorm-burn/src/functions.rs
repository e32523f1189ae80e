//! Differentiable functions on Burn tensors: fused where the device has the operations, composed of
//! Burn's own elsewhere.

use burn::tensor::Tensor;
use cellnorm::rule::{Rule, Tracked};
use cellnorm::{Activation, Mode, shape::Cells};

use crate::apply::{Call, affine_of_cells, moments_of_cells};
use crate::composed::wide;
use crate::tables::Table;

/// A normalized tensor and the statistics it was normalized with, which carry no gradient.
#[derive(Clone, Debug)]
pub struct Normalized<const D: usize> {
    /// The result, of the shape of x.
    pub y: Tensor<D>,
    /// The mean of each set, row-major over the axes that do not share statistics. For a rule with
    /// [`running_labels`](Rule::running_labels), the mean that each running average moves toward.
    pub mean: Tensor<1>,
    /// The biased variance of each set; about zero, the mean square. For a rule with
    /// [`running_labels`](Rule::running_labels), one for each running average, too.
    pub variance: Tensor<1>,
}

/// Normalizes x with its own statistics by a plain rule: act(γ (x − mean) / √(variance + ε) +
/// β), one autodiff node, so that neither γ x̂ + β nor its gradient is ever in memory.
///
/// γ and β are as long as the product of their shape in
/// [`Rule::parameters`]. On Flex the statistics are f64; elsewhere f32, of an x of f64 f64.
///
/// # Panics
/// If the rule is not plain, or the shape of x does not suit it; the message says what would.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::{cellnorm::Activation, functions::normalize, norms::Instance};
/// let x = Tensor::<4>::random([2, 3, 5, 5], Distribution::Default, &Device::flex());
/// let rule = Instance { channels: 3, channel_axis: 1 };
/// let out = normalize(&rule, x, [None, None], 1e-5, Activation::Relu);
/// assert_eq!((out.y.dims(), out.mean.dims()), ([2, 3, 5, 5], [6]));
/// assert_eq!(out.y.min().into_scalar::<f32>(), 0.0);
/// ```
pub fn normalize<R: Rule + 'static, const D: usize>(
    rule: &R,
    x: Tensor<D>,
    [gamma, beta]: [Option<Tensor<1>>; 2],
    epsilon: f64,
    activation: Activation,
) -> Normalized<D> {
    let parameters = vec![("gamma", gamma), ("beta", beta)];
    let call = Call { activation, ..Call::new(rule.clone(), epsilon, parameters) };
    let (y, tracked) = call.run(x, None);
    let Tracked { mean: Table(mean), variance: Table(variance), .. } =
        tracked.unwrap_or_else(|| panic!("{} is not plain", R::NAME));
    Normalized { y, mean, variance }
}

/// Normalizes x with given statistics, as in inference or in a frozen layer; they get no gradient.
/// The pairs are γ and β, and mean and variance. Mean and variance have a number for each set, or
/// for a rule with [`running_labels`](Rule::running_labels) one for each running average.
///
/// # Panics
/// Same as [`normalize`]; also if mean or variance has another length.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::{cellnorm::Activation, functions::normalize_fixed, norms::Batch};
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, -3.0], [5.0, 7.0]], &device);
/// let running = [[3.0, 2.0], [4.0, 25.0]].map(|of| Tensor::from_floats(of, &device));
/// let y =
///     normalize_fixed(&Batch::new(2, 1), x, [None, None], running, 1e-12, Activation::Relu);
/// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [0.0, 0.0, 1.0, 1.0]);
/// ```
pub fn normalize_fixed<R: Rule + 'static, const D: usize>(
    rule: &R,
    x: Tensor<D>,
    [gamma, beta]: [Option<Tensor<1>>; 2],
    [mean, variance]: [Tensor<1>; 2],
    epsilon: f64,
    activation: Activation,
) -> Tensor<D> {
    let parameters = vec![("gamma", gamma), ("beta", beta)];
    let (running, mode) = (Some((mean, variance)), Mode::inference());
    let call = Call::new(rule.clone(), epsilon, parameters);
    Call { running, mode, activation, ..call }.run(x, None).0
}

/// The mean and the biased variance of each cell of x, \[N, C\] each; both differentiable.
///
/// x is \[N, C, …\], or with `channels_last` \[N, …, C\]; the moments are f32 at least. With
/// [`cell_affine`] this is all that a normalization needs: merge and blend the tables with Burn's
/// own operations, and the large tensor is still touched by the fused passes alone.
///
/// # Panics
/// If x has fewer than 2 axes.
///
/// ```
/// use burn::tensor::Tensor;
/// use cellnorm_burn::functions::{cell_affine, cell_moments};
///
/// /// Batch-instance normalization: a gate ρ for each channel blends two results.
/// fn batch_instance(x: Tensor<4>, rho: Tensor<2>, affine: [Tensor<2>; 2]) -> Tensor<4> {
///     let [gamma, beta] = affine;
///     let (mean, variance) = cell_moments(x.clone(), false); // [N, C]
///     let batch_mean = mean.clone().mean_dim(0); // [1, C]
///     let spread = (mean.clone() - batch_mean.clone()).square();
///     let batch_variance = (variance.clone() + spread).mean_dim(0);
///     let r_batch = (batch_variance + 1e-5).sqrt().recip() * rho.clone();
///     let r_instance = (variance + 1e-5).sqrt().recip() * (rho.neg() + 1.0);
///     let scale = gamma.clone() * (r_batch.clone() + r_instance);
///     let offset = gamma * r_batch * (mean.clone() - batch_mean) + beta;
///     cell_affine(x, mean, scale, offset, false)
/// }
///
/// # use burn::tensor::{Device, Distribution};
/// let device = Device::flex().autodiff();
/// let x = Tensor::<4>::random([4, 2, 3, 3], Distribution::Default, &device).require_grad();
/// let table = |v: f32| Tensor::<2>::full([1, 2], v, &device);
/// let y = batch_instance(x.clone(), table(1.0), [table(1.0), table(0.0)]);
/// let z = batch_instance(x.clone(), table(0.3), [table(1.0), table(0.0)]);
/// assert!(y.mean().into_scalar::<f32>().abs() < 1e-5);
/// assert_eq!(x.grad(&z.square().sum().backward()).unwrap().dims(), [4, 2, 3, 3]);
/// ```
pub fn cell_moments<const D: usize>(x: Tensor<D>, channels_last: bool) -> (Tensor<2>, Tensor<2>) {
    let (n, c, cells) = cells_of(&x, channels_last);
    let dtype = wide(x.dtype());
    let (mean, variance) = moments_of_cells(x, cells, [n, c]);
    (mean.cast(dtype), variance.cast(dtype))
}

/// (x − center) · scale + offset with the coefficients of each cell; differentiable in all four.
/// Example: [`cell_moments`].
///
/// Tables are \[N, C\] or broadcast to it (\[1, C\], \[N, 1\]); x as in [`cell_moments`].
///
/// # Panics
/// If a table does not broadcast to \[N, C\].
pub fn cell_affine<const D: usize>(
    x: Tensor<D>,
    center: Tensor<2>,
    scale: Tensor<2>,
    offset: Tensor<2>,
    channels_last: bool,
) -> Tensor<D> {
    let (n, c, cells) = cells_of(&x, channels_last);
    affine_of_cells(x, [center, scale, offset].map(|table| table.expand([n, c])), cells)
}

/// (N, C, cells) of x.
fn cells_of<const D: usize>(x: &Tensor<D>, channels_last: bool) -> (usize, usize, Cells) {
    let shape = x.dims();
    assert!(D >= 2, "a tensor of shape {shape:?} has no channels; cells need at least [N, C]");
    let (n, elements) = (shape[0], shape.iter().product::<usize>());
    let c = shape[if channels_last { D - 1 } else { 1 }];
    let positions = elements / (n * c).max(1);
    let cells = if channels_last {
        Cells::channels_last(n, positions, c)
    } else {
        Cells::channels_first(n, c, positions)
    };
    (n, c, cells)
}
