//! What all layers run on: from arrays to a plan, and from the plan's tables to the caller's
//! gradients.

use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension};

use super::{Gradients, Roles, Saved};
use crate::arrays::{Arranged, typed};
use crate::element::Element;
use crate::error::{Error, check_epsilon};
use crate::passes::Parameters;
use crate::semantics::OneValue;
use crate::standardize::{About, Statistics};
use crate::tables::{self, Forward, Mask, Pass, Remembered, Standard, Tracked};

/// A layer's parameters and their shape, ε, and the name for messages.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(super) name: &'static str,
    pub(super) about: About,
    pub(super) epsilon: f64,
    pub(super) gamma: Option<&'a ArrayD<f64>>,
    pub(super) beta: Option<&'a ArrayD<f64>>,
    pub(super) shape: &'a [usize],
    pub(super) one_value: OneValue,
    /// Whether γ and β have gradients.
    pub(super) train_parameters: bool,
}

impl Run<'_> {
    /// Normalizes with the statistics of x.
    pub(super) fn forward<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        roles: &Roles,
        training: bool,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.check()?;
        let shape = x.shape().to_vec();
        let x = Arranged::new(x.into_dyn(), roles)?;
        self.check_one_value(x.plan.values_per_set(), training, &shape)?;
        let mut statistics = Statistics::default();
        let (gamma, beta) = (standard(self.gamma), standard(self.beta));
        let parameters =
            Parameters { gamma: gamma.as_deref(), beta: beta.as_deref(), ..Parameters::default() };
        let y = x.map_owned(|plan, buffers| {
            statistics = plan.forward(buffers, self.about, self.epsilon, parameters)
        });
        check_finite("x", &statistics.variance)?;
        check_finite("x", &statistics.mean)?;
        Ok((typed(y), Saved { statistics, fixed: false, masked: None }))
    }

    /// Whether statistics of this many values may be taken.
    pub(super) fn check_one_value(
        &self,
        values: f64,
        training: bool,
        shape: &[usize],
    ) -> Result<(), Error> {
        let refused = match self.one_value {
            OneValue::Error => training,
            OneValue::AlwaysError => true,
            OneValue::Beta | OneValue::UseRunning => false,
        };
        if refused && self.about == About::Mean && values == 1.0 {
            return Err(Error::OneValue { layer: self.name, shape: shape.to_vec() });
        }
        Ok(())
    }

    /// Normalizes with given statistics.
    pub(super) fn forward_fixed<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        roles: &Roles,
        statistics: &Statistics,
    ) -> Result<Array<T, D>, Error> {
        self.check()?;
        let x = Arranged::new(x.into_dyn(), roles)?;
        let (gamma, beta) = (standard(self.gamma), standard(self.beta));
        let parameters =
            Parameters { gamma: gamma.as_deref(), beta: beta.as_deref(), ..Parameters::default() };
        Ok(typed(x.map_owned(|plan, buffers| {
            plan.forward_fixed(buffers, statistics, self.epsilon, parameters)
        })))
    }

    pub(super) fn backward<T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: CowArray<'_, T, D>,
        roles: &Roles,
    ) -> Result<Gradients<T, D>, Error> {
        self.check()?;
        let shaped = |of: Option<&ArrayD<f64>>, values| {
            let of = of.filter(|_| self.train_parameters);
            of.map(|of| {
                ArrayD::from_shape_vec(of.raw_dim(), values).expect("as many values as channels")
            })
        };
        let statistics = &saved.statistics;
        let sets = roles.sets(x.shape());
        for (name, table) in
            [("the saved mean", &statistics.mean), ("the saved variance", &statistics.variance)]
        {
            if table.len() != sets {
                return Err(Error::Parameter {
                    name,
                    given: vec![table.len()],
                    expected: vec![sets],
                });
            }
        }
        if let Some((mask, kept)) = &saved.masked {
            let rule = self.rule(roles);
            let fixed = saved.fixed.then_some(&saved.statistics);
            let (dx, gradients) = self.pass(&rule, mask, fixed).backward(kept, x, dy)?;
            let [dgamma, dbeta] = [0, 1].map(|slot: usize| gradients[slot].1.clone());
            let dgamma = dgamma.and_then(|values| shaped(self.gamma, values));
            return Ok(Gradients {
                dx,
                dgamma,
                dbeta: dbeta.and_then(|values| shaped(self.beta, values)),
            });
        }
        let x = Arranged::new(CowArray::from(x.into_dyn()), roles)?;
        if saved.fixed && !self.train_parameters {
            return self.backward_affine(statistics, &x, dy);
        }
        // dβ is wanted even without β: it shows NaN in dy
        let (gamma, beta) = (standard(self.gamma), vec![0.0; x.plan.channels()]);
        let parameters =
            Parameters { gamma: gamma.as_deref(), beta: Some(&beta), ..Parameters::default() };
        let (dx, gradients) = x.map_gradient(dy.into_dyn(), |slice, buffers| {
            x.plan.backward(
                slice,
                buffers,
                statistics,
                self.about,
                self.epsilon,
                parameters,
                saved.fixed,
            )
        })?;
        check_finite("dy", &gradients.beta)?;
        // with a finite dy, what is left is x
        check_finite("x", &gradients.gamma)?;
        let (dgamma, dbeta) =
            (shaped(self.gamma, gradients.gamma), shaped(self.beta, gradients.beta));
        Ok(Gradients { dx: typed(dx), dgamma, dbeta })
    }

    /// Normalizes the valid values alone, with their own statistics or with given ones, and tells
    /// how many values each has.
    #[expect(clippy::type_complexity, reason = "three results of one pass")]
    pub(super) fn forward_masked<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        roles: &Roles,
        mask: &Mask,
        fixed: Option<&Statistics>,
    ) -> Result<(Array<T, D>, Saved, Vec<f64>), Error> {
        self.check()?;
        let rule = self.rule(roles);
        let Forward { y, kept, tracked } = self.pass(&rule, mask, fixed).forward(x)?;
        let Tracked { mean, variance, values } = tracked.expect("the rule always tracks its sets");
        let statistics = fixed.cloned().unwrap_or(Statistics { mean, variance });
        Ok((
            y,
            Saved { statistics, fixed: fixed.is_some(), masked: Some((mask.clone(), kept)) },
            values,
        ))
    }

    fn rule(&self, roles: &Roles) -> Standard {
        Standard { roles: roles.clone(), about: self.about }
    }

    fn pass<'b>(
        &self,
        rule: &'b Standard,
        mask: &'b Mask,
        fixed: Option<&Statistics>,
    ) -> Pass<'b, Standard> {
        let parameters = vec![("gamma", standard(self.gamma)), ("beta", standard(self.beta))];
        let running = fixed
            .map(|of| tables::Statistics { mean: of.mean.clone(), variance: of.variance.clone() });
        let running = Remembered::inference(running);
        let (epsilon, one_value, batch) = (self.epsilon, self.one_value, fixed.is_none());
        Pass { rule, epsilon, one_value, parameters, running, batch, mask: Some(mask) }
    }

    /// Where nothing depends on x, dx = γ r dy: one pass, and NaN in dy passes on.
    fn backward_affine<T: Element, D: Dimension>(
        &self,
        statistics: &Statistics,
        x: &Arranged<'_, T>,
        dy: CowArray<'_, T, D>,
    ) -> Result<Gradients<T, D>, Error> {
        let linear = Statistics {
            mean: vec![0.0; statistics.mean.len()],
            variance: statistics.variance.clone(),
        };
        let gamma = standard(self.gamma);
        let parameters = Parameters { gamma: gamma.as_deref(), ..Parameters::default() };
        let (dx, ()) = x.map_gradient(dy.into_dyn(), |_, buffers| {
            x.plan.forward_fixed(buffers, &linear, self.epsilon, parameters);
        })?;
        Ok(Gradients { dx: typed(dx), dgamma: None, dbeta: None })
    }

    /// ε and the parameters may have been set since the layer was made.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_epsilon(self.epsilon)?;
        for (name, parameter) in [("gamma", self.gamma), ("beta", self.beta)] {
            if let Some(parameter) = parameter
                && parameter.shape() != self.shape
            {
                let (given, expected) = (parameter.shape().to_vec(), self.shape.to_vec());
                return Err(Error::Parameter { name, given, expected });
            }
            if let Some(given) = parameter.and_then(not_finite) {
                return Err(Error::Number { name, given, expected: "finite" });
            }
        }
        Ok(())
    }
}

/// An array's iterator takes longer for a row than to normalize it; a slice is copied at once.
fn standard(parameter: Option<&ArrayD<f64>>) -> Option<Vec<f64>> {
    parameter.map(|parameter| match parameter.as_slice() {
        Some(values) => values.to_vec(),
        None => parameter.iter().copied().collect(),
    })
}

/// The first value that is not finite; whether there is one is asked a vector at a time.
fn not_finite(parameter: &ArrayD<f64>) -> Option<f64> {
    let finite = |values: &[f64]| values.iter().fold(true, |all, value| all & value.is_finite());
    if parameter.as_slice().is_some_and(finite) {
        return None;
    }
    parameter.iter().copied().find(|value| !value.is_finite())
}

/// NaN and infinity in a tensor show in the statistics of their set.
fn check_finite(name: &'static str, table: &[f64]) -> Result<(), Error> {
    match table.iter().position(|value| !value.is_finite()) {
        Some(set) => Err(Error::NotFinite { name, set, sets: table.len() }),
        None => Ok(()),
    }
}
