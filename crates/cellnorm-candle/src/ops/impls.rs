//! Batch normalization and every rule, as operations.

use candle_core::Tensor;
use cellnorm::norms::BatchAxes;
use cellnorm::tables::{Mask, Rule, TableNorm, TableSaved};
use cellnorm::{BatchNorm, Element, Error, Saved, Statistics, StatisticsFrom};
use ndarray::{ArrayD, ArrayViewD};

use super::{Layer, Slots};
use crate::composed::{Applied, Terms};

/// Batch normalization, and the axis of its channels. Its slots are γ and β.
#[derive(Clone, Debug)]
pub(crate) struct BatchLayer {
    pub(crate) norm: BatchNorm,
    pub(crate) channel_axis: isize,
}

impl Layer for BatchLayer {
    const NAME: &'static str = "batch normalization";
    type Saved = Saved;

    fn set(&mut self, slot: usize, values: ArrayD<f64>) {
        *[&mut self.norm.gamma, &mut self.norm.beta][slot] = Some(values);
    }

    fn forward<T: Element>(
        &mut self,
        x: ArrayViewD<'_, T>,
        mask: Option<&Mask>,
    ) -> Result<(ArrayD<T>, Saved), Error> {
        match mask {
            Some(mask) => self.norm.forward_masked(x, mask),
            None => self.norm.forward(x),
        }
    }

    fn backward<T: Element>(
        &self,
        saved: &Saved,
        x: ArrayViewD<'_, T>,
        dy: ArrayViewD<'_, T>,
    ) -> Result<(ArrayD<T>, Slots), Error> {
        let gradients = self.norm.backward(saved, x, dy)?;
        Ok((gradients.dx, vec![gradients.dgamma, gradients.dbeta]))
    }

    /// As batch normalization over several axes, of which there is one.
    fn composed(
        &mut self,
        x: &Tensor,
        parameters: &[Option<Tensor>],
        mask: Option<&Mask>,
    ) -> candle_core::Result<Tensor> {
        let norm = &mut self.norm;
        let rule =
            BatchAxes { axes: vec![self.channel_axis], lengths: vec![norm.running_mean.len()] };
        let batch = norm.mode.statistics == StatisticsFrom::Batch;
        let terms = Terms { epsilon: norm.epsilon, one_value: norm.one_value, batch, mask };
        let running =
            Statistics { mean: norm.running_mean.to_vec(), variance: norm.running_var.to_vec() };
        let named: Vec<_> = ["gamma", "beta"].into_iter().zip(parameters.iter().cloned()).collect();
        let applied = Applied { rule: &rule, terms, parameters: &named, running: Some(running) };
        let (y, tracked) = applied.run(x)?;
        if let (true, Some(of)) = (norm.mode.update, tracked) {
            norm.follow(&Statistics { mean: of.mean, variance: of.variance }, &of.values);
        }
        Ok(y)
    }
}

/// Its slots are those of the rule.
impl<R: Rule + 'static> Layer for TableNorm<R> {
    const NAME: &'static str = R::NAME;
    type Saved = TableSaved;

    fn set(&mut self, slot: usize, values: ArrayD<f64>) {
        let name = self.rule().slots()[slot].name;
        if let Some(parameter) = self.parameter_mut(name) {
            *parameter = values;
        }
    }

    fn forward<T: Element>(
        &mut self,
        x: ArrayViewD<'_, T>,
        mask: Option<&Mask>,
    ) -> Result<(ArrayD<T>, TableSaved), Error> {
        match mask {
            Some(mask) => self.forward_masked(x, mask),
            None => TableNorm::forward(self, x),
        }
    }

    fn backward<T: Element>(
        &self,
        saved: &TableSaved,
        x: ArrayViewD<'_, T>,
        dy: ArrayViewD<'_, T>,
    ) -> Result<(ArrayD<T>, Slots), Error> {
        let gradients = TableNorm::backward(self, saved, x, dy)?;
        let slots = self
            .rule()
            .slots()
            .iter()
            .map(|slot| gradients.parameter(slot.name).cloned())
            .collect();
        Ok((gradients.dx, slots))
    }

    fn composed(
        &mut self,
        x: &Tensor,
        parameters: &[Option<Tensor>],
        mask: Option<&Mask>,
    ) -> candle_core::Result<Tensor> {
        let batch = self.mode.statistics == StatisticsFrom::Batch;
        let terms = Terms { epsilon: self.epsilon, one_value: self.one_value, batch, mask };
        let flat = |of: &ArrayD<f64>| of.iter().copied().collect();
        let running = self.running.as_ref();
        let running =
            running.map(|of| Statistics { mean: flat(&of.mean), variance: flat(&of.variance) });
        let names = self.rule().slots().into_iter().map(|slot| slot.name);
        let named: Vec<_> = names.zip(parameters.iter().cloned()).collect();
        let (y, tracked) =
            Applied { rule: self.rule(), terms, parameters: &named, running }.run(x)?;
        if let (true, Some(tracked)) = (self.mode.update, tracked) {
            self.follow(&tracked);
        }
        Ok(y)
    }
}
