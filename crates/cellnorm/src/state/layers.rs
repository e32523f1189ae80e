//! State out of layers and into them.

use ndarray::ArrayD;

use super::State;
use crate::error::Error;
use crate::normalization::Normalization;
#[cfg(doc)]
use crate::rule::Correction;
use crate::rule::{Norm, Rule, Running};

impl<R: Rule> Norm<R> {
    /// The parameters, and where the layer has them the running averages and steps.
    pub fn state(&self) -> State {
        let running = self.running.clone().map(|running| (running.mean, running.variance));
        let (mean, variance) = running.unzip();
        let steps = self.running.as_ref().map(|_| self.steps);
        let others = self.names().filter(|name| !matches!(*name, "gamma" | "beta"));
        let others =
            others.map(|name| (name.into(), self.parameter(name).expect("its own").clone()));
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        State { gamma, beta, mean, variance, steps, others: others.collect() }
    }

    /// Takes the parameters and running averages of the layer's own semantics ([`State::to`]
    /// converts); steps stay where they are absent. Averages of a [`Correction`] stay.
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
        let mut others = vec![];
        for spec in parameters.iter().filter(|spec| !matches!(spec.name, "gamma" | "beta")) {
            let Some(given) = state.others.get(spec.name) else {
                let problem = "is missing, and the layer has one".into();
                return Err(Error::Tensor { name: spec.name.into(), problem });
            };
            check(spec.name, given, &spec.shape)?;
            others.push((spec.name, given));
        }
        let unknown = |name: &&String| parameters.iter().all(|spec| spec.name != **name);
        if let Some(name) = state.others.keys().find(unknown) {
            let problem = format!("is there, and {} has no such parameter", R::NAME);
            return Err(Error::Tensor { name: name.clone(), problem });
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
                        let advice = match R::NORMALIZATION {
                            Some(Normalization::Instance) => {
                                "; InstanceNorm::track makes one that has"
                            }
                            _ => "",
                        };
                        let problem =
                            format!("is there, and the layer has no running statistics{advice}");
                        return Err(Error::Tensor { name: name.into(), problem });
                    }
                }
                None
            }
        };
        (self.gamma, self.beta) = (state.gamma.clone(), state.beta.clone());
        for (name, given) in others {
            *self.parameter_mut(name).expect("its own") = given.clone();
        }
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
