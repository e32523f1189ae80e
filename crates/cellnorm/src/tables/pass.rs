//! A rule applied to an array: the passes over memory, and the tape between them.

use ndarray::{Array, ArrayView, CowArray, Dimension};

use super::{
    Coefficients, Figure, Given, Labels, Mask, Region, Remembered, Rule, Statistics, Table, Tape, Tracked, Var, sets_of,
};
use crate::arrays::{Arranged, Grid, typed};
use crate::element::Element;
use crate::error::{Error, check_epsilon};
use crate::moments::Moments;
use crate::passes::{Affine, Gradient};
use crate::semantics::OneValue;

/// A rule with all that it is given.
pub(crate) struct Pass<'a, R> {
    pub(crate) rule: &'a R,
    pub(crate) epsilon: f64,
    pub(crate) one_value: OneValue,
    /// Each slot's values; None for one that the layer does not have.
    pub(crate) parameters: Vec<(&'static str, Option<Vec<f64>>)>,
    pub(crate) running: Remembered,
    /// Whether statistics are those of x.
    pub(crate) batch: bool,
    pub(crate) mask: Option<&'a Mask>,
}

/// What a forward pass leaves for the backward pass.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    region: Region,
    moments: Vec<Moments>,
}

/// The result of a forward pass.
pub(crate) struct Forward<T, D: Dimension> {
    pub(crate) y: Array<T, D>,
    pub(crate) kept: Kept,
    /// The statistics of the batch that running averages move toward.
    pub(crate) tracked: Option<Tracked<Vec<f64>>>,
}

/// A rule's answer on a tape, with what it was computed from.
struct Answer<'t> {
    mean: Var<'t>,
    variance: Var<'t>,
    parameters: Vec<(&'static str, Option<Var<'t>>)>,
    coefficients: Coefficients<Var<'t>>,
    tracked: Option<Tracked<Var<'t>>>,
}

impl<R: Rule> Pass<'_, R> {
    pub(crate) fn forward<T: Element, D: Dimension>(&self, x: CowArray<'_, T, D>) -> Result<Forward<T, D>, Error> {
        check_epsilon(self.epsilon)?;
        let shape = x.shape().to_vec();
        let x = self.arranged(x.into_dyn())?;
        let (region, coordinates) = &x.plan;
        let moments = region.moments(x.slice());
        // NaN and infinity in x show in the moments of their cell
        check_finite(moments.iter().map(|m| m.mean))?;
        check_finite(moments.iter().map(|m| m.m2))?;
        let tape = Tape::default();
        let answer = self.answer(&tape, &shape, coordinates, &moments)?;
        let (scale, offset) = (answer.coefficients.scale.values(), answer.coefficients.offset.values());
        let tracked = answer.tracked.map(|tracked| Tracked {
            mean: tracked.mean.values(),
            variance: tracked.variance.values(),
            values: tracked.values,
        });
        // cells that are finite each can be too far apart for a common variance
        for table in tracked.iter().flat_map(|of| [&of.mean, &of.variance]).chain([&scale, &offset]) {
            check_finite(table.iter().copied())?;
        }
        let coefficients = moments.iter().zip(scale.iter().zip(&offset));
        let affines: Vec<Affine> = coefficients
            .map(|(m, (scale, offset))| Affine { center: m.mean, scale: *scale, offset: *offset })
            .collect();
        let kept = Kept { region: region.clone(), moments };
        let y = typed(x.map_owned(|(region, _), buffers| region.affine(buffers, &affines)));
        Ok(Forward { y, kept, tracked })
    }

    /// dx and the gradient of each slot's values.
    #[expect(clippy::type_complexity, reason = "a gradient for each slot that is there")]
    pub(crate) fn backward<T: Element, D: Dimension>(
        &self,
        kept: &Kept,
        x: ArrayView<'_, T, D>,
        dy: CowArray<'_, T, D>,
    ) -> Result<(Array<T, D>, Vec<(&'static str, Option<Vec<f64>>)>), Error> {
        check_epsilon(self.epsilon)?;
        let shape = x.shape().to_vec();
        let x = self.arranged(CowArray::from(x.into_dyn()))?;
        let (region, coordinates) = &x.plan;
        // cells are numbered as x lies in memory, which may not be as in the forward pass
        let moments = if *region == kept.region { kept.moments.clone() } else { region.moments(x.slice()) };
        let tape = Tape::default();
        let answer = self.answer(&tape, &shape, coordinates, &moments)?;
        let centers: Vec<f64> = moments.iter().map(|m| m.mean).collect();
        let (dx, parameters) = x
            .map_gradient(dy.into_dyn(), |x, buffers| {
                let sums = region.sums(x, buffers.source(), &centers);
                let (s1, s2) = sums.iter().map(|s| (s.dy, s.dy_x)).unzip();
                let of = tape.backward(&[(answer.coefficients.offset, s1), (answer.coefficients.scale, s2)]);
                let (dmean, dvariance) = (of.of(answer.mean), of.of(answer.variance));
                let scale = answer.coefficients.scale.values();
                let gradient = |(cell, m): (usize, &Moments)| {
                    let share = 1.0 / m.count.max(1.0);
                    Gradient { a: scale[cell], b: 2.0 * share * dvariance[cell], k: share * dmean[cell] }
                };
                let gradients: Vec<Gradient> = moments.iter().enumerate().map(gradient).collect();
                region.gradient(x, buffers, &centers, &gradients);
                let of_slot =
                    |(name, var): &(&'static str, Option<Var<'_>>)| (*name, var.map(|var| of.of(var).to_vec()));
                let finite = sums.iter().position(|s| !(s.dy.is_finite() && s.dy_x.is_finite()));
                (answer.parameters.iter().map(of_slot).collect(), finite)
            })
            .and_then(|(dx, (parameters, not_finite))| match not_finite {
                Some(set) => Err(Error::NotFinite { name: "dy", set, sets: moments.len() }),
                None => Ok((dx, parameters)),
            })?;
        Ok((typed(dx), parameters))
    }

    fn arranged<'x, T: Element>(&self, x: CowArray<'x, T, ndarray::IxDyn>) -> Result<Arranged<'x, T, Grid>, Error> {
        let numbered = self.rule.numbered(x.shape())?;
        Arranged::in_cells(x, &numbered, self.mask)
    }

    fn answer<'t>(
        &self,
        tape: &'t Tape,
        shape: &[usize],
        coordinates: &[Option<Labels>],
        moments: &[Moments],
    ) -> Result<Answer<'t>, Error> {
        let table = |part: fn(&Moments) -> f64| tape.table(moments.iter().map(part).collect());
        let (mean, variance) = (table(|m| m.mean), table(Moments::variance));
        let counts: Vec<f64> = moments.iter().map(|m| m.count).collect();
        let sets = sets_of(&self.rule.sharings(shape)?, coordinates, counts.len());
        let (counts, sets) = (&counts, &sets);
        let figure = Figure { shape, coordinates, sets, counts, mean, variance, center: mean.detach() };
        let stays = self.mask.is_none() && figure.uses_running(self.rule, self.one_value, self.batch)?;
        let batch = self.batch && !stays;
        let var = |values: &Vec<f64>| tape.table(values.clone());
        let parameters: Vec<_> =
            self.parameters.iter().map(|(name, values)| (*name, values.as_ref().map(var))).collect();
        let running = self.running.given(batch).map(|r| Statistics { mean: var(&r.mean), variance: var(&r.variance) });
        let given = Given { epsilon: self.epsilon, batch, running, parameters: &parameters };
        let coefficients = self.rule.table(&figure, &given);
        let tracked = self.rule.tracked(&figure, &given).filter(|_| !stays);
        Ok(Answer { mean, variance, coefficients, tracked, parameters })
    }
}

/// What is computed from x is finite where x is, and not too large.
fn check_finite(mut table: impl ExactSizeIterator<Item = f64>) -> Result<(), Error> {
    let sets = table.len();
    match table.position(|value| !value.is_finite()) {
        Some(set) => Err(Error::NotFinite { name: "x", set, sets }),
        None => Ok(()),
    }
}
