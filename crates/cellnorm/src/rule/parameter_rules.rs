//! The rules that γ and β follow in training, and a plain gradient step that keeps them.

use ndarray::{ArrayD, Dimension};

use super::{Gradients, Norm, Rule};
use crate::error::{Error, check_number, check_numbers, check_shape};
use crate::parameters::{Constraint, Regularizer};

/// The rules of one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The penalty of its size in the loss. Default: none.
    pub regularizer: Option<Regularizer>,
    /// The constraint after every step. Default: none.
    pub constraint: Option<Constraint>,
    /// The factor of its learning rate, MXNet's `lr_mult`. Default: 1. With 0 it is frozen: it
    /// never moves, and as in Keras it then has neither penalty nor constraint.
    pub rate: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { regularizer: None, constraint: None, rate: 1.0 }
    }
}

impl Rules {
    fn penalty(&self, parameter: &ArrayD<f64>) -> Result<f64, Error> {
        self.regularizer
            .filter(|_| self.rate != 0.0)
            .map_or(Ok(0.0), |regularizer| regularizer.loss(parameter))
    }

    fn constrain(&self, parameter: &mut ArrayD<f64>) -> Result<(), Error> {
        self.constraint
            .filter(|_| self.rate != 0.0)
            .map_or(Ok(()), |constraint| constraint.apply(parameter))
    }

    /// Where a step leads.
    fn stepped(
        &self,
        parameter: &ArrayD<f64>,
        gradient: &ArrayD<f64>,
        rate: f64,
    ) -> Result<ArrayD<f64>, Error> {
        let sound = (0.0..f64::INFINITY).contains(&self.rate);
        check_number("the factor of a learning rate", self.rate, sound, "finite and at least 0")?;
        check_shape("the parameter's gradient", gradient.shape(), parameter.shape())?;
        if self.rate == 0.0 {
            return Ok(parameter.clone());
        }
        let mut gradient = gradient.clone();
        if let Some(regularizer) = self.regularizer {
            regularizer.add_gradient(parameter, &mut gradient)?;
        }
        let mut stepped = parameter - &(gradient * (rate * self.rate));
        check_numbers("a parameter after the step", &stepped, f64::is_finite, "finite")?;
        self.constrain(&mut stepped)?;
        Ok(stepped)
    }
}

/// The rules of γ and β.
///
/// ```
/// use cellnorm::LayerNormConfig;
/// use cellnorm::parameters::{Constraint, Regularizer};
/// use cellnorm::rule::{ParameterRules, Rules};
/// // γ is pulled toward 0 but not below, β does not move
/// let rules = ParameterRules {
///     gamma: Rules {
///         regularizer: Some(Regularizer::L2(0.01)),
///         constraint: Some(Constraint::NonNegative),
///         ..Rules::default()
///     },
///     beta: Rules { rate: 0.0, ..Rules::default() },
/// };
/// let mut layer = LayerNormConfig::new(&[4]).init()?;
/// let x = ndarray::array![[1.0, 2.0, 4.0, 8.0]];
/// let (y, saved) = layer.forward(x.view())?;
/// let loss = y.mapv(|y| y * y).sum() + rules.penalty(&layer)?;
/// let gradients = layer.backward(&saved, x.view(), y * 2.0)?;
/// rules.step(&mut layer, &gradients, 0.1)?;
/// assert!(loss > 4.0 && layer.gamma.unwrap()[3] < 1.0);
/// assert!(layer.beta.unwrap().iter().all(|beta| *beta == 0.0));
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ParameterRules {
    /// The rules of γ.
    pub gamma: Rules,
    /// The rules of β.
    pub beta: Rules,
}

impl ParameterRules {
    /// The penalty of γ and β in the loss; a frozen one has none.
    ///
    /// # Errors
    /// If a regularizer has a negative factor.
    pub fn penalty(&self, layer: &Norm<impl Rule>) -> Result<f64, Error> {
        let parts = self.both().into_iter().zip(trained(layer));
        parts
            .map(|(rules, parameter)| {
                parameter.map_or(Ok(0.0), |parameter| rules.penalty(&parameter))
            })
            .sum()
    }

    /// Moves γ and β into their constraints, after a step of any optimizer; a frozen one stays.
    ///
    /// # Errors
    /// As [`Constraint::apply`], for either of them.
    pub fn constrain(&self, layer: &mut Norm<impl Rule>) -> Result<(), Error> {
        let mut constrained = trained(layer);
        for (rules, parameter) in self.both().into_iter().zip(&mut constrained) {
            parameter.as_mut().map_or(Ok(()), |parameter| rules.constrain(parameter))?;
        }
        put(layer, constrained);
        Ok(())
    }

    /// One step of plain gradient descent: w − rate · [`Rules::rate`] · (∂L/∂w + ∂penalty/∂w), then
    /// the constraint. A frozen parameter stays.
    ///
    /// # Errors
    /// If a rate is not finite or a factor negative, a gradient has another shape than its
    /// parameter or leads to NaN or infinity, or a rule cannot be used. Then nothing has changed.
    pub fn step<T, D: Dimension>(
        &self,
        layer: &mut Norm<impl Rule>,
        gradients: &Gradients<T, D>,
        rate: f64,
    ) -> Result<(), Error> {
        check_number("the learning rate", rate, rate.is_finite(), "finite")?;
        let gradients = [&gradients.dgamma, &gradients.dbeta];
        let mut stepped = trained(layer);
        for ((rules, parameter), gradient) in
            self.both().into_iter().zip(&mut stepped).zip(gradients)
        {
            *parameter = match (parameter.take(), gradient) {
                (Some(parameter), Some(gradient)) => {
                    Some(rules.stepped(&parameter, gradient, rate)?)
                }
                _ => None,
            };
        }
        put(layer, stepped);
        Ok(())
    }

    fn both(&self) -> [&Rules; 2] {
        [&self.gamma, &self.beta]
    }
}

/// γ and β, where the layer has them and trains them.
fn trained(layer: &Norm<impl Rule>) -> [Option<ArrayD<f64>>; 2] {
    ["gamma", "beta"].map(|name| {
        let trains = layer.mode.train_parameters && !layer.is_frozen(name);
        layer.parameter(name).filter(|_| trains).cloned()
    })
}

/// Gives the layer those parameters that are there.
fn put(layer: &mut Norm<impl Rule>, parameters: [Option<ArrayD<f64>>; 2]) {
    for (parameter, to) in [&mut layer.gamma, &mut layer.beta].into_iter().zip(parameters) {
        if to.is_some() {
            *parameter = to;
        }
    }
}
