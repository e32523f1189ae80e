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
    CellTables, Coefficients, Context, Grid, Norm, Rule, Running, Statistics, Table as _, Tracked,
    check_epsilon,
};
use cellnorm::shape::{Cells, Centering, Excluded, Labels, Roles, cells_of, inverse};
use cellnorm::{Activation, Error, Mask};
use ndarray::ArrayD;

use crate::numbers::{check_finite, values, wrong};
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
    let (order, sets) = (roles.shared_last(), roles.sets(shape));
    if R::CENTERING == Centering::Mean && x.elem_count() == sets {
        norm.one_value.uses_running(R::NAME, shape, is_batch(norm)).map_err(wrong)?;
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

/// y by the statistics of the values alone that a mask says are valid; running averages move as the
/// layer's mode says.
pub(crate) fn normalize<R: Rule>(
    norm: &mut Norm<R>,
    x: &Tensor,
    parameters: &[NamedTensor],
    mask: Option<&Mask>,
) -> Result<Tensor> {
    let parameters = &scaled::<R>(parameters)?;
    let (rule, shape, dtype) = (norm.rule(), x.dims(), accumulator(x.dtype()));
    check_epsilon(norm.epsilon).and_then(|()| rule.check()).map_err(wrong)?;
    if x.elem_count() == 0 {
        return normalize_empty(norm, x, parameters, mask);
    }
    let affine = ["gamma", "beta"].iter().any(|name| parameter(parameters, name).is_some());
    let roles = rule.roles(shape, affine).map_err(wrong)?;
    if let (None, None, Some(roles)) = (mask, &norm.running, &roles) {
        return standardize(norm, roles, x, parameters);
    }
    let numbered = rule.cell_axes(shape, affine).map_err(wrong)?;
    let (cells, coordinates) = cells_of(shape, &numbered);
    let valid = mask.map(|mask| Valid::new(mask, x, &cells)).transpose()?;
    let in_cells = x.to_dtype(dtype)?.reshape((cells.outer, cells.positions, cells.inner))?;
    let kept = valid.as_ref().map_or(Ok(in_cells.clone()), |valid| valid.keep(&in_cells))?;
    let all = || vec![cells.positions as f64; cells.count()];
    let counts = valid.as_ref().map_or_else(all, |valid| valid.counts.clone());

    let grid = Grid { shape, coordinates: &coordinates, counts: &counts };
    let sets = rule.sets(&grid).map_err(wrong)?;
    let (mean, variance) = match &norm.running {
        // no statistic of x is taken, which may not be finite
        Some(running) if roles.is_some() && !takes_statistics(norm) => {
            let means = means_of_cells(rule, &running.mean, &grid, &sets[0]);
            let means = Table::from_values(means, dtype, x.device()).tensor()?;
            (means.clone(), means.zeros_like()?)
        }
        _ => moments(&kept, &cells, valid.as_ref())?,
    };
    let merged = vec![None; sets.len()];
    let moments = (Table::new(mean), Table::new(variance));
    let tables = CellTables::new(grid, &sets, &merged, moments, norm.excluded);
    let batch = is_batch(norm);
    let one_value = |k| tables.values(k).iter().all(|values| *values <= 1.0);
    // statistics of x neither normalize nor are tracked where running averages normalize and stay
    let update = norm.mode.update && norm.running.is_some();
    let uses_running = takes_statistics(norm)
        && valid.is_none()
        && rule.variance_sharing().is_some_and(one_value)
        && norm.one_value.uses_running(R::NAME, shape, batch || update).map_err(wrong)?;
    let flat = |(name, tensor): &NamedTensor| -> Result<_> {
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(dtype);
        Ok((*name, tensor.as_ref().map(flat).transpose()?.map(Table::new)))
    };
    let named: Vec<_> = parameters.iter().map(flat).collect::<Result<_>>()?;
    let batch = batch && !uses_running;
    let correction = norm.correction.as_ref().filter(|_| batch).map(|of| &of.averages);
    let running = correction.or(norm.running.as_ref());
    let running = running.map(|running| constants(running, &tables.mean));
    let context =
        Context { cells: &tables, epsilon: norm.epsilon, batch, running, parameters: &named };
    let tracked = rule.tracked(&context).filter(|_| update && !uses_running);
    let zero = norm.excluded == Excluded::Zero;
    let source = if zero { &kept } else { &in_cells };
    let mut y = map_cells(rule, &context, &cells, source)?;
    if batch && R::CENTERING == Centering::Mean && roles.is_some() {
        y = hold_constant(rule, &context, &cells, source, y, valid.as_ref())?;
    }
    let y = activate(y, norm.activation)?;
    let y = valid.as_ref().filter(|_| zero).map_or(Ok(y.clone()), |valid| valid.keep(&y))?;
    let y = y.reshape(shape)?.to_dtype(x.dtype())?;
    if let Some(Tracked { mean, variance, values: counts }) = tracked {
        let (mean, variance) = (target(mean, R::NAME)?, target(variance, R::NAME)?);
        norm.follow(&Tracked { mean, variance, values: counts });
    }
    Ok(y)
}

/// Running averages as tables like another.
fn constants(Running { mean, variance }: &Running, like: &Table) -> Statistics<Table> {
    let [mean, variance] = [mean, variance].map(|of| like.constant(of.iter().copied().collect()));
    Statistics { mean, variance }
}

/// The affine map of each cell, of a tensor \[outer, positions, inner\].
fn map_cells<R: Rule>(
    rule: &R,
    context: &Context<'_, Table>,
    cells: &Cells,
    x: &Tensor,
) -> Result<Tensor> {
    let spread = |table: Table| table.tensor()?.reshape((cells.outer, 1, cells.inner));
    let Coefficients { scale, offset } = rule.table(context);
    let apart = x.broadcast_sub(&spread(context.cells.center.clone())?)?;
    apart.broadcast_mul(&spread(scale)?)?.broadcast_add(&spread(offset)?)
}

/// y of [`map_cells`] for a plain rule, where the only value of a set is its own mean: y is β
/// there, whatever x is, so that its dy has no part in dx, and dx is no difference of two large
/// numbers.
fn hold_constant<R: Rule>(
    rule: &R,
    context: &Context<'_, Table>,
    cells: &Cells,
    x: &Tensor,
    y: Tensor,
    valid: Option<&Valid>,
) -> Result<Tensor> {
    let (tables, values) = (context.cells, context.cells.values(0));
    let sets = tables.sets[0].as_slice().iter();
    let constant: Vec<u8> = sets.map(|set| u8::from(values[*set as usize] <= 1.0)).collect();
    if !constant.contains(&1) {
        return Ok(y);
    }
    let constant = Tensor::from_vec(constant, (cells.outer, 1, cells.inner), x.device())?;
    let [mean, variance] = [&tables.mean, &tables.variance].map(|of| of.clone().detach());
    let tables = CellTables { mean, variance, ..tables.clone() };
    let context = Context { cells: &tables, ..context.clone() };
    let still = map_cells(rule, &context, cells, &x.detach())?;
    let held = constant.broadcast_as(y.shape())?.where_cond(&still, &y)?;
    valid.map_or(Ok(held.clone()), |valid| valid.mask.where_cond(&held, &y))
}

/// The numbers that running averages move toward, which have to be finite.
fn target(table: Table, layer: &str) -> Result<Vec<f64>> {
    let numbers = values(&table.tensor()?, layer)?;
    check_finite("x", &numbers).map_err(wrong)?;
    Ok(numbers)
}

/// Whether the statistics of x normalize, as they always do where the rule would keep running
/// averages and the layer has none.
fn is_batch<R: Rule>(norm: &Norm<R>) -> bool {
    let untracked = norm.running.is_none() && norm.rule().running().is_some();
    untracked || norm.mode.statistics == StatisticsFrom::Batch
}

/// Whether statistics of x are taken, to normalize or to move the running averages.
fn takes_statistics<R>(norm: &Norm<R>) -> bool {
    norm.running.is_none() || norm.mode.update || norm.mode.statistics == StatisticsFrom::Batch
}

/// The running mean of each cell, whose set is in `sets`.
fn means_of_cells<R: Rule>(
    rule: &R,
    running: &ArrayD<f64>,
    grid: &Grid<'_>,
    sets: &Labels,
) -> Vec<f64> {
    let means: Vec<f64> = running.iter().copied().collect();
    let labels = rule.running_labels(grid.shape);
    let average = |set: &u32| labels.as_ref().map_or(*set, |of| of.as_slice()[*set as usize]);
    sets.as_slice().iter().map(|set| means[average(set) as usize]).collect()
}

/// An empty y with gradients of 0 for the parameters, where no statistic is over no values.
fn normalize_empty<R: Rule>(
    norm: &Norm<R>,
    x: &Tensor,
    parameters: &[NamedTensor],
    mask: Option<&Mask>,
) -> Result<Tensor> {
    let shape = x.dims();
    let sharings = norm.rule().sharings(shape).map_err(wrong)?;
    if takes_statistics(norm) && sharings.iter().any(|sharing| sharing.sets() > 0) {
        return Err(wrong(Error::Empty { shape: shape.to_vec() }));
    }
    mask.map(|mask| mask.over(shape)).transpose().map_err(wrong)?;
    // Candle's arithmetic forgets its second tensor where there are no elements; `cat` does not
    let present = parameters.iter().filter_map(|(_, tensor)| tensor.as_ref());
    let none = present
        .map(|tensor| tensor.flatten_all()?.narrow(0, 0, 0)?.to_dtype(x.dtype())?.reshape(shape));
    let parts = std::iter::once(Ok(x.clone())).chain(none).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&parts, shape.iter().position(|length| *length == 0).unwrap_or(0))
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

/// The mean and the biased variance of each cell of x, which is 0 where it does not count.
fn moments(x: &Tensor, cells: &Cells, valid: Option<&Valid>) -> Result<(Tensor, Tensor)> {
    let Some(valid) = valid else {
        let mean = x.mean_keepdim(1)?;
        let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
        return Ok((mean.flatten_all()?, variance.flatten_all()?));
    };
    let shares = valid.counts.iter().map(|count| 1.0 / count.max(1.0)).collect();
    let shares = Table::from_values(shares, x.dtype(), x.device()).tensor()?;
    let shares = shares.reshape((cells.outer, 1, cells.inner))?;
    let mean = x.sum_keepdim(1)?.mul(&shares)?;
    let apart = valid.keep(&x.broadcast_sub(&mean)?)?;
    let variance = apart.sqr()?.sum_keepdim(1)?.mul(&shares)?;
    Ok((mean.flatten_all()?, variance.flatten_all()?))
}

#[cfg(test)]
mod tests;
