//! Differentiable functions on Burn tensors: fused where the device has the operations, composed of
//! Burn's own elsewhere.

use burn::backend::Dispatch;
use burn::tensor::Tensor;
use cellnorm::norms::Kind;

use cellnorm::{Activation, Cells};

use crate::composed;
use crate::ops::{LineOps, LineSpec, NormOps, Spec, is_fused};

/// A normalized tensor and the statistics it was normalized with, which carry no gradient.
#[derive(Clone, Debug)]
pub struct Normalized<const D: usize> {
    /// The result, of the shape of x.
    pub y: Tensor<D>,
    /// The mean of each set, row-major over the axes that do not share statistics.
    pub mean: Tensor<1>,
    /// The biased variance of each set; about zero, the mean square.
    pub variance: Tensor<1>,
}

/// Normalizes x with its own statistics: γ (x − mean) / √(variance + ε) + β, one autodiff node.
///
/// γ and β are as long as [`Kind::parameter_shape`]'s product. On Flex the statistics are f64;
/// elsewhere of x's type.
///
/// # Panics
/// If the shape of x does not suit the kind; the message says what would.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::{functions::normalize, norms::Instance};
/// let x = Tensor::<4>::random([2, 3, 5, 5], Distribution::Default, &Device::flex());
/// let out = normalize(&Instance { channels: 3, channel_axis: 1 }, x, None, None, 1e-5);
/// assert_eq!((out.y.dims(), out.mean.dims()), ([2, 3, 5, 5], [6]));
/// ```
pub fn normalize<K: Kind, const D: usize>(
    kind: &K,
    x: Tensor<D>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Normalized<D> {
    normalize_activated(kind, x, gamma, beta, epsilon, Activation::Identity)
}

/// As [`normalize`], with an activation behind it, in the same passes forward and backward: one
/// autodiff node, and neither γ x̂ + β nor its gradient is ever in memory.
///
/// # Panics
/// As [`normalize`].
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::{
///     cellnorm::Activation, functions::normalize_activated, norms::Instance,
/// };
/// let x = Tensor::<4>::random([2, 3, 5, 5], Distribution::Default, &Device::flex());
/// let kind = Instance { channels: 3, channel_axis: 1 };
/// let y = normalize_activated(&kind, x, None, None, 1e-5, Activation::Relu).y;
/// assert_eq!(y.min().into_scalar::<f32>(), 0.0);
/// ```
pub fn normalize_activated<K: Kind, const D: usize>(
    kind: &K,
    x: Tensor<D>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
    activation: Activation,
) -> Normalized<D> {
    let spec = spec(kind, &x, &gamma, &beta, epsilon).activated(activation);
    if !is_fused(x.device().as_dispatch()) {
        let (y, mean, variance) = composed::normalize(x, gamma, beta, None, &spec);
        return Normalized { y, mean, variance };
    }
    let (gamma, beta) = (or_absent(gamma, &x), or_absent(beta, &x));
    let (y, mean, variance) = <Dispatch as NormOps>::normalize(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        spec,
    );
    let (mean, variance) = (Tensor::from_dispatch(mean), Tensor::from_dispatch(variance));
    Normalized { y: Tensor::from_dispatch(y), mean, variance }
}

/// Normalizes x with given statistics, as in inference or in a frozen layer; they get no gradient.
///
/// # Panics
/// As [`normalize`].
pub fn normalize_fixed<K: Kind, const D: usize>(
    kind: &K,
    x: Tensor<D>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    normalize_fixed_activated(
        kind,
        x,
        (gamma, beta),
        (mean, variance),
        epsilon,
        Activation::Identity,
    )
}

/// As [`normalize_fixed`], with an activation behind it, act(γ (x − mean) / √(variance + ε) + β),
/// in the same pass. The pairs are γ and β, each as long as [`Kind::parameter_shape`]'s product,
/// and mean and variance, each with a number for each set.
///
/// # Panics
/// As [`normalize`].
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use cellnorm_burn::{
///     cellnorm::Activation, functions::normalize_fixed_activated, norms::Batch,
/// };
/// let device = Device::flex();
/// let x = Tensor::<2>::from_floats([[1.0, -3.0], [5.0, 7.0]], &device);
/// let running =
///     (Tensor::from_floats([3.0, 2.0], &device), Tensor::from_floats([4.0, 25.0], &device));
/// let kind = Batch { channels: 2, channel_axis: 1 };
/// let y =
///     normalize_fixed_activated(&kind, x, (None, None), running, 1e-12, Activation::Relu);
/// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [0.0, 0.0, 1.0, 1.0]);
/// ```
pub fn normalize_fixed_activated<K: Kind, const D: usize>(
    kind: &K,
    x: Tensor<D>,
    (gamma, beta): (Option<Tensor<1>>, Option<Tensor<1>>),
    (mean, variance): (Tensor<1>, Tensor<1>),
    epsilon: f64,
    activation: Activation,
) -> Tensor<D> {
    let spec = spec(kind, &x, &gamma, &beta, epsilon).activated(activation);
    if !is_fused(x.device().as_dispatch()) {
        let statistics = (mean.detach(), variance.detach());
        return composed::normalize(x, gamma, beta, Some(statistics), &spec).0;
    }
    let (gamma, beta) = (or_absent(gamma, &x), or_absent(beta, &x));
    Tensor::from_dispatch(<Dispatch as NormOps>::normalize_fixed(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        spec,
    ))
}

/// The mean and the biased variance of each cell of x, \[N, C\] each; both differentiable.
///
/// x is \[N, C, …\], or with `channels_last` \[N, …, C\]. With [`cell_affine`] this is all that a
/// normalization needs: merge and blend the tables with Burn's own operations, and the large tensor
/// is still touched by the fused passes alone.
///
/// # Panics
/// If x has fewer than 2 axes.
///
/// ```
/// use burn::tensor::Tensor;
/// use cellnorm_burn::functions::{cell_affine, cell_moments};
///
/// /// Batch-instance normalization: a gate ρ for each channel blends the batch's and the instance's result.
/// fn batch_instance(x: Tensor<4>, rho: Tensor<2>, gamma: Tensor<2>, beta: Tensor<2>) -> Tensor<4> {
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
/// let y = batch_instance(x.clone(), table(1.0), table(1.0), table(0.0));
/// let z = batch_instance(x.clone(), table(0.3), table(1.0), table(0.0));
/// assert!(y.mean().into_scalar::<f32>().abs() < 1e-5);
/// assert_eq!(x.grad(&z.square().sum().backward()).unwrap().dims(), [4, 2, 3, 3]);
/// ```
pub fn cell_moments<const D: usize>(x: Tensor<D>, channels_last: bool) -> (Tensor<2>, Tensor<2>) {
    let (n, c, cells) = cells_of(&x, channels_last);
    let dtype = x.dtype();
    let (mean, variance) = moments_of_cells(x, cells, [n, c]);
    (mean.cast(dtype), variance.cast(dtype))
}

/// As [`cell_moments`], for any cells, in f64 where the operation is fused.
pub(crate) fn moments_of_cells<const D: usize>(
    x: Tensor<D>,
    cells: Cells,
    shape: [usize; 2],
) -> (Tensor<2>, Tensor<2>) {
    if !is_fused(x.device().as_dispatch()) {
        return composed::cell_moments(x, cells, shape);
    }
    let moments =
        Tensor::<2>::from_dispatch(<Dispatch as NormOps>::cell_moments(x.into_dispatch(), cells));
    let table = |i: usize| moments.clone().narrow(0, i, 1).reshape(shape);
    (table(0), table(1))
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

/// As [`cell_affine`], for any cells, with a value for each in every table.
pub(crate) fn affine_of_cells<const D: usize>(
    x: Tensor<D>,
    tables: [Tensor<2>; 3],
    cells: Cells,
) -> Tensor<D> {
    let [center, scale, offset] = tables;
    if !is_fused(x.device().as_dispatch()) {
        return composed::cell_affine(x, [center, scale, offset], cells);
    }
    Tensor::from_dispatch(<Dispatch as NormOps>::cell_affine(
        x.into_dispatch(),
        center.into_dispatch(),
        scale.into_dispatch(),
        offset.into_dispatch(),
        cells,
    ))
}

/// The fused normalization of lines; whether the device has it is asked before.
pub(crate) fn lines<const D: usize>(x: Tensor<D>, spec: LineSpec) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as LineOps>::lines(x.into_dispatch(), spec))
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

fn spec<K: Kind, const D: usize>(
    kind: &K,
    x: &Tensor<D>,
    gamma: &Option<Tensor<1>>,
    beta: &Option<Tensor<1>>,
    epsilon: f64,
) -> Spec {
    match Spec::new(kind, &x.dims(), epsilon, gamma.is_some(), beta.is_some()) {
        Ok(spec) => spec,
        Err(error) => panic!("{error}"),
    }
}

/// An operation takes a tensor for every parameter; one that the spec says is absent is not looked
/// at.
fn or_absent<const D: usize>(parameter: Option<Tensor<1>>, x: &Tensor<D>) -> Tensor<1> {
    parameter.unwrap_or_else(|| Tensor::zeros([1], (&x.device(), x.dtype())))
}
