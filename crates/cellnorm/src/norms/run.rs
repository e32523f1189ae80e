//! What all layers run on: from arrays to a plan, and from the plan's tables to the caller's gradients.

use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension};

use super::{Gradients, Roles, Saved};
use crate::arrays::{Arranged, typed};
use crate::element::Element;
use crate::error::{Error, check_epsilon};
use crate::standardize::{About, Parameters, Statistics};

/// A layer's parameters and their shape, ε, and the name for messages.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) name: &'static str,
    pub(super) about: About,
    pub(super) epsilon: f64,
    pub(super) gamma: Option<&'a ArrayD<f64>>,
    pub(super) beta: Option<&'a ArrayD<f64>>,
    pub(super) shape: &'a [usize],
}

impl Run<'_> {
    /// Normalizes with the statistics of x; in training they need more than one value each.
    pub(super) fn forward<T: Element, D: Dimension>(
        &self,
        x: CowArray<'_, T, D>,
        roles: &Roles,
        training: bool,
    ) -> Result<(Array<T, D>, Saved), Error> {
        self.check()?;
        let shape = x.shape().to_vec();
        let x = Arranged::new(x.into_dyn(), roles)?;
        if training && self.about == About::Mean && x.plan.values_per_set() == 1.0 {
            return Err(Error::OneValue { layer: self.name, shape });
        }
        let mut statistics = Statistics::default();
        let (gamma, beta) = (standard(self.gamma), standard(self.beta));
        let parameters = Parameters { gamma: gamma.as_deref(), beta: beta.as_deref() };
        let y = x.map_owned(|plan, buffers| statistics = plan.forward(buffers, self.about, self.epsilon, parameters));
        check_finite("x", &statistics.variance)?;
        check_finite("x", &statistics.mean)?;
        Ok((typed(y), Saved { statistics, fixed: false }))
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
        let parameters = Parameters { gamma: gamma.as_deref(), beta: beta.as_deref() };
        Ok(typed(x.map_owned(|plan, buffers| plan.forward_fixed(buffers, statistics, self.epsilon, parameters))))
    }

    pub(super) fn backward<T: Element, D: Dimension>(
        &self,
        saved: &Saved,
        x: ArrayView<'_, T, D>,
        dy: CowArray<'_, T, D>,
        roles: &Roles,
    ) -> Result<Gradients<T, D>, Error> {
        self.check()?;
        let x = Arranged::new(CowArray::from(x.into_dyn()), roles)?;
        let statistics = &saved.statistics;
        for (name, table) in [("the saved mean", &statistics.mean), ("the saved variance", &statistics.variance)] {
            if table.len() != x.plan.sets() {
                return Err(Error::Parameter { name, given: vec![table.len()], expected: vec![x.plan.sets()] });
            }
        }
        // dβ is wanted even without β: it shows NaN in dy
        let (gamma, beta) = (standard(self.gamma), vec![0.0; x.plan.channels()]);
        let parameters = Parameters { gamma: gamma.as_deref(), beta: Some(&beta) };
        let (dx, gradients) = x.map_gradient(dy.into_dyn(), |slice, buffers| {
            x.plan.backward(slice, buffers, statistics, self.about, self.epsilon, parameters, saved.fixed)
        })?;
        check_finite("dy", &gradients.beta)?;
        // with a finite dy, what is left is x
        check_finite("x", &gradients.gamma)?;
        let shaped = |of: Option<&ArrayD<f64>>, values| {
            of.map(|of| ArrayD::from_shape_vec(of.raw_dim(), values).expect("as many values as channels"))
        };
        let (dgamma, dbeta) = (shaped(self.gamma, gradients.gamma), shaped(self.beta, gradients.beta));
        Ok(Gradients { dx: typed(dx), dgamma, dbeta })
    }

    /// ε and the parameters may have been set since the layer was made.
    fn check(&self) -> Result<(), Error> {
        check_epsilon(self.epsilon)?;
        for (name, parameter) in [("gamma", self.gamma), ("beta", self.beta)] {
            if let Some(parameter) = parameter
                && parameter.shape() != self.shape
            {
                let (given, expected) = (parameter.shape().to_vec(), self.shape.to_vec());
                return Err(Error::Parameter { name, given, expected });
            }
            if let Some(given) = parameter.into_iter().flatten().find(|v| !v.is_finite()) {
                return Err(Error::Number { name, given: *given, expected: "finite" });
            }
        }
        Ok(())
    }
}

fn standard(parameter: Option<&ArrayD<f64>>) -> Option<Vec<f64>> {
    parameter.map(|parameter| parameter.iter().copied().collect())
}

/// NaN and infinity in a tensor show in the statistics of their set.
fn check_finite(name: &'static str, table: &[f64]) -> Result<(), Error> {
    match table.iter().position(|value| !value.is_finite()) {
        Some(set) => Err(Error::NotFinite { name, set, sets: table.len() }),
        None => Ok(()),
    }
}
