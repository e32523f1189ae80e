//! The plain case of a rule: the cells of a set share a mean and a variance, or a mean square.
//!
//! y = γ (x − mean) / √(variance + ε) + β
//!
//! These are the defaults of [`Rule`]. The tables here serve tensors under a mask, ranks and
//! devices; [`Plan::forward`](crate::shape::Plan::forward) is the same formula as a closed form.

use super::{CellTables, Coefficients, Context, Rule, Table, Tracked};
use crate::error::Error;
use crate::shape::{Centering, Labels, Roles, Sharing};

/// The sharing of a plain rule, named by the first word of the rule's name.
pub(super) fn sharing<R: Rule>(rule: &R, shape: &[usize]) -> Result<Sharing, Error> {
    let Some(roles) = rule.roles(shape, true)? else {
        let what = "names neither the roles of its axes nor its sharings";
        return Err(Error::Unsupported { layer: R::NAME, what });
    };
    let name = R::NAME.split(' ').next().unwrap_or(R::NAME);
    let along = roles.along(shape);
    Ok(Sharing { name, measure: R::CENTERING.into(), shape: shape.to_vec(), along })
}

pub(super) fn table<R: Rule, V: Table>(rule: &R, context: &Context<'_, V>) -> Coefficients<V> {
    let cells = context.cells;
    let sets = &cells.sets[0];
    let affine = ["gamma", "beta"].iter().any(|name| context.parameter(name).is_some());
    let Some(roles) = rule.roles(cells.grid.shape, affine).expect("checked with the sharings")
    else {
        return context.standardize(context.statistics(0).take(sets), sets);
    };
    let channels = channels(&roles, cells);
    if R::CENTERING == Centering::Zero {
        let r = context.rstd(cells.mean_square(0).take(sets));
        return context.affine(r.clone(), r * cells.center.clone(), &channels);
    }
    let shared = rule.running_labels(cells.grid.shape).filter(|_| !context.batch);
    let statistics = context.statistics(0);
    let statistics = match shared {
        Some(labels) => {
            statistics.take(&sets.map(labels.count(), |set| labels.as_slice()[set] as usize))
        }
        None => statistics.take(sets),
    };
    context.standardize(statistics, &channels)
}

pub(super) fn tracked<R: Rule, V: Table>(
    rule: &R,
    cells: &CellTables<'_, V>,
) -> Option<Tracked<V>> {
    let shape = cells.grid.shape;
    let plain = rule.roles(shape, true).is_ok_and(|roles| roles.is_some());
    if !plain && rule.running().is_none() {
        return None;
    }
    let merged = Tracked::merged(cells, 0);
    Some(match (R::CENTERING, rule.running_labels(shape)) {
        (Centering::Zero, _) => {
            Tracked { mean: merged.mean.times(0.0), variance: cells.mean_square(0), ..merged }
        }
        (Centering::Mean, Some(labels)) => merged.mean_by(&labels),
        (Centering::Mean, None) => merged,
    })
}

/// The γ and β of each cell, row-major over the axes that carry them.
fn channels<V: Table>(roles: &Roles, cells: &CellTables<'_, V>) -> Labels {
    let grid = cells.grid;
    let carries = |axis| roles.carries(axis);
    let Some((split, groups)) = roles.groups.filter(|_| roles.per_group) else {
        return grid.labels(carries);
    };
    let size = grid.shape[split] / groups;
    let group = grid.labels(|axis| axis == split).map(groups, |channel| channel / size);
    let before = grid.labels(|axis| axis < split && carries(axis));
    before.and(&group).and(&grid.labels(|axis| axis > split && carries(axis)))
}
