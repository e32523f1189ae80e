//! State out of layers and into them.

use ndarray::{Array1, ArrayD};

use super::State;
use crate::error::Error;
use crate::norms::{BatchNorm, Kind, Norm};

impl BatchNorm {
    /// The parameters, statistics and steps.
    pub fn state(&self) -> State {
        State {
            gamma: self.gamma.clone(),
            beta: self.beta.clone(),
            mean: Some(self.running_mean.clone().into_dyn()),
            variance: Some(self.running_var.clone().into_dyn()),
            steps: Some(self.steps),
        }
    }

    /// Takes parameters and statistics of the layer's own semantics ([`State::to`] converts); steps
    /// stay where they are absent.
    ///
    /// # Errors
    /// If one is missing that the layer has, is there that it does not have, or has another shape.
    /// Then nothing has changed.
    pub fn load(&mut self, state: &State) -> Result<(), Error> {
        let channels = [self.kind.channels];
        let (gamma, beta) = affine(state, self.gamma.is_some(), self.beta.is_some(), &channels)?;
        let mean = statistic("running_mean", &state.mean, &channels)?;
        let variance = statistic("running_var", &state.variance, &channels)?;
        (self.gamma, self.beta, self.running_mean, self.running_var) =
            (gamma, beta, mean, variance);
        self.steps = state.steps.unwrap_or(self.steps);
        Ok(())
    }
}

impl<K: Kind> Norm<K> {
    /// The parameters.
    pub fn state(&self) -> State {
        State { gamma: self.gamma.clone(), beta: self.beta.clone(), ..State::default() }
    }

    /// Takes parameters.
    ///
    /// # Errors
    /// As [`BatchNorm::load`].
    pub fn load(&mut self, state: &State) -> Result<(), Error> {
        for (name, given) in [("running_mean", &state.mean), ("running_var", &state.variance)] {
            if given.is_some() {
                let problem = "is there, and the layer has no running statistics; \
                               InstanceNorm::track makes one that has";
                return Err(Error::Tensor { name: name.into(), problem: problem.into() });
            }
        }
        let shape = self.kind().parameter_shape();
        (self.gamma, self.beta) = affine(state, self.gamma.is_some(), self.beta.is_some(), &shape)?;
        Ok(())
    }
}

type Affine = (Option<ArrayD<f64>>, Option<ArrayD<f64>>);

/// γ and β, just where the layer has them.
fn affine(state: &State, scale: bool, center: bool, shape: &[usize]) -> Result<Affine, Error> {
    for (name, given, wanted) in [("gamma", &state.gamma, scale), ("beta", &state.beta, center)] {
        let problem = match given {
            None if wanted => "is missing, and the layer has one",
            Some(_) if !wanted => {
                "is there, and the layer has none; make it with scale(true) or center(true)"
            }
            Some(given) if given.shape() != shape => {
                return Err(Error::Parameter {
                    name,
                    given: given.shape().to_vec(),
                    expected: shape.to_vec(),
                });
            }
            _ => continue,
        };
        return Err(Error::Tensor { name: name.into(), problem: problem.into() });
    }
    Ok((state.gamma.clone(), state.beta.clone()))
}

fn statistic(
    name: &'static str,
    given: &Option<ArrayD<f64>>,
    shape: &[usize],
) -> Result<Array1<f64>, Error> {
    match given {
        Some(given) if given.shape() == shape => Ok(given.iter().copied().collect()),
        Some(given) => {
            Err(Error::Parameter { name, given: given.shape().to_vec(), expected: shape.to_vec() })
        }
        None => Err(Error::Tensor {
            name: name.into(),
            problem: "is missing, and the layer has one".into(),
        }),
    }
}
