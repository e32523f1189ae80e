//! State out of layers and into them.

use ndarray::ArrayD;

use super::State;
use crate::error::Error;
use crate::rule::{Norm, Rule, Running};

impl<R: Rule> Norm<R> {
    /// γ and β, and where the layer has them the running averages and steps.
    pub fn state(&self) -> State {
        let running = self.running.clone().map(|running| (running.mean, running.variance));
        let (mean, variance) = running.unzip();
        let steps = self.running.as_ref().map(|_| self.steps);
        State { gamma: self.gamma.clone(), beta: self.beta.clone(), mean, variance, steps }
    }

    /// Takes γ, β and running averages of the layer's own semantics ([`State::to`] converts); steps
    /// stay where they are absent.
    ///
    /// # Errors
    /// If one is missing that the layer has, is there that it does not have, or has another shape.
    /// Then nothing has changed.
    pub fn load(&mut self, state: &State) -> Result<(), Error> {
        let parameters = self.rule().parameters();
        for (name, given, wanted) in [
            ("gamma", &state.gamma, self.gamma.is_some()),
            ("beta", &state.beta, self.beta.is_some()),
        ] {
            let fault = match given {
                None if wanted => "is missing, and the layer has one",
                Some(_) if !wanted => {
                    "is there, and the layer has none; make it with scale(true) or center(true)"
                }
                Some(given) => {
                    let spec = parameters.iter().find(|spec| spec.name == name);
                    check(name, given, &spec.expect("the layer has it").shape)?;
                    continue;
                }
                None => continue,
            };
            return Err(Error::Tensor { name: name.into(), problem: fault.into() });
        }
        let running = match self.rule().running() {
            Some((shape, _)) => Some(Running {
                mean: statistic("running_mean", &state.mean, &shape)?,
                variance: statistic("running_var", &state.variance, &shape)?,
            }),
            None => {
                for (name, given) in
                    [("running_mean", &state.mean), ("running_var", &state.variance)]
                {
                    if given.is_some() {
                        let problem = "is there, and the layer has no running statistics; \
                                       InstanceNorm::track makes one that has";
                        return Err(Error::Tensor { name: name.into(), problem: problem.into() });
                    }
                }
                None
            }
        };
        (self.gamma, self.beta) = (state.gamma.clone(), state.beta.clone());
        if running.is_some() {
            self.running = running;
            self.steps = state.steps.unwrap_or(self.steps);
        }
        Ok(())
    }
}

fn check(name: &'static str, given: &ArrayD<f64>, shape: &[usize]) -> Result<(), Error> {
    if given.shape() != shape {
        let (given, expected) = (given.shape().to_vec(), shape.to_vec());
        return Err(Error::Parameter { name, given, expected });
    }
    Ok(())
}

fn statistic(
    name: &'static str,
    given: &Option<ArrayD<f64>>,
    shape: &[usize],
) -> Result<ArrayD<f64>, Error> {
    let Some(given) = given else {
        let problem = "is missing, and the layer has one".into();
        return Err(Error::Tensor { name: name.into(), problem });
    };
    check(name, given, shape)?;
    Ok(given.clone())
}
