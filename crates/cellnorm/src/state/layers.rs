//! State out of layers and into them.

use ndarray::ArrayD;

use super::State;
use crate::error::{Error, check_shape};
use crate::normalization::Normalization;
use crate::rule::{Correction, Norm, ParameterSpec, Rule, Running};

impl<R: Rule> Norm<R> {
    /// The parameters, and where the layer has them the running averages and steps.
    pub fn state(&self) -> State {
        let running = self.running.clone().map(|running| (running.mean, running.variance));
        let (mean, variance) = running.unzip();
        let steps = self.running.as_ref().map(|_| self.steps);
        let others =
            self.extra.iter().map(|(name, values)| ((*name).into(), values.clone())).collect();
        let (gamma, beta) = (self.gamma.clone(), self.beta.clone());
        State { gamma, beta, mean, variance, steps, others }
    }

    /// Takes the parameters and running averages of the layer's own semantics ([`State::to`]
    /// converts); steps stay where they are absent ([`State::warning`] says where that matters).
    /// Averages of a [`Correction`] start anew as the running ones.
    ///
    /// # Errors
    /// If one is missing, is not the layer's, or has another shape. Then nothing has changed.
    pub fn load(&mut self, state: &State) -> Result<(), Error> {
        let parameters = self.rule().parameters();
        let mut loaded = vec![];
        for ParameterSpec { name, shape, .. } in &parameters {
            let given = state.parameter(name);
            if self.parameter(name).is_some() {
                loaded.push((name, present(name, given, shape)?.clone()));
            } else if given.is_some() {
                let problem =
                    "is there, and the layer has none; make it with scale(true) or center(true)";
                return Err(Error::tensor(name, problem));
            }
        }
        let affine = ["gamma", "beta"].into_iter().filter(|name| state.parameter(name).is_some());
        let mut names = affine.chain(state.others.keys().map(String::as_str));
        if let Some(name) = names.find(|name| parameters.iter().all(|spec| spec.name != *name)) {
            let problem = format!("is there, and {} has no such parameter", R::NAME);
            return Err(Error::tensor(name, problem));
        }
        let statistics = [("running_mean", &state.mean), ("running_var", &state.variance)];
        if self.running.is_some()
            && let Some((shape, _)) = self.rule().running()
        {
            let [mean, variance] =
                statistics.map(|(name, given)| present(name, given.as_ref(), &shape).cloned());
            let running = Running { mean: mean?, variance: variance? };
            if let Some(Correction { averages, .. }) = &mut self.correction {
                *averages = running.clone();
            }
            self.running = Some(running);
            self.steps = state.steps.unwrap_or(self.steps);
        } else if let Some((name, _)) = statistics.iter().find(|(_, given)| given.is_some()) {
            let advice = match R::NORMALIZATION {
                Some(Normalization::Instance) => "; InstanceNorm::track makes one that has",
                _ if self.rule().running().is_some() => "; make it with running_statistics(true)",
                _ => "",
            };
            let problem = format!("is there, and the layer has no running statistics{advice}");
            return Err(Error::tensor(name, problem));
        }
        for (name, values) in loaded {
            *self.parameter_mut(name).expect("its own") = values;
        }
        Ok(())
    }
}

fn present<'a>(
    name: &'static str,
    given: Option<&'a ArrayD<f64>>,
    shape: &[usize],
) -> Result<&'a ArrayD<f64>, Error> {
    let given = given.ok_or_else(|| Error::tensor(name, "is missing, and the layer has one"))?;
    check_shape(name, given.shape(), shape)?;
    Ok(given)
}
