//! A rule with its parameters and running averages: a layer.

use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension};

use super::pass::{Forward, Kept, Pass};
use super::{Correction, Mask, Remembered, Rule, Running, Tracked};
use crate::element::Element;
use crate::error::Error;
use crate::norms::{Mode, Momentum, Phase, RunningVariance, StatisticsFrom, phases};
use crate::semantics::{Frozen, OneValue};

/// A normalization by a [`Rule`]. Made by [`TableNormConfig`](super::TableNormConfig).
#[derive(Clone, Debug)]
pub struct TableNorm<R> {
    pub(super) parameters: Vec<(&'static str, Option<ArrayD<f64>>)>,
    /// The running averages, where the rule keeps any.
    pub running: Option<Running>,
    /// Those that training is given in their place, where they have a pace of their own.
    pub correction: Option<Correction>,
    /// ε.
    pub epsilon: f64,
    /// The pace of the running averages.
    pub momentum: Momentum,
    /// Which variance the running variance follows.
    pub running_variance: RunningVariance,
    /// What one value a statistic does in training.
    pub one_value: OneValue,
    /// What `forward` and `backward` do; [`train`](Self::train) and [`freeze`](Self::freeze) set
    /// it, too.
    pub mode: Mode,
    pub(super) phase: Phase,
    /// How often the running averages have moved.
    pub steps: u64,
    pub(super) rule: R,
}

/// What `backward` needs of a forward pass besides x.
#[derive(Clone, Debug)]
pub struct TableSaved {
    kept: Kept,
    mask: Option<Mask>,
    batch: bool,
    running: Remembered,
}

/// The gradients of a [`TableNorm`].
#[derive(Clone, Debug, PartialEq)]
pub struct TableGradients<T, D: Dimension> {
    /// ∂L/∂x.
    pub dx: Array<T, D>,
    parameters: Vec<(&'static str, Option<ArrayD<f64>>)>,
}

impl<T, D: Dimension> TableGradients<T, D> {
    /// The gradient of a parameter, in its shape; None where the layer has no such parameter.
    pub fn parameter(&self, name: &str) -> Option<&ArrayD<f64>> {
        self.parameters.iter().find(|(of, _)| *of == name)?.1.as_ref()
    }
}

impl<R: Rule> TableNorm<R> {
    /// The rule.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// The rule, to change its numbers between steps; its parameters keep their shapes.
    pub fn rule_mut(&mut self) -> &mut R {
        &mut self.rule
    }

    /// The names of the parameters that the layer has.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.parameters.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name)
    }

    /// A parameter by its name; None where the layer has no such parameter.
    pub fn parameter(&self, name: &str) -> Option<&ArrayD<f64>> {
        self.parameters.iter().find(|(of, _)| *of == name)?.1.as_ref()
    }

    /// A parameter by its name, to change it.
    pub fn parameter_mut(&mut self, name: &str) -> Option<&mut ArrayD<f64>> {
        self.parameters.iter_mut().find(|(of, _)| *of == name)?.1.as_mut()
    }

    /// Several parameters at once, in the order of the names.
    pub(crate) fn parameters_mut<const K: usize>(
        &mut self,
        names: [&str; K],
    ) -> [Option<&mut ArrayD<f64>>; K] {
        let mut found = [const { None }; K];
        for (name, value) in &mut self.parameters {
            if let Some(at) = names.iter().position(|wanted| wanted == name) {
                found[at] = value.as_mut();
            }
        }
        found
    }

    phases!();

    /// Normalizes as [`mode`](Self::mode) says; in training, with the statistics of x, and moves
    /// the running averages toward them.
    ///
    /// # Errors
    /// If x does not have the layer's axes, is empty, has one value per statistic, or holds NaN or
    /// infinity; or if a parameter was set to a wrong shape. Then nothing has changed.
    pub fn forward<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
    ) -> Result<(Array<T, D>, TableSaved), Error> {
        self.run(x, None)
    }

    /// As [`forward`](Self::forward), over the valid values alone; a statistic of one value is fine
    /// then, and one of none does not move its running average.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if the mask does not fit x; values that are not valid may
    /// hold anything.
    pub fn forward_masked<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        mask: &Mask,
    ) -> Result<(Array<T, D>, TableSaved), Error> {
        self.run(x, Some(mask))
    }

    /// Inference, over x itself where the array is handed over: with the running averages, where
    /// the rule keeps any.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), but one value per statistic is fine.
    pub fn infer<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
    ) -> Result<Array<T, D>, Error> {
        Ok(self.pass(false, None)?.forward(x.into())?.y)
    }

    /// As [`infer`](Self::infer), over the valid values alone.
    ///
    /// # Errors
    /// As [`infer`](Self::infer), and if the mask does not fit x.
    pub fn infer_masked<'a, T: Element, D: Dimension>(
        &self,
        x: impl Into<CowArray<'a, T, D>>,
        mask: &Mask,
    ) -> Result<Array<T, D>, Error> {
        Ok(self.pass(false, Some(mask))?.forward(x.into())?.y)
    }

    /// As [`infer`](Self::infer), with what the backward pass of a frozen layer needs.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    pub fn forward_fixed<T: Element, D: Dimension>(
        &self,
        x: ArrayView<'_, T, D>,
    ) -> Result<(Array<T, D>, TableSaved), Error> {
        let pass = self.pass(false, None)?;
        let Forward { y, kept, .. } = pass.forward(CowArray::from(x))?;
        Ok((y, TableSaved { kept, mask: None, batch: false, running: pass.running }))
    }

    /// The gradients, given what the forward pass saved, its x, and dy; dx is written over dy where
    /// that is handed over.
    ///
    /// # Errors
    /// If dy has another shape than x, what is saved is not of this layer, or the sums of dy are
    /// not finite.
    pub fn backward<'a, T: Element, D: Dimension>(
        &self,
        saved: &TableSaved,
        x: ArrayView<'_, T, D>,
        dy: impl Into<CowArray<'a, T, D>>,
    ) -> Result<TableGradients<T, D>, Error> {
        let pass = self.pass(saved.batch, saved.mask.as_ref())?;
        let sizes = [&saved.running, &pass.running]
            .map(|running| running.given(false).map_or(0, |of| of.mean.len()));
        if sizes[0] != sizes[1] {
            let (given, expected) = (vec![sizes[0]], vec![sizes[1]]);
            return Err(Error::Parameter { name: "the saved mean", given, expected });
        }
        let pass = Pass { running: saved.running.clone(), ..pass };
        let (dx, gradients) = pass.backward(&saved.kept, x, dy.into())?;
        let shaped = |(slot, (name, of)): (usize, &(&'static str, Option<ArrayD<f64>>))| {
            let of = of.as_ref().filter(|_| self.mode.train_parameters);
            let values = gradients[slot].1.clone();
            let shaped = |(of, values): (&ArrayD<f64>, _)| {
                ArrayD::from_shape_vec(of.raw_dim(), values)
                    .expect("as many values as the parameter")
            };
            (*name, of.zip(values).map(shaped))
        };
        Ok(TableGradients {
            dx,
            parameters: self.parameters.iter().enumerate().map(shaped).collect(),
        })
    }

    fn run<T: Element, D: Dimension>(
        &mut self,
        x: ArrayView<'_, T, D>,
        mask: Option<&Mask>,
    ) -> Result<(Array<T, D>, TableSaved), Error> {
        let batch = self.mode.statistics == StatisticsFrom::Batch;
        let pass = self.pass(batch, mask)?;
        let Forward { y, kept, tracked } = pass.forward(CowArray::from(x))?;
        let running = pass.running;
        if let (true, Some(tracked)) = (self.mode.update, tracked) {
            self.follow(&tracked);
        }
        Ok((y, TableSaved { kept, mask: mask.cloned(), batch, running }))
    }

    /// Moves the running averages, where the rule keeps any, toward the statistics of a batch; one
    /// without values is no step. [`forward`](Self::forward) does so itself: this is for callers
    /// that normalize elsewhere, as on a device.
    ///
    /// # Panics
    /// If there is not one mean, variance and number of values for each average.
    pub fn follow(&mut self, tracked: &Tracked<Vec<f64>>) {
        let Some(averages) =
            self.running.as_mut().filter(|_| tracked.values.iter().any(|values| *values > 0.0))
        else {
            return;
        };
        self.steps += 1;
        let (rule, one_value, epsilon) = (self.running_variance, self.one_value, self.epsilon);
        let factor = |values| rule.moves(values, one_value).then(|| rule.factor(values, epsilon));
        averages.follow(tracked, self.momentum.weight(self.steps), factor);
        if let Some(Correction { averages, momentum }) = &mut self.correction {
            averages.follow(tracked, momentum.weight(self.steps), factor);
        }
    }

    /// The rule and the fields may have been changed since the layer was made.
    fn pass<'a>(&'a self, batch: bool, mask: Option<&'a Mask>) -> Result<Pass<'a, R>, Error> {
        self.rule.check()?;
        if self.running.is_none() && self.rule.running().is_some() {
            let what = "needs the running averages that it was made with, and the field `running` \
                        is empty";
            return Err(Error::Unsupported { layer: R::NAME, what });
        }
        for (slot, (name, parameter)) in self.rule.slots().iter().zip(&self.parameters) {
            if let Some(parameter) = parameter
                && parameter.shape() != slot.shape
            {
                return Err(Error::Parameter {
                    name,
                    given: parameter.shape().to_vec(),
                    expected: slot.shape.clone(),
                });
            }
            if let Some(given) = parameter.iter().flatten().find(|v| !v.is_finite()) {
                return Err(Error::Number { name, given: *given, expected: "finite" });
            }
        }
        let flat = |values: &ArrayD<f64>| values.iter().copied().collect::<Vec<f64>>();
        let shape = self.rule.running().map_or(vec![], |(shape, _)| shape);
        let running = Remembered::new(self.running.as_ref(), self.correction.as_ref(), &shape)?;
        let parameters =
            self.parameters.iter().map(|(name, value)| (*name, value.as_ref().map(flat))).collect();
        Ok(Pass {
            rule: &self.rule,
            epsilon: self.epsilon,
            one_value: self.one_value,
            parameters,
            running,
            batch,
            mask,
        })
    }
}
