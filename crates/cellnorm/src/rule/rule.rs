//! A normalization: which values share each statistic, its parameters, and one formula on tables.
//!
//! The defaults of [`Rule`] are the plain case, y = γ (x − mean) / √(variance + ε) + β, on the
//! tables that serve masks, ranks and devices.

use super::{CellTables, Grid, Statistics, Table, Var};
use crate::semantics::{EpsilonAt, Semantics};
use crate::shape::{Along, Centering, Labels, Roles, Sharing, sets_of};
use crate::{error::Error, momentum::Momentum, normalization::Normalization};

/// A parameter of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Its name: gamma, beta, rho, …
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The value that each element starts with; gamma and beta have the config's initializers.
    pub initial: f64,
}

impl ParameterSpec {
    /// A parameter of this name and shape that starts with this value.
    pub fn new(name: &'static str, shape: &[usize], initial: f64) -> Self {
        Self { name, shape: shape.to_vec(), initial }
    }

    /// γ = 1 and β = 0 of a shape.
    pub fn affine(shape: &[usize]) -> Vec<Self> {
        vec![Self::new("gamma", shape, 1.0), Self::new("beta", shape, 0.0)]
    }
}

/// The map of each cell: y = (x − center) · scale + offset, with the
/// [center](CellTables::center) of the cells.
#[derive(Clone, Debug)]
pub struct Coefficients<V> {
    /// The factor.
    pub scale: V,
    /// The value at the center.
    pub offset: V,
}

/// The statistics of a batch that running averages move toward.
#[derive(Clone, Debug)]
pub struct Tracked<V> {
    /// The means, or the numbers that the rule keeps in their place.
    pub mean: V,
    /// The biased variances, or the numbers that the rule keeps in their place.
    pub variance: V,
    /// The number of values of each, for the unbiased running variance: infinite where the second
    /// is no variance. A set without values does not move its averages.
    pub values: Vec<f64>,
}

impl Tracked<Var<'_>> {
    /// The same in numbers.
    pub(super) fn values(self) -> Tracked<Vec<f64>> {
        let Self { mean, variance, values } = self;
        Tracked { mean: mean.values(), variance: variance.values(), values }
    }
}

impl<V: Table> Tracked<V> {
    /// The statistics of a rule's sharing `k`.
    pub fn merged(cells: &CellTables<'_, V>, k: usize) -> Self {
        let Statistics { mean, variance } = cells.merge(k);
        Self { mean, variance, values: cells.values(k) }
    }

    /// Their means over the sets of each label; each set with values has the same weight.
    pub fn mean_by(self, labels: &Labels) -> Self {
        let Self { mean, variance, values } = self;
        let present: Vec<f64> = values.iter().map(|n| f64::from(*n > 0.0)).collect();
        let counts = labels.sums(&present);
        let shares = present.iter().zip(labels.as_slice());
        let shares = shares.map(|(present, label)| present / counts[*label as usize].max(1.0));
        let shares = mean.constant(shares.collect());
        let totals = labels.sums(&values);
        let values = totals.iter().zip(&counts).map(|(n, sets)| n / sets.max(1.0)).collect();
        let mean_of = |table: V| (table * shares.clone()).sum(labels);
        Self { mean: mean_of(mean), variance: mean_of(variance), values }
    }
}

/// The arguments of a formula: the cells, and a few numbers.
#[derive(Clone, Debug)]
pub struct Context<'a, V> {
    /// The cells.
    pub cells: &'a CellTables<'a, V>,
    /// ε.
    pub epsilon: f64,
    /// Whether statistics are those of x, as in training; else the running ones, where the rule has
    /// them.
    pub batch: bool,
    /// The running averages, where the rule has them.
    pub running: Option<Statistics<V>>,
    /// The parameters, flat, in the order of [`Rule::parameters`]; None where the layer has none.
    pub parameters: &'a [(&'static str, Option<V>)],
}

impl<V: Table> Context<'_, V> {
    /// A parameter, where the layer has it.
    pub fn parameter(&self, name: &str) -> Option<&V> {
        self.parameters.iter().find(|(own, _)| *own == name).and_then(|(_, value)| value.as_ref())
    }

    /// A parameter that every layer has: neither gamma nor beta.
    pub(crate) fn always(&self, name: &str) -> &V {
        self.parameter(name).expect("a parameter that is always there")
    }

    /// The statistics of the sets that running averages are kept of, sharing `k`: of x in training,
    /// the running ones in inference.
    pub fn statistics(&self, k: usize) -> Statistics<V> {
        match &self.running {
            Some(running) if !self.batch => running.clone(),
            _ => self.cells.merge(k),
        }
    }

    /// 1 / √(variance + ε).
    pub fn rstd(&self, variance: V) -> V {
        variance.plus(self.epsilon).rsqrt()
    }

    /// γ (x − mean) / √(variance + ε) + β, with the statistics and the channel of each cell.
    pub fn standardize(&self, statistics: Statistics<V>, channels: &Labels) -> Coefficients<V> {
        let r = self.rstd(statistics.variance);
        self.affine(r.clone(), r * (self.cells.center.clone() - statistics.mean), channels)
    }

    /// γ and β, where the layer has them, after `scale` and `shift`: scale · γ and shift · γ +
    /// β.
    pub fn affine(&self, scale: V, shift: V, channels: &Labels) -> Coefficients<V> {
        let (mut scale, mut offset) = (scale, shift);
        if let Some(gamma) = self.parameter("gamma") {
            let gamma = gamma.take(channels);
            scale = scale * gamma.clone();
            offset = offset * gamma;
        }
        if let Some(beta) = self.parameter("beta") {
            offset = offset + beta.take(channels);
        }
        Coefficients { scale, offset }
    }
}

/// A normalization: which values share each statistic, which parameters there are, and one formula.
///
/// A normalization whose values share one mean and one variance, or one mean square, says so by the
/// [`roles`](Self::roles) of its axes: this is the plain case, and all else follows.
///
/// ```
/// use cellnorm::Error;
/// use cellnorm::rule::{NormConfig, ParameterSpec, Rule};
/// use cellnorm::shape::Roles;
///
/// /// Each row of an image has a mean and a variance.
/// #[derive(Clone, Debug)]
/// struct Rows;
///
/// impl Rule for Rows {
///     const NAME: &'static str = "row normalization";
///
///     fn parameters(&self) -> Vec<ParameterSpec> {
///         vec![]
///     }
///
///     fn roles(&self, shape: &[usize], _affine: bool) -> Result<Option<Roles>, Error> {
///         let last = shape.len().saturating_sub(1);
///         Ok(Some(Roles::new((0..shape.len()).map(|axis| (axis == last, false)))))
///     }
/// }
///
/// let y =
///     NormConfig::custom(Rows).init()?.infer(ndarray::array![[1.0_f32, 3.0], [5.0, 9.0]])?;
/// assert!((y[[0, 1]] - 1.0).abs() < 1e-4 && (y[[1, 1]] - 1.0).abs() < 1e-4);
/// # Ok::<(), Error>(())
/// ```
///
/// Any other says which values share each of its statistics, and computes each cell's map from
/// them; the gradients of x and of every parameter follow.
///
/// ```
/// use cellnorm::Error;
/// use cellnorm::rule::{Coefficients, Context, NormConfig, ParameterSpec, Rule, Table};
/// use cellnorm::shape::{Measure, Sharing};
///
/// /// Each channel of each sample is divided by its standard deviation, and keeps its mean.
/// #[derive(Clone, Debug)]
/// struct Contrast;
///
/// impl Rule for Contrast {
///     const NAME: &'static str = "contrast normalization";
///     const FORMULA: &'static str = "y = mean + (x − mean) / √(variance + ε)";
///
///     fn parameters(&self) -> Vec<ParameterSpec> {
///         vec![]
///     }
///
///     fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
///         Ok(vec![Sharing::over("contrast", Measure::MeanVariance, shape, |axis| axis < 2)])
///     }
///
///     fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
///         let scale = context.rstd(context.cells.variance.clone());
///         Coefficients { scale, offset: context.cells.mean.clone() }
///     }
/// }
///
/// let x = ndarray::array![[[1.0_f64, 3.0], [10.0, 30.0]]];
/// let y = NormConfig::custom(Contrast).epsilon(1e-12).init()?.infer(x.view())?;
/// assert!((y[[0, 1, 1]] - 21.0).abs() < 1e-9);
/// # Ok::<(), Error>(())
/// ```
pub trait Rule: Clone + std::fmt::Debug + Send + Sync {
    /// The normalization's name in messages.
    const NAME: &'static str;

    /// The formula, in words and letters.
    const FORMULA: &'static str = "y = γ (x − mean) / √(variance + ε) + β";

    /// Whether it normalizes a weight rather than an activation.
    const OF_WEIGHTS: bool = false;

    /// The default of ε.
    const EPSILON: f64 = 1e-5;

    /// Where ε is added; semantics that have it elsewhere are refused.
    const EPSILON_AT: EpsilonAt = EpsilonAt::InsideRoot;

    /// Whether β is there by default.
    const CENTER: bool = true;

    /// γ less the stored gamma, which is 0 except where checkpoints hold γ − 1.
    const GAMMA_OFFSET: f64 = 0.0;

    /// Whether training itself takes the running averages, so that the layer cannot do without.
    const NEEDS_RUNNING: bool = false;

    /// Which semantics describe it; None (the default) takes those of any layer.
    const NORMALIZATION: Option<Normalization> = None;

    /// The number that the values of a set are measured from, in the plain case.
    const CENTERING: Centering = Centering::Mean;

    /// The parameters; the layer can do without those named gamma and beta.
    fn parameters(&self) -> Vec<ParameterSpec>;

    /// Whether the rule itself is sound; asked when the layer is made and before each pass.
    ///
    /// # Errors
    /// Its fault.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The axis of the channels; None where the rule has none, or names its axes.
    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        None
    }

    /// Takes from a framework's semantics the fields of the rule: the channel axis by default.
    fn adopt(&mut self, semantics: &Semantics) {
        if let Some(axis) = self.channel_axis_mut() {
            *axis = semantics.channel_axis;
        }
    }

    /// Whether γ and β are learned under these semantics: by default as they say.
    fn learned(semantics: &Semantics) -> [bool; 2] {
        [semantics.scale, semantics.center]
    }

    /// Whether these semantics describe it: by default, where their layer is
    /// [`NORMALIZATION`](Self::NORMALIZATION).
    fn described(semantics: &Semantics) -> bool {
        Self::NORMALIZATION.is_none_or(|own| own == semantics.normalization)
    }

    /// The pace of a second pair of averages under these semantics, for rules whose training takes
    /// them. Default: none.
    fn correction(_semantics: &Semantics) -> Option<Momentum> {
        None
    }

    /// The shape of the running averages, and the value that the second starts with (the first
    /// starts with 0); None without any.
    fn running(&self) -> Option<(Vec<usize>, f64)> {
        None
    }

    /// The plain case, where the cells of a set share one mean and one variance (or one mean
    /// square): the role of each axis of a tensor of this shape. None for any other rule. `affine`
    /// says whether the layer has γ or β; without, no axis needs to carry a parameter.
    ///
    /// # Errors
    /// If the shape does not suit the normalization.
    fn roles(&self, _shape: &[usize], _affine: bool) -> Result<Option<Roles>, Error> {
        Ok(None)
    }

    /// Which values share each statistic of the formula. In the plain case it follows from the
    /// [`roles`](Self::roles).
    ///
    /// # Errors
    /// If the shape does not suit the normalization.
    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let Some(roles) = self.roles(shape, true)? else {
            let what = "names neither the roles of its axes nor its sharings";
            return Err(Error::Unsupported { layer: Self::NAME, what });
        };
        // the first word of the rule's name
        let name = Self::NAME.split(' ').next().unwrap_or(Self::NAME);
        let (measure, along) = (Self::CENTERING.into(), roles.along(shape));
        Ok(vec![Sharing { name, measure, shape: shape.to_vec(), along }])
    }

    /// Which axes number the cells; along the others lie the values of a cell: each axis that a
    /// statistic is not shared along, or that a parameter varies along.
    ///
    /// # Errors
    /// Same as [`sharings`](Self::sharings).
    fn cell_axes(&self, shape: &[usize], affine: bool) -> Result<Vec<bool>, Error> {
        if let Some(roles) = self.roles(shape, affine)? {
            roles.check_groups(shape)?;
            return Ok(roles.cell_axes());
        }
        let sharings = self.sharings(shape)?;
        let apart = |axis| sharings.iter().any(|sharing| !sharing.shares(axis));
        Ok((0..shape.len()).map(apart).collect())
    }

    /// The set of each cell, for each of the [`sharings`](Self::sharings).
    ///
    /// # Errors
    /// Same as [`sharings`](Self::sharings).
    fn sets(&self, grid: &Grid<'_>) -> Result<Vec<Labels>, Error> {
        Ok(sets_of(&self.sharings(grid.shape)?, grid.coordinates, grid.counts.len()))
    }

    /// Which statistic training refuses of a one-value set; None where one value is fine.
    fn variance_sharing(&self) -> Option<usize> {
        (Self::CENTERING == Centering::Mean).then_some(0)
    }

    /// The formula, on tables. By default it standardizes over the first sharing, in the plain case
    /// as [`Plan::forward`](crate::shape::Plan::forward) does in closed form.
    fn table<V: Table>(&self, context: &Context<'_, V>) -> Coefficients<V> {
        let cells = context.cells;
        let sets = &cells.sets[0];
        let affine = ["gamma", "beta"].iter().any(|name| context.parameter(name).is_some());
        let roles = self.roles(cells.grid.shape, affine).expect("checked with the sharings");
        let Some(roles) = roles else {
            return context.standardize(context.statistics(0).take(sets), sets);
        };
        let channels = channels(&roles, cells);
        if Self::CENTERING == Centering::Zero {
            let r = context.rstd(cells.mean_square(0).take(sets));
            return context.affine(r.clone(), r * cells.center.clone(), &channels);
        }
        let shared = self.running_labels(cells.grid.shape).filter(|_| !context.batch);
        let statistics = context.statistics(0);
        let statistics = match shared {
            Some(labels) => {
                statistics.take(&sets.map(labels.count(), |set| labels.as_slice()[set] as usize))
            }
            None => statistics.take(sets),
        };
        context.standardize(statistics, &channels)
    }

    /// The statistics of the batch that running averages move toward. By default those of the first
    /// sharing, where the rule is plain or keeps running averages.
    fn tracked<V: Table>(&self, context: &Context<'_, V>) -> Option<Tracked<V>> {
        let shape = context.cells.grid.shape;
        let plain = self.roles(shape, true).is_ok_and(|roles| roles.is_some());
        if !plain && self.running().is_none() {
            return None;
        }
        let merged = Tracked::merged(context.cells, 0);
        Some(match (Self::CENTERING, self.running_labels(shape)) {
            (Centering::Zero, _) => {
                let variance = context.cells.mean_square(0);
                Tracked { mean: merged.mean.times(0.0), variance, ..merged }
            }
            (Centering::Mean, Some(labels)) => merged.mean_by(&labels),
            (Centering::Mean, None) => merged,
        })
    }

    /// The running average of each set of the first sharing, in the plain case, where several sets
    /// share one: it moves toward their mean. None where each set has its own.
    fn running_labels(&self, _shape: &[usize]) -> Option<Labels> {
        None
    }

    /// Whether ranks exchange statistics in a forward pass over this shape, where those of x are
    /// taken: in training (`batch`), or always where the rule keeps no running averages. They do
    /// where samples share any. A shape that does not suit is told to the others, in an exchange.
    fn exchanges(&self, shape: &[usize], batch: bool) -> bool {
        let shared = |sharing: &Sharing| sharing.along.first() == Some(&Along::Shared);
        !Self::OF_WEIGHTS
            && (batch || self.running().is_none())
            && self.sharings(shape).map_or(true, |sharings| sharings.iter().any(shared))
    }
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
