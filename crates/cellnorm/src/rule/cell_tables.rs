//! The cells of a tensor as tables, which a rule groups into sets.

use super::Table;
use crate::shape::{Excluded, Labels};

/// The cells of a tensor: where each lies, and how many values it has.
#[derive(Clone, Copy, Debug)]
pub struct Grid<'a> {
    /// The shape of the tensor.
    pub shape: &'a [usize],
    /// The index of each cell along each axis; None for the axes inside cells.
    pub coordinates: &'a [Option<Labels>],
    /// The number of values of each cell; under a mask, of the valid ones.
    pub counts: &'a [f64],
}

impl Grid<'_> {
    /// Labels of the cells by their index along the axes that are chosen, row-major.
    ///
    /// # Panics
    /// If an axis inside the cells is chosen.
    pub fn labels(&self, axes: impl Fn(usize) -> bool) -> Labels {
        let chosen = (0..self.shape.len()).filter(|axis| axes(*axis));
        let none = Labels::new(vec![0; self.counts.len()], 1);
        chosen.fold(none, |labels, axis| {
            labels.and(self.coordinates[axis].as_ref().expect("an axis that numbers the cells"))
        })
    }
}

/// The mean and the biased variance of each set; about zero, 0 and the mean square.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics<V = Vec<f64>> {
    /// The means.
    pub mean: V,
    /// The variances, divided by the number of values.
    pub variance: V,
}

impl<V: Table> Statistics<V> {
    /// The statistics of each member's set.
    pub fn take(&self, labels: &Labels) -> Self {
        Self { mean: self.mean.take(labels), variance: self.variance.take(labels) }
    }
}

/// The statistics of the sets of one sharing over all ranks, with their numbers of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged<V = Vec<f64>> {
    /// The number of values of each set.
    pub values: Vec<f64>,
    /// Their mean and variance.
    pub statistics: Statistics<V>,
}

/// The cells of a tensor with the mean and the biased variance of each.
#[derive(Clone, Debug)]
pub struct CellTables<'a, V> {
    /// Where the cells lie.
    pub grid: Grid<'a>,
    /// The set of each cell, for each of the rule's [sharings](super::Rule::sharings).
    pub sets: &'a [Labels],
    /// For each sharing, the statistics that ranks share; None where this rank has all values.
    pub merged: &'a [Option<Merged<V>>],
    /// The mean of each cell.
    pub mean: V,
    /// The biased variance of each cell.
    pub variance: V,
    /// The means again, as the constants that x is measured from; no gradient flows through them. A
    /// cell without values, whose excluded values may be normalized, has that of a set it is in.
    pub center: V,
}

impl<'a, V: Table> CellTables<'a, V> {
    /// The cells of a grid with these means and variances, under a mask or not.
    pub fn new(
        grid: Grid<'a>,
        sets: &'a [Labels],
        merged: &'a [Option<Merged<V>>],
        (mean, variance): (V, V),
        excluded: Excluded,
    ) -> Self {
        let center = mean.clone().detach();
        let mut tables = Self { grid, sets, merged, mean, variance, center };
        let near = excluded == Excluded::Normalized && grid.counts.contains(&0.0);
        for k in (0..sets.len()).rev().filter(|_| near) {
            let values = tables.values(k);
            let is_empty = |(count, set): (&f64, &u32)| {
                f64::from(*count == 0.0 && values[*set as usize] > 0.0)
            };
            let empty: Vec<f64> =
                grid.counts.iter().zip(sets[k].as_slice()).map(is_empty).collect();
            let others = tables.center.constant(empty.iter().map(|empty| 1.0 - empty).collect());
            let near = tables.merge(k).mean.detach().take(&sets[k]);
            let near = near * tables.center.constant(empty);
            tables.center = tables.center.clone() * others + near;
        }
        tables
    }

    /// The number of values of each set of sharing `k`, on all ranks.
    pub fn values(&self, k: usize) -> Vec<f64> {
        match &self.merged[k] {
            Some(merged) => merged.values.clone(),
            None => self.sets[k].sums(self.grid.counts),
        }
    }

    /// The statistics of each set of sharing `k`, its cells merged (Chan, Golub, LeVeque): with
    /// shares s = n_cell / n_set,
    ///
    /// mean = Σ s mean_cell,   variance = Σ s (variance_cell + (mean_cell − mean)²).
    ///
    /// A set without values has mean 0 and variance 0.
    pub fn merge(&self, k: usize) -> Statistics<V> {
        if let Some(merged) = &self.merged[k] {
            return merged.statistics.clone();
        }
        let sets = &self.sets[k];
        if sets.are_members() {
            return Statistics { mean: self.mean.clone(), variance: self.variance.clone() };
        }
        let (counts, totals) = (self.grid.counts, self.values(k));
        let share = |(count, set): (&f64, &u32)| {
            if *count == 0.0 { 0.0 } else { count / totals[*set as usize] }
        };
        let shares = counts.iter().zip(sets.as_slice()).map(share).collect();
        let shares = self.mean.constant(shares);
        let mean = (self.mean.clone() * shares.clone()).sum(sets);
        let apart = self.mean.clone() - mean.take(sets);
        // squares of large numbers overflow before their share is taken
        let spread = (apart.clone() * shares.clone()) * apart;
        let variance = (self.variance.clone() * shares + spread).sum(sets);
        Statistics { mean, variance }
    }

    /// The mean of the squares of each set of sharing `k`, from its statistics.
    pub fn mean_square(&self, k: usize) -> V {
        let Statistics { mean, variance } = self.merge(k);
        variance + mean.clone() * mean
    }
}
