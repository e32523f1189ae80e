//! A rule with numbers: all that is computed between the passes over one tensor.
//!
//! ```text
//! forward    moments of the cells                       a pass over x
//!            statistics of the sets that ranks share    one exchange, where there are ranks
//!            the rule's table on a tape                 scale and offset of each cell
//!            y = (x − center) · scale + offset          a pass over x
//! backward   Σ dy and Σ dy (x − center) of the cells    a pass over x and dy
//!            the tape backward                          gradients of cells, sets and parameters
//!            gradients of the sets that ranks share     one exchange
//!            dx = a · dy + b · (x − center) + k         a pass over x and dy
//! ```
//!
//! Arrays and tensor libraries run the passes and hand these tables over.
//!
//! A set that ranks share is merged from the moments of all ranks, and enters the tape as numbers
//! of its own. Backward, its gradients of all ranks are added, and reach a cell of n of the set's N
//! values by the slopes of the merge: ∂mean/∂mean_cell = n/N, ∂variance/∂variance_cell = n/N,
//! ∂variance/∂mean_cell = 2 (n/N) (mean_cell − mean).

use std::fmt::Display;

use super::{
    CellTables, Coefficients, Context, Grid, Merged, Rule, RunningTables, Statistics, Tape,
    TapeGradients, Tracked, Var,
};
use crate::kernels::{Affine, Gradient, Sums};
use crate::ranks::{Communicator, exchange, merge};
use crate::shape::{Along, Centering, Labels, Sharing};
use crate::{error::Error, moments::Moments, momentum::OneValue};

/// The values of each parameter, flat, in the order of [`Rule::parameters`]; None where absent.
pub type NamedValues = Vec<(&'static str, Option<Vec<f64>>)>;

/// The settings of a layer besides its rule.
#[derive(Clone, Debug)]
pub struct Settings {
    /// ε.
    pub epsilon: f64,
    /// The policy for one value a statistic; None under a mask, where one value is fine.
    pub one_value: Option<OneValue>,
    /// Whether statistics are those of x, as in training.
    pub batch: bool,
    /// The running averages.
    pub running: RunningTables,
}

/// A rule for the cells of one tensor.
///
/// ```
/// use cellnorm::norms::BatchInstance;
/// use cellnorm::rule::{Formula, Grid, Rule, RunningTables, Settings};
/// use cellnorm::shape::cells_of;
/// use cellnorm::{
///     Activation, OneValue,
///     kernels::{self, Buffers},
/// };
/// let (shape, x) = ([2, 1, 3], [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let rule = BatchInstance { channels: 1, channel_axis: 1 };
/// let (cells, coordinates) = cells_of(&shape, &rule.cell_axes(&shape, true)?);
/// let settings = Settings {
///     epsilon: 1e-5,
///     one_value: Some(OneValue::Error),
///     batch: true,
///     running: RunningTables::default(),
/// };
/// let grid = Grid { shape: &shape, coordinates: &coordinates, counts: &[3.0; 2] };
/// let formula = Formula::new(rule, settings, grid)?;
/// let parameters = vec![("rho", Some(vec![0.0]))]; // the instance's statistics alone
/// let output = formula.forward(&kernels::moments(&x, &cells), &parameters, &[])?;
/// let mut y = Vec::new();
/// kernels::affine(Buffers::Into(&x, &mut y), &cells, &output.affines, Activation::Identity);
/// assert!((y[0] + 1.5_f32.sqrt()).abs() < 1e-4 && y[1] == 0.0);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Formula<R> {
    rule: R,
    settings: Settings,
    shape: Vec<usize>,
    coordinates: Vec<Option<Labels>>,
    counts: Vec<f64>,
    sets: Vec<Labels>,
    /// Whether the samples of all ranks share each statistic.
    across_ranks: Vec<bool>,
}

/// The result of a formula's forward pass.
#[derive(Clone, Debug)]
pub struct FormulaOutput {
    /// The map of each cell.
    pub affines: Vec<Affine>,
    /// The statistics of the batch that running averages move toward.
    pub tracked: Option<Tracked<Vec<f64>>>,
}

/// The result of a formula's backward pass.
#[derive(Clone, Debug)]
pub struct FormulaGradients {
    /// The gradient map of each cell.
    pub cells: Vec<Gradient>,
    /// The gradient of each parameter; over ranks, this rank's share.
    pub parameters: NamedValues,
}

/// The formula on a tape, with the tables that it was computed from.
struct Taped<'t> {
    mean: Var<'t>,
    variance: Var<'t>,
    parameters: Vec<(&'static str, Option<Var<'t>>)>,
    merged: Vec<Option<Merged<Var<'t>>>>,
    coefficients: Coefficients<Var<'t>>,
    tracked: Option<Tracked<Var<'t>>>,
}

impl<R: Rule> Formula<R> {
    /// The rule for the cells of this grid.
    ///
    /// # Errors
    /// If the shape does not suit the rule.
    pub fn new(rule: R, settings: Settings, grid: Grid<'_>) -> Result<Self, Error> {
        let sharings = rule.sharings(grid.shape)?;
        let shared = |sharing: &Sharing| sharing.along.first() == Some(&Along::Shared);
        Ok(Self {
            sets: rule.sets(&grid)?,
            across_ranks: sharings.iter().map(shared).collect(),
            rule,
            settings,
            shape: grid.shape.to_vec(),
            coordinates: grid.coordinates.to_vec(),
            counts: grid.counts.to_vec(),
        })
    }

    /// Merges the statistics that ranks share, with one exchange: for each sharing, its sets over
    /// all ranks, None where no other rank has a part in them. `request` says in words what all
    /// ranks must do alike; `own` are the moments of this rank's cells, or why it has none.
    ///
    /// # Errors
    /// Same as [`exchange`], or if a statistic is not finite.
    pub fn merge_ranks<E: From<Error> + Display>(
        &self,
        over: &dyn Communicator,
        request: &str,
        own: Result<&[Moments], E>,
    ) -> Result<Vec<Option<Merged>>, E> {
        let sets_of_cells = |cells: &[Moments]| -> Vec<Moments> {
            self.shared_sets().flat_map(|sets| merge_cells(sets, cells)).collect()
        };
        let request = format!("the forward pass of {request}");
        let all = merge(over, &request, own.map(sets_of_cells))?;
        let mut rest = all.as_slice();
        let mut merged = Vec::with_capacity(self.sets.len());
        for (sets, across) in self.sets.iter().zip(&self.across_ranks) {
            if !across {
                merged.push(None);
                continue;
            }
            let moments = rest.split_off(..sets.count()).expect("a result for each set");
            let (mean, variance) = moments.iter().map(|m| (m.mean, m.variance())).unzip();
            check_finite("x", &[&mean, &variance])?;
            let values = moments.iter().map(|m| m.count).collect();
            merged.push(Some(Merged { values, statistics: Statistics { mean, variance } }));
        }
        Ok(merged)
    }

    /// The affine map of each cell, from the moments of all. `merged` are the statistics that ranks
    /// share, empty for one rank.
    ///
    /// # Errors
    /// If the policy refuses one value a statistic.
    pub fn forward(
        &self,
        moments: &[Moments],
        parameters: &NamedValues,
        merged: &[Option<Merged>],
    ) -> Result<FormulaOutput, Error> {
        let tape = Tape::default();
        let taped = self.record(&tape, moments, parameters, merged, true)?;
        let Coefficients { scale, offset } = taped.coefficients;
        let centers = self.centers(moments, merged);
        let maps = centers.into_iter().zip(scale.values().into_iter().zip(offset.values()));
        let affines = maps.map(|(center, (scale, offset))| Affine { center, scale, offset });
        let tracked = taped.tracked.map(Tracked::values);
        Ok(FormulaOutput { affines: affines.collect(), tracked })
    }

    /// The number that the values of each cell are measured from: their mean. Where a mask excludes
    /// all values of a cell, it is the mean of a set that the cell is in, which is near them.
    pub fn centers(&self, moments: &[Moments], merged: &[Option<Merged>]) -> Vec<f64> {
        let mut centers: Vec<f64> = moments.iter().map(|m| m.mean).collect();
        let empty: Vec<usize> =
            (0..centers.len()).filter(|cell| moments[*cell].count == 0.0).collect();
        for (k, sets) in self.sets.iter().enumerate().rev().filter(|_| !empty.is_empty()) {
            let statistics: Vec<(f64, f64)> = match merged.get(k).and_then(Option::as_ref) {
                Some(Merged { values, statistics }) => {
                    values.iter().copied().zip(statistics.mean.iter().copied()).collect()
                }
                None => merge_cells(sets, moments).iter().map(|m| (m.count, m.mean)).collect(),
            };
            for cell in &empty {
                let (count, mean) = statistics[sets.as_slice()[*cell] as usize];
                if count > 0.0 {
                    centers[*cell] = mean;
                }
            }
        }
        centers
    }

    /// The gradient map of each cell and the gradient of each parameter, from Σ dy and
    /// Σ dy (x − center) of each cell. The sums of excluded values that are normalized as well may
    /// follow, and so do their maps. With ranks, `merged` and `over` are those of the forward pass,
    /// and there is one exchange.
    ///
    /// # Errors
    /// Same as [`exchange`], or if a sum is not finite.
    ///
    /// # Panics
    /// If there are fewer sums than moments.
    pub fn backward(
        &self,
        moments: &[Moments],
        parameters: &NamedValues,
        sums: &[Sums],
        merged: &[Option<Merged>],
        over: Option<(&dyn Communicator, &str)>,
    ) -> Result<FormulaGradients, Error> {
        let tape = Tape::default();
        let taped = self.record(&tape, moments, parameters, merged, false)?;
        let Coefficients { scale, offset } = taped.coefficients;
        let (valid, excluded) = sums.split_at(moments.len());
        let constant = self.constant_cells(merged)?;
        // the dy of constant cells has no part in dx
        let differentiate = |constant: Option<&Vec<bool>>| {
            let sum = |part: fn(&Sums) -> f64| -> Vec<f64> {
                let total = |cell: usize| {
                    let own =
                        if constant.is_some_and(|of| of[cell]) { 0.0 } else { part(&valid[cell]) };
                    own + excluded.get(cell).map_or(0.0, part)
                };
                (0..valid.len()).map(total).collect()
            };
            tape.backward(&[(offset, sum(|s| s.dy)), (scale, sum(|s| s.dy_x))])
        };
        let gradients = differentiate(None);
        let x_gradients = constant.as_ref().map(|constant| differentiate(Some(constant)));
        let x_gradients = x_gradients.as_ref().unwrap_or(&gradients);
        let mut dmean = x_gradients.get(taped.mean).to_vec();
        let mut dvariance = x_gradients.get(taped.variance).to_vec();
        if let Some((over, request)) = over {
            let totals = self.exchange_gradients(&taped.merged, x_gradients, over, request)?;
            let shared = self.sets.iter().zip(merged);
            let shared = shared.filter_map(|(sets, merged)| Some((sets, merged.as_ref()?)));
            for ((sets, Merged { values, statistics }), [dmeans, dvariances]) in shared.zip(totals)
            {
                for (cell, (m, set)) in moments.iter().zip(sets.as_slice()).enumerate() {
                    let set = *set as usize;
                    let share = m.count / values[set].max(1.0);
                    let apart = m.mean - statistics.mean[set];
                    dmean[cell] += share * (dmeans[set] + 2.0 * apart * dvariances[set]);
                    dvariance[cell] += share * dvariances[set];
                }
            }
        }
        let scale = scale.values();
        let gradient = |(cell, m): (usize, &Moments)| {
            let constant = constant.as_ref().is_some_and(|constant| constant[cell]);
            let (a, share) = (if constant { 0.0 } else { scale[cell] }, 1.0 / m.count.max(1.0));
            Gradient { a, b: 2.0 * share * dvariance[cell], k: share * dmean[cell] }
        };
        let linear = |scale: &f64| Gradient { a: *scale, b: 0.0, k: 0.0 };
        let own = moments.iter().enumerate().map(gradient);
        let cells = own.chain(scale.iter().take(excluded.len()).map(linear)).collect();
        let parameter = |(name, var): (&'static str, Option<Var<'_>>)| {
            (name, var.map(|var| gradients.get(var).to_vec()))
        };
        Ok(FormulaGradients {
            cells,
            parameters: taped.parameters.into_iter().map(parameter).collect(),
        })
    }

    /// The cells of one value that is its own mean, for a plain rule: y is β there, whatever x is,
    /// so that their dy has no part in dx, and dx is no difference of two large numbers. None where
    /// there are none.
    fn constant_cells(&self, merged: &[Option<Merged>]) -> Result<Option<Vec<bool>>, Error> {
        let plain = R::CENTERING == Centering::Mean
            && self.rule.roles(&self.shape, true)?.is_some()
            && self.settings.batch
            && !self.uses_running(merged)?;
        let cells = |values: Vec<f64>| -> Vec<bool> {
            self.sets[0].as_slice().iter().map(|set| values[*set as usize] <= 1.0).collect()
        };
        Ok(plain.then(|| cells(self.values(0, merged))).filter(|cells| cells.contains(&true)))
    }

    /// The number of values of each set of a sharing, over all ranks.
    fn values(&self, k: usize, merged: &[Option<Merged>]) -> Vec<f64> {
        match merged.get(k).and_then(Option::as_ref) {
            Some(merged) => merged.values.clone(),
            None => self.sets[k].sums(&self.counts),
        }
    }

    /// Whether each statistic has one value, and the policy puts the running averages in its place.
    ///
    /// # Errors
    /// If the policy refuses one value a statistic.
    pub(super) fn uses_running(&self, merged: &[Option<Merged>]) -> Result<bool, Error> {
        let Settings { one_value, batch, .. } = &self.settings;
        let (Some(policy), Some(k)) = (one_value, self.rule.variance_sharing()) else {
            return Ok(false);
        };
        // a set without values has no statistic
        let values = self.values(k, merged);
        let one = values.iter().all(|values| *values <= 1.0) && values.contains(&1.0);
        Ok(one && policy.uses_running(R::NAME, &self.shape, *batch)?)
    }

    /// Records the formula on a tape, with the target of the running averages where `track`.
    fn record<'t>(
        &self,
        tape: &'t Tape,
        moments: &[Moments],
        parameters: &NamedValues,
        own: &[Option<Merged>],
        track: bool,
    ) -> Result<Taped<'t>, Error> {
        let uses_running = self.uses_running(own)?;
        let table = |part: fn(&Moments) -> f64| tape.table(moments.iter().map(part).collect());
        let (mean, variance) = (table(|m| m.mean), table(Moments::variance));
        let var = |values: &Vec<f64>| tape.table(values.clone());
        let statistics =
            |of: &Statistics| Statistics { mean: var(&of.mean), variance: var(&of.variance) };
        let merged: Vec<Option<Merged<Var<'t>>>> = (0..self.sets.len())
            .map(|k| {
                let Merged { values, statistics: of_sets } = own.get(k)?.as_ref()?;
                Some(Merged { values: values.clone(), statistics: statistics(of_sets) })
            })
            .collect();
        let parameters: Vec<_> =
            parameters.iter().map(|(name, values)| (*name, values.as_ref().map(var))).collect();
        let grid =
            Grid { shape: &self.shape, coordinates: &self.coordinates, counts: &self.counts };
        let center = tape.table(self.centers(moments, own));
        let cells = CellTables { grid, sets: &self.sets, merged: &merged, mean, variance, center };
        let Settings { epsilon, batch, running, .. } = &self.settings;
        let batch = *batch && !uses_running;
        let running = running.get(batch).map(statistics);
        let context =
            Context { cells: &cells, epsilon: *epsilon, batch, running, parameters: &parameters };
        let coefficients = self.rule.table(&context);
        let tracked = (track && !uses_running).then(|| self.rule.tracked(&context));
        let tracked = tracked.flatten();
        Ok(Taped { mean, variance, parameters, merged, coefficients, tracked })
    }

    /// The gradients of the statistics that ranks share, added: the means' and the variances'.
    fn exchange_gradients(
        &self,
        merged: &[Option<Merged<Var<'_>>>],
        gradients: &TapeGradients,
        over: &dyn Communicator,
        request: &str,
    ) -> Result<Vec<[Vec<f64>; 2]>, Error> {
        let shared = merged.iter().flatten();
        let own: Vec<f64> = shared
            .clone()
            .flat_map(|Merged { statistics: Statistics { mean, variance }, .. }| {
                [gradients.get(*mean), gradients.get(*variance)].concat()
            })
            .collect();
        let request = format!("the backward pass of {request}");
        let tables = exchange::<Error>(over, &request, Ok(own))?;
        let total = |i: usize| tables.iter().map(|table| table[i]).sum();
        let mut totals = (0..tables.first().map_or(0, Vec::len)).map(total);
        let tables = |Merged { values, .. }: &Merged<Var<'_>>| {
            let [means, variances] = [(); 2].map(|()| totals.by_ref().take(values.len()).collect());
            check_finite("dy", &[&means, &variances])?;
            Ok([means, variances])
        };
        shared.map(tables).collect()
    }

    /// The sets that ranks share.
    fn shared_sets(&self) -> impl Iterator<Item = &Labels> {
        let sets = self.sets.iter().zip(&self.across_ranks);
        sets.filter(|(_, across)| **across).map(|(sets, _)| sets)
    }
}

/// The moments of each set of cells.
fn merge_cells(sets: &Labels, cells: &[Moments]) -> Vec<Moments> {
    let mut merged = vec![Moments::default(); sets.count()];
    for (cell, set) in cells.iter().zip(sets.as_slice()) {
        let set = &mut merged[*set as usize];
        *set = set.merge(*cell);
    }
    merged
}

/// Whether the tables of some sets are finite, as they are where a tensor is, and not too large.
pub(super) fn check_finite(name: &'static str, tables: &[&Vec<f64>]) -> Result<(), Error> {
    for table in tables {
        if let Some(set) = table.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { name, set, sets: table.len() });
        }
    }
    Ok(())
}
