//! The same normalizations of Candle's own operations, for devices other than the CPU.
//!
//! Candle differentiates them itself. They compute in f32 where x has fewer digits, and hold a few
//! tensors as large as x until the backward pass, where the fused operation holds none. A rule
//! takes the moments of cells, its formula on tables of tensors, and an affine map of each cell.

mod table;

use std::f64::consts::FRAC_1_SQRT_2;

use candle_core::{Result, Tensor};
use cellnorm::momentum::StatisticsFrom;
use cellnorm::rule::{
    self, CellTables, Coefficients, Context, Grid, Norm, Rule, Running, Statistics, Tracked,
    check_epsilon,
};
use cellnorm::shape::{Cells, Centering, Roles, cells_of, inverse};
use cellnorm::{Activation, Error, Mask};

use crate::numbers::{values, wrong};
use crate::ops::{NamedTensor, accumulator, parameter};
use table::Table;

/// The plain case without running averages, act(γ (x − mean) / √(variance + ε) + β): the tensor as
/// rows, one for each set.
fn standardize<R: Rule>(
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
    let mut y = normalized.reshape(permuted.shape())?.permute(inverse(&order))?;
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

/// The parameters with γ itself, where the layer stores it less an offset.
fn scaled<R: Rule>(parameters: &[NamedTensor]) -> Result<Vec<NamedTensor>> {
    let mut scaled = parameters.to_vec();
    for (name, tensor) in &mut scaled {
        if let ("gamma", Some(stored)) = (*name, tensor)
            && R::GAMMA_OFFSET != 0.0
        {
            // half precision has no room for the digits of a small number beside the offset
            *stored = (stored.to_dtype(accumulator(stored.dtype()))? + R::GAMMA_OFFSET)?;
        }
    }
    Ok(scaled)
}

/// y over the values alone that a mask says are valid; running averages move as the layer's mode
/// says.
pub(crate) fn normalize<R: Rule>(
    norm: &mut Norm<R>,
    x: &Tensor,
    parameters: &[NamedTensor],
    mask: Option<&Mask>,
) -> Result<Tensor> {
    let parameters = &scaled::<R>(parameters)?;
    let (rule, shape, dtype) = (norm.rule(), x.dims(), accumulator(x.dtype()));
    check_epsilon(norm.epsilon).and_then(|()| rule.check()).map_err(wrong)?;
    let affine = ["gamma", "beta"].iter().any(|name| parameter(parameters, name).is_some());
    let plain = mask.is_none() && norm.running.is_none();
    if plain && let Some(roles) = rule.roles(shape, affine).map_err(wrong)? {
        return standardize(norm, &roles, x, parameters);
    }
    let numbered = rule.cell_axes(shape, affine).map_err(wrong)?;
    if x.elem_count() == 0 {
        return Err(wrong(Error::Empty { shape: shape.to_vec() }));
    }
    let (cells, coordinates) = cells_of(shape, &numbered);
    let valid = mask.map(|mask| Valid::new(mask, x, &cells)).transpose()?;
    let in_cells = x.to_dtype(dtype)?.reshape((cells.outer, cells.positions, cells.inner))?;
    let (in_cells, mean, variance, counts) = moments(in_cells, &cells, valid.as_ref())?;

    let grid = Grid { shape, coordinates: &coordinates, counts: &counts };
    let sets = rule.sets(&grid).map_err(wrong)?;
    let (mean, variance) = (mean.flatten_all()?, variance.flatten_all()?);
    let center = mean.detach();
    let tables = CellTables {
        grid,
        sets: &sets,
        merged: &vec![None; sets.len()],
        mean: Table::new(mean),
        variance: Table::new(variance),
        center: Table::new(center.clone()),
    };
    let batch = norm.mode.statistics == StatisticsFrom::Batch;
    let one_value = |k| tables.values(k).iter().all(|values| *values <= 1.0);
    // statistics of x neither normalize nor are tracked where running averages normalize and stay
    let update = norm.mode.update && norm.running.is_some();
    let uses_running = (norm.running.is_none() || batch || update)
        && valid.is_none()
        && rule.variance_sharing().is_some_and(one_value)
        && norm.one_value.uses_running(R::NAME, shape, batch || update).map_err(wrong)?;
    let flat = |(name, tensor): &NamedTensor| -> Result<_> {
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(dtype);
        Ok((*name, tensor.as_ref().map(flat).transpose()?.map(Table::new)))
    };
    let named: Vec<_> = parameters.iter().map(flat).collect::<Result<_>>()?;
    let running = norm.running.as_ref().map(|Running { mean, variance }| {
        let [mean, variance] = [mean, variance]
            .map(|values| rule::Table::constant(&tables.mean, values.iter().copied().collect()));
        Statistics { mean, variance }
    });
    let batch = batch && !uses_running;
    let context =
        Context { cells: &tables, epsilon: norm.epsilon, batch, running, parameters: &named };
    let Coefficients { scale, offset } = rule.table(&context);
    let tracked = rule.tracked(&context).filter(|_| !uses_running);
    let read = |table: Table| values(&table.tensor()?, R::NAME);
    let tracked = tracked.map(|Tracked { mean, variance, values }| -> Result<_> {
        Ok(Tracked { mean: read(mean)?, variance: read(variance)?, values })
    });
    let tracked = tracked.transpose()?;

    let spread = |table: Tensor| table.reshape((cells.outer, 1, cells.inner));
    let y = in_cells.broadcast_sub(&spread(center)?)?.broadcast_mul(&spread(scale.tensor()?)?)?;
    let y = activate(y.broadcast_add(&spread(offset.tensor()?)?)?, norm.activation)?;
    let y = valid.as_ref().map_or(Ok(y.clone()), |valid| valid.keep(&y))?;
    let y = y.reshape(shape)?.to_dtype(x.dtype())?;
    if let (true, Some(tracked)) = (norm.mode.update, tracked) {
        norm.follow(&tracked);
    }
    Ok(y)
}

/// A mask as \[outer, positions, inner\], and the number of valid values of each cell.
struct Valid {
    mask: Tensor,
    counts: Vec<f64>,
}

impl Valid {
    fn new(mask: &Mask, x: &Tensor, cells: &Cells) -> Result<Self> {
        let valid: Vec<u8> =
            mask.over(x.dims()).map_err(wrong)?.iter().map(|valid| u8::from(*valid)).collect();
        let mut counts = vec![0.0; cells.count()];
        for (at, valid) in valid.iter().enumerate() {
            let (row, inner) = (at / cells.inner, at % cells.inner);
            counts[row / cells.positions * cells.inner + inner] += f64::from(*valid);
        }
        let shape = (cells.outer, cells.positions, cells.inner);
        Ok(Self { mask: Tensor::from_vec(valid, shape, x.device())?, counts })
    }

    /// The valid values, 0 at the others.
    fn keep(&self, x: &Tensor) -> Result<Tensor> {
        self.mask.where_cond(x, &x.zeros_like()?)
    }
}

/// The values that count (0 at the others, which may hold anything), and the mean, the biased
/// variance and the number of them in each cell.
fn moments(
    x: Tensor,
    cells: &Cells,
    valid: Option<&Valid>,
) -> Result<(Tensor, Tensor, Tensor, Vec<f64>)> {
    let Some(valid) = valid else {
        let mean = x.mean_keepdim(1)?;
        let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
        return Ok((x, mean, variance, vec![cells.positions as f64; cells.count()]));
    };
    let x = valid.keep(&x)?;
    let shares = valid.counts.iter().map(|count| 1.0 / count.max(1.0)).collect();
    let shares = Table::from_values(shares, x.dtype(), x.device()).tensor()?;
    let shares = shares.reshape((cells.outer, 1, cells.inner))?;
    let mean = x.sum_keepdim(1)?.mul(&shares)?;
    let apart = valid.keep(&x.broadcast_sub(&mean)?)?;
    let variance = apart.sqr()?.sum_keepdim(1)?.mul(&shares)?;
    Ok((x, mean, variance, valid.counts.clone()))
}

#[cfg(test)]
mod tests;
