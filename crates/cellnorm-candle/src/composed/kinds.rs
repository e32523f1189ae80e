//! One mean and one variance a set: the tensor as rows, one for each set.

use candle_core::{Result, Tensor};
use cellnorm::norms::Roles;
use cellnorm::{About, Error};

use crate::numbers::wrong;
use crate::ops::computing;

/// γ (x − mean) / √(variance + ε) + β. `refused` names the layer where one value a statistic is an
/// error.
pub(crate) fn standardize(
    x: &Tensor,
    parameters: &[Option<Tensor>],
    roles: &Roles,
    about: About,
    epsilon: f64,
    refused: Option<&'static str>,
) -> Result<Tensor> {
    let (shape, dtype) = (x.dims(), computing(x.dtype()));
    if x.elem_count() == 0 {
        return Err(wrong(Error::Empty { shape: shape.to_vec() }));
    }
    let (order, sets) = (roles.shared_last(), roles.sets(shape));
    if let Some(layer) = refused.filter(|_| about == About::Mean && x.elem_count() == sets) {
        return Err(wrong(Error::OneValue { layer, shape: shape.to_vec() }));
    }
    let permuted = x.to_dtype(dtype)?.permute(order.clone())?;
    let rows = permuted.reshape((sets, ()))?;
    let apart = match about {
        About::Mean => rows.broadcast_sub(&rows.mean_keepdim(1)?)?,
        About::Zero => rows,
    };
    let variance = apart.sqr()?.mean_keepdim(1)?;
    let normalized = apart.broadcast_div(&(variance + epsilon)?.sqrt()?)?;
    let mut inverse = vec![0; order.len()];
    for (i, axis) in order.iter().enumerate() {
        inverse[*axis] = i;
    }
    let mut y = normalized.reshape(permuted.shape())?.permute(inverse)?;
    let along = roles.parameters_along(shape);
    let along = |parameter: &Tensor| parameter.to_dtype(dtype)?.reshape(along.clone());
    if let Some(Some(gamma)) = parameters.first() {
        y = y.broadcast_mul(&along(gamma)?)?;
    }
    if let Some(Some(beta)) = parameters.get(1) {
        y = y.broadcast_add(&along(beta)?)?;
    }
    y.to_dtype(x.dtype())
}
