//! A rule with numbers: all that is computed between the passes over one tensor.
//!
//! Forward, the moments of the cells become the affine map of each; backward, the sums of the cells
//! become the gradient map of each and the gradients of the parameters. Whoever runs the passes,
//! arrays or a framework, only hands these tables over.

use super::{
    Coefficients, Figure, Given, Labels, Rule, Statistics, Table, Tape, Tracked, Var, sets_of,
};
use crate::error::Error;
use crate::moments::Moments;
use crate::passes::{Affine, Gradient, Sums};
use crate::semantics::OneValue;

/// The values of each parameter, flat, in the order of the rule's slots; None for one that the
/// layer does not have.
pub type Parameters = Vec<(&'static str, Option<Vec<f64>>)>;

/// What a layer says besides its rule.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// ε.
    pub epsilon: f64,
    /// What one value a statistic does; None under a mask, where one value is fine.
    pub one_value: Option<OneValue>,
    /// Whether statistics are those of x, as in training.
    pub batch: bool,
}

/// A rule for the cells of one tensor.
///
/// ```
/// use cellnorm::norms::BatchInstance;
/// use cellnorm::tables::{Formula, Rule, Terms, cells_of};
/// use cellnorm::{
///     OneValue,
///     passes::{self, Buffers},
/// };
/// let (shape, x) = ([2, 1, 3], [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// let rule = BatchInstance { channels: 1, channel_axis: 1 };
/// let (cells, coordinates) = cells_of(&shape, &rule.numbered(&shape)?);
/// let terms = Terms { epsilon: 1e-5, one_value: Some(OneValue::Error), batch: true };
/// let formula = Formula::new(rule, terms, &shape, coordinates, vec![3.0; 2], |_| None)?;
/// let parameters = vec![("rho", Some(vec![0.0]))]; // the instance's statistics alone
/// let answer = formula.forward(&passes::moments(&x, &cells), &parameters);
/// let mut y = Vec::new();
/// passes::affine(Buffers::Into(&x, &mut y), &cells, &answer.affines);
/// assert!((y[0] + 1.5_f32.sqrt()).abs() < 1e-4 && y[1] == 0.0);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Formula<R> {
    rule: R,
    epsilon: f64,
    batch: bool,
    /// Whether the running averages took the place of a single value's statistics, and stay.
    stays: bool,
    running: Option<Statistics<Vec<f64>>>,
    shape: Vec<usize>,
    coordinates: Vec<Option<Labels>>,
    sets: Vec<Labels>,
    counts: Vec<f64>,
}

/// What a formula answers forward.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The map of each cell.
    pub affines: Vec<Affine>,
    /// The statistics of the batch that running averages move toward.
    pub tracked: Option<Tracked<Vec<f64>>>,
}

/// The same on a tape, with what it was computed from.
struct Taped<'t> {
    mean: Var<'t>,
    variance: Var<'t>,
    parameters: Vec<Option<Var<'t>>>,
    coefficients: Coefficients<Var<'t>>,
    tracked: Option<Tracked<Var<'t>>>,
}

impl<R: Rule> Formula<R> {
    /// For a tensor of this shape with cells of these coordinates and numbers of values. `running`
    /// gives the running averages, flat, for statistics that are those of x (true) or not.
    ///
    /// # Errors
    /// If the shape does not suit the rule, or the policy refuses a single value a statistic.
    pub fn new(
        rule: R,
        terms: Terms,
        shape: &[usize],
        coordinates: Vec<Option<Labels>>,
        counts: Vec<f64>,
        running: impl FnOnce(bool) -> Option<Statistics<Vec<f64>>>,
    ) -> Result<Self, Error> {
        let Terms { epsilon, one_value, batch } = terms;
        let sets = sets_of(&rule.sharings(shape)?, &coordinates, counts.len());
        let figure = Figure {
            shape,
            coordinates: &coordinates,
            sets: &sets,
            counts: &counts,
            mean: (),
            variance: (),
            center: (),
        };
        let stays =
            one_value.map_or(Ok(false), |policy| figure.uses_running(&rule, policy, batch))?;
        let batch = batch && !stays;
        let running = running(batch);
        Ok(Self {
            rule,
            epsilon,
            batch,
            stays,
            running,
            shape: shape.to_vec(),
            coordinates,
            sets,
            counts,
        })
    }

    /// The affine map of each cell, from the moments of all.
    pub fn forward(&self, moments: &[Moments], parameters: &Parameters) -> Answer {
        let tape = Tape::default();
        let taped = self.on(&tape, moments, parameters, true);
        let (scale, offset) =
            (taped.coefficients.scale.values(), taped.coefficients.offset.values());
        let affine =
            |(m, (scale, offset)): (&Moments, (f64, f64))| Affine { center: m.mean, scale, offset };
        let affines = moments.iter().zip(scale.into_iter().zip(offset)).map(affine).collect();
        let values = |of: Tracked<Var<'_>>| Tracked {
            mean: of.mean.values(),
            variance: of.variance.values(),
            values: of.values,
        };
        Answer { affines, tracked: taped.tracked.map(values) }
    }

    /// The gradient map of each cell and the gradient of each parameter, from Σ dy and Σ dy (x −
    /// mean) of each cell.
    pub fn backward(
        &self,
        moments: &[Moments],
        parameters: &Parameters,
        sums: &[Sums],
    ) -> (Vec<Gradient>, Vec<Option<Vec<f64>>>) {
        let tape = Tape::default();
        let taped = self.on(&tape, moments, parameters, false);
        let (s1, s2) = sums.iter().map(|s| (s.dy, s.dy_x)).unzip();
        let of = tape.backward(&[(taped.coefficients.offset, s1), (taped.coefficients.scale, s2)]);
        let (dmean, dvariance) = (of.of(taped.mean), of.of(taped.variance));
        let scale = taped.coefficients.scale.values();
        let gradient = |(cell, m): (usize, &Moments)| {
            let share = 1.0 / m.count.max(1.0);
            Gradient { a: scale[cell], b: 2.0 * share * dvariance[cell], k: share * dmean[cell] }
        };
        let gradients = moments.iter().enumerate().map(gradient).collect();
        let of_slot = |var: &Option<Var<'_>>| var.map(|var| of.of(var).to_vec());
        (gradients, taped.parameters.iter().map(of_slot).collect())
    }

    /// The formula on a tape, with what running averages move toward where that is wanted.
    fn on<'t>(
        &self,
        tape: &'t Tape,
        moments: &[Moments],
        parameters: &Parameters,
        track: bool,
    ) -> Taped<'t> {
        let table = |part: fn(&Moments) -> f64| tape.table(moments.iter().map(part).collect());
        let (mean, variance) = (table(|m| m.mean), table(Moments::variance));
        let Self { shape, coordinates, sets, counts, .. } = self;
        let figure =
            Figure { shape, coordinates, sets, counts, mean, variance, center: mean.detach() };
        let var = |values: &Vec<f64>| tape.table(values.clone());
        let named: Vec<_> =
            parameters.iter().map(|(name, values)| (*name, values.as_ref().map(var))).collect();
        let of = |of: &Statistics<Vec<f64>>| Statistics {
            mean: var(&of.mean),
            variance: var(&of.variance),
        };
        let running = self.running.as_ref().map(of);
        let given = Given { epsilon: self.epsilon, batch: self.batch, running, parameters: &named };
        let coefficients = self.rule.table(&figure, &given);
        let tracked = if track && !self.stays { self.rule.tracked(&figure, &given) } else { None };
        let parameters = named.into_iter().map(|(_, var)| var).collect();
        Taped { mean, variance, parameters, coefficients, tracked }
    }
}
