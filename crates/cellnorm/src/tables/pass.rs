//! A rule applied to an array: the passes over memory, and the formula between them.

use ndarray::{Array, ArrayView, CowArray, Dimension};

use super::formula::{Answer, Formula, Parameters, Terms};
use super::{Labels, Mask, Region, Remembered, Rule, Tracked};
use crate::arrays::{Arranged, Grid, typed};
use crate::element::Element;
use crate::error::{Error, check_epsilon};
use crate::moments::Moments;
use crate::semantics::OneValue;

/// A rule with all that it is given.
pub(crate) struct Pass<'a, R> {
    pub(crate) rule: &'a R,
    pub(crate) epsilon: f64,
    pub(crate) one_value: OneValue,
    /// Each slot's values; None for one that the layer does not have.
    pub(crate) parameters: Parameters,
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

impl<R: Rule> Pass<'_, R> {
    pub(crate) fn forward<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
    ) -> Result<Forward<T, D>, Error> {
        check_epsilon(self.epsilon)?;
        let shape = x.shape().to_vec();
        let x = self.arranged(x.into_dyn())?;
        let (region, coordinates) = &x.plan;
        let moments = region.moments(x.slice());
        // NaN and infinity in x show in the moments of their cell
        check_finite(moments.iter().map(|m| m.mean))?;
        check_finite(moments.iter().map(|m| m.m2))?;
        let Answer { affines, tracked } =
            self.formula(&shape, coordinates, &moments)?.forward(&moments, &self.parameters);
        // cells that are finite each can be too far apart for a common variance
        for table in tracked.iter().flat_map(|of| [&of.mean, &of.variance]) {
            check_finite(table.iter().copied())?;
        }
        check_finite(affines.iter().map(|affine| affine.scale))?;
        check_finite(affines.iter().map(|affine| affine.offset))?;
        let kept = Kept { region: region.clone(), moments };
        let y = typed(x.map_owned(|(region, _), buffers| region.affine(buffers, &affines)));
        Ok(Forward { y, kept, tracked })
    }

    /// dx and the gradient of each slot's values.
    pub(crate) fn backward<T: Element, D: Dimension>(
        &self,
        kept: &Kept,
        x: ArrayView<'_, T, D>,
        dy: CowArray<'_, T, D>,
    ) -> Result<(Array<T, D>, Parameters), Error> {
        check_epsilon(self.epsilon)?;
        let shape = x.shape().to_vec();
        let x = self.arranged(CowArray::from(x.into_dyn()))?;
        let (region, coordinates) = &x.plan;
        // cells are numbered as x lies in memory, which may not be as in the forward pass
        let moments =
            if *region == kept.region { kept.moments.clone() } else { region.moments(x.slice()) };
        let formula = self.formula(&shape, coordinates, &moments)?;
        let centers: Vec<f64> = moments.iter().map(|m| m.mean).collect();
        let (dx, gradients) = x
            .map_gradient(dy.into_dyn(), |x, buffers| {
                let sums = region.sums(x, buffers.source(), &centers);
                let (gradients, parameters) = formula.backward(&moments, &self.parameters, &sums);
                region.gradient(x, buffers, &centers, &gradients);
                (parameters, sums.iter().position(|s| !(s.dy.is_finite() && s.dy_x.is_finite())))
            })
            .and_then(|(dx, (parameters, not_finite))| match not_finite {
                Some(set) => Err(Error::NotFinite { name: "dy", set, sets: moments.len() }),
                None => Ok((dx, parameters)),
            })?;
        let names = self.parameters.iter().map(|(name, _)| *name);
        Ok((typed(dx), names.zip(gradients).collect()))
    }

    fn arranged<'x, T: Element>(
        &self,
        x: CowArray<'x, T, ndarray::IxDyn>,
    ) -> Result<Arranged<'x, T, Grid>, Error> {
        let numbered = self.rule.numbered(x.shape())?;
        Arranged::in_cells(x, &numbered, self.mask)
    }

    fn formula(
        &self,
        shape: &[usize],
        coordinates: &[Option<Labels>],
        moments: &[Moments],
    ) -> Result<Formula<R>, Error> {
        let one_value = self.mask.is_none().then_some(self.one_value);
        let terms = Terms { epsilon: self.epsilon, one_value, batch: self.batch };
        let counts = moments.iter().map(|m| m.count).collect();
        let running = |batch| self.running.given(batch).cloned();
        Formula::new(self.rule.clone(), terms, shape, coordinates.to_vec(), counts, running)
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
