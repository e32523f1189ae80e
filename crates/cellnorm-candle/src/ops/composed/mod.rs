//! The same normalizations of Candle's own operations, for devices other than the CPU.
//!
//! Candle differentiates them itself. They compute in f32 where x has fewer digits, and hold a few
//! tensors as large as x until the backward pass, where the fused operation holds none.

mod formula;
mod table;

pub(crate) use formula::normalize;

use std::f64::consts::FRAC_1_SQRT_2;

use candle_core::{Result, Tensor};
use cellnorm::rule::{Norm, Rule};
use cellnorm::shape::Roles;
use cellnorm::{Activation, Error, momentum::StatisticsFrom, shape::Centering};

use crate::numbers::wrong;
use crate::ops::{NamedTensor, accumulator, parameter};

/// The plain case without running averages, act(γ (x − mean) / √(variance + ε) + β): the tensor as
/// rows, one for each set.
pub(crate) fn standardize<R: Rule>(
    norm: &Norm<R>,
    roles: &Roles,
    x: &Tensor,
    parameters: &[NamedTensor],
) -> Result<Tensor> {
    let (shape, dtype) = (x.dims(), accumulator(x.dtype()));
    if x.elem_count() == 0 {
        return Err(wrong(Error::Empty { shape: shape.to_vec() }));
    }
    let (order, sets) = (roles.shared_last(), roles.sets(shape));
    if R::CENTERING == Centering::Mean && x.elem_count() == sets {
        let batch = norm.mode.statistics == StatisticsFrom::Batch;
        norm.one_value.uses_running(R::NAME, shape, batch).map_err(wrong)?;
    }
    let permuted = x.to_dtype(dtype)?.permute(order.clone())?;
    let rows = permuted.reshape((sets, ()))?;
    let apart = match R::CENTERING {
        Centering::Mean => rows.broadcast_sub(&rows.mean_keepdim(1)?)?,
        Centering::Zero => rows,
    };
    let variance = apart.sqr()?.mean_keepdim(1)?;
    let normalized = apart.broadcast_div(&(variance + norm.epsilon)?.sqrt()?)?;
    let mut inverse = vec![0; order.len()];
    for (i, axis) in order.iter().enumerate() {
        inverse[*axis] = i;
    }
    let mut y = normalized.reshape(permuted.shape())?.permute(inverse)?;
    let along = roles.parameters_along(shape);
    let along = |parameter: &Tensor| parameter.to_dtype(dtype)?.reshape(along.clone());
    if let Some(gamma) = parameter(parameters, "gamma") {
        y = y.broadcast_mul(&along(gamma)?)?;
    }
    if let Some(beta) = parameter(parameters, "beta") {
        y = y.broadcast_add(&along(beta)?)?;
    }
    activate(y, norm.activation)?.to_dtype(x.dtype())
}

fn activate(z: Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(z),
        Activation::Relu => z.relu(),
        Activation::LeakyRelu(slope) => candle_nn::ops::leaky_relu(&z, slope),
        Activation::Silu => z.silu(),
        // the gradient of Candle's own has six digits
        Activation::Gelu => (&z * 0.5)? * ((&z * FRAC_1_SQRT_2)?.erf()? + 1.0)?,
    }
}

#[cfg(test)]
mod tests;
