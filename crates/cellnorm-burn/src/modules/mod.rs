//! The layers, with Burn's names and records.

mod adaptive;
mod averages;
mod batch;
mod features;
mod local_response;
mod lp;
mod parts;
pub(crate) mod recording;
pub(crate) mod rules;
mod single_sample;
mod step;
mod tlu;

pub use adaptive::{AdaptiveNorm, AdaptiveNormConfig};
pub use batch::{BatchNorm, BatchNormConfig};
pub use features::Features;
pub use local_response::{LocalResponseNorm, LocalResponseNormConfig};
pub use lp::{LpNorm, LpNormConfig};
pub use rules::*;
pub use single_sample::{
    GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig, LayerNorm, LayerNormConfig,
    RmsNorm, RmsNormConfig,
};
pub use step::AtStep;
pub use tlu::{Tlu, TluConfig};

use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{DType, Device, Tensor};
use cellnorm::norms::Lines;
use cellnorm::shape::{Along, Sharing};
use cellnorm::{Activation, Error};

use crate::apply::normalize;
use crate::ops::{Form, LineLayer, Spec};

/// γ and β as a layer holds them.
type Parameter = Option<Param<Tensor<1>>>;

/// γ and β for `len` channels, where they are wanted.
fn parameters(
    len: usize,
    wanted: [bool; 2],
    initializers: [&Initializer; 2],
    device: &Device,
) -> [Parameter; 2] {
    std::array::from_fn(|i| wanted[i].then(|| initializers[i].init([len], device)))
}

fn value(parameter: &Parameter) -> Option<Tensor<1>> {
    parameter.as_ref().map(|parameter| parameter.val())
}

/// # Panics
/// If ε is not finite and at least 1e-36.
pub(crate) fn check_epsilon(epsilon: f64) {
    if let Err(error) = cellnorm::rule::check_epsilon(epsilon) {
        panic!("{error}");
    }
}

/// Which values of a tensor of this shape share what they are divided by.
///
/// # Panics
/// If the shape does not suit the normalization, or the tensor is empty.
fn sharing_of<L: Lines>(layer: &L, shape: &[usize]) -> Sharing {
    let sharing = if shape.contains(&0) {
        Err(Error::Empty { shape: shape.to_vec() })
    } else {
        layer.sharing(shape)
    };
    sharing.unwrap_or_else(|error| panic!("{error}"))
}

/// The fused normalization of lines, on a device that has it.
fn lines<const D: usize>(x: Tensor<D>, layer: LineLayer, sharing: &Sharing) -> Tensor<D> {
    let along = sharing.along.iter().map(|along| *along != Along::Apart).collect();
    let (form, activation) = (Form::Lines { layer, along }, Activation::Identity);
    normalize(x, None, None, Spec { form, scale: false, center: false, activation }).0
}

/// A function of x, computed in f32 where x has fewer digits: half precision has no room for
/// powers.
pub(crate) fn at_least_single<const D: usize>(
    x: Tensor<D>,
    of: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = x.dtype();
    let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    of(x.cast(wide)).cast(dtype)
}
