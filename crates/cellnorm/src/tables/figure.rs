//! The figure: a tensor as cells, which a rule groups into sets.

use super::{Labels, Rule, Table};
use crate::error::Error;
use crate::semantics::OneValue;

/// The cells of a tensor: where each lies, how many values it has, their mean and their biased
/// variance.
#[derive(Clone, Debug)]
pub struct Figure<'a, V> {
    /// The shape of the tensor.
    pub shape: &'a [usize],
    /// The index of each cell along each axis; None for the axes inside cells.
    pub coordinates: &'a [Option<Labels>],
    /// The set of each cell, for each of the rule's [sharings](super::Rule::sharings).
    pub sets: &'a [Labels],
    /// The number of values of each cell; under a mask, of the valid ones.
    pub counts: &'a [f64],
    /// The mean of each cell.
    pub mean: V,
    /// The biased variance of each cell.
    pub variance: V,
    /// The same numbers as the means, as the constants that x is measured from; no gradient flows
    /// through them.
    pub center: V,
}

/// The mean and the biased variance of each set.
#[derive(Clone, Debug)]
pub struct Statistics<V> {
    /// The means.
    pub mean: V,
    /// The variances.
    pub variance: V,
}

impl<V: Table> Statistics<V> {
    /// The statistics of each member's set.
    pub fn take(&self, labels: &Labels) -> Self {
        Self { mean: self.mean.take(labels), variance: self.variance.take(labels) }
    }
}

impl<V> Figure<'_, V> {
    /// Labels of the cells by their index along the axes that are chosen, row-major.
    ///
    /// # Panics
    /// If an axis inside the cells is chosen.
    pub fn over(&self, axes: impl Fn(usize) -> bool) -> Labels {
        let chosen = (0..self.shape.len()).filter(|axis| axes(*axis));
        let none = Labels::new(vec![0; self.counts.len()], 1);
        chosen.fold(none, |labels, axis| {
            labels.and(self.coordinates[axis].as_ref().expect("an axis that numbers the cells"))
        })
    }

    /// The number of values of each set.
    pub fn values(&self, sets: &Labels) -> Vec<f64> {
        sets.sums(self.counts)
    }

    /// Whether the running averages take the place of the statistics of x, and stay as they are:
    /// the policy says so, and each set that the rule estimates a variance of has a single value.
    /// `batch` is whether statistics are those of x, as in training.
    ///
    /// # Errors
    /// If the policy refuses such an x.
    pub fn uses_running<R: Rule>(
        &self,
        rule: &R,
        policy: OneValue,
        batch: bool,
    ) -> Result<bool, Error> {
        let one = |of: usize| self.values(&self.sets[of]).iter().all(|values| *values <= 1.0);
        match rule.estimated().is_some_and(one) {
            true => policy.uses_running(R::NAME, self.shape, batch),
            false => Ok(false),
        }
    }
}

impl<V: Table> Figure<'_, V> {
    /// The statistics of each set, its cells merged (Chan, Golub, LeVeque): with shares s = n_cell
    /// / n_set,
    ///
    /// mean = Σ s mean_cell,   variance = Σ s (variance_cell + (mean_cell − mean)²).
    ///
    /// A set without values has mean 0 and variance 0.
    pub fn merge(&self, sets: &Labels) -> Statistics<V> {
        if sets.are_members() {
            return Statistics { mean: self.mean.clone(), variance: self.variance.clone() };
        }
        let totals = self.values(sets);
        let share = |(count, set): (&f64, &u32)| {
            if *count == 0.0 { 0.0 } else { count / totals[*set as usize] }
        };
        let shares = self.mean.constant(self.counts.iter().zip(sets.of()).map(share).collect());
        let mean = (self.mean.clone() * shares.clone()).sum(sets);
        let apart = self.mean.clone() - mean.take(sets);
        let variance = ((self.variance.clone() + apart.clone() * apart) * shares).sum(sets);
        Statistics { mean, variance }
    }

    /// The mean of the squares of each set, from its statistics.
    pub fn mean_square(&self, sets: &Labels) -> V {
        let Statistics { mean, variance } = self.merge(sets);
        variance + mean.clone() * mean
    }
}
