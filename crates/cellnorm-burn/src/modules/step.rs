//! Batch normalization of one time step at a time, y_t = γ (x_t − mean_{t,c}) / √(variance_{t,c}
//! + ε) + β: the layer of whole sequences, told which step x begins with.

use burn::tensor::{Bool, Tensor};
use cellnorm::norms::Step;

use super::StepBatchNorm;
use crate::averages::Averages;

/// A [`StepBatchNorm`] at a time step. It holds nothing of its own: γ, β and running averages are
/// the layer's.
#[derive(Clone, Copy, Debug)]
pub struct AtStep<'a> {
    layer: &'a StepBatchNorm,
    first: usize,
}

impl StepBatchNorm {
    /// The layer for an x that begins with the time step `first`, counted from 0. Give it one step,
    /// or any number of them.
    ///
    /// In training, [`OneValue::UseRunning`](cellnorm::OneValue::UseRunning) lets the last step of
    /// a single sequence through.
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use cellnorm_burn::StepBatchNormConfig;
    /// let device = Device::flex().autodiff();
    /// let layer = StepBatchNormConfig::new(3, 20).init(&device);
    /// let mut h = Tensor::<2>::random([8, 3], Distribution::Default, &device);
    /// for t in 0..5 {
    ///     let y: Tensor<3> = layer.at_step(t).forward(h.unsqueeze_dim(1)); // [8, 1, 3]
    ///     h = y.squeeze_dim::<2>(1).tanh();
    /// }
    /// assert!(h.mean().into_scalar::<f32>().abs() < 0.2);
    /// ```
    pub fn at_step(&self, first: usize) -> AtStep<'_> {
        AtStep { layer: self, first }
    }
}

impl AtStep<'_> {
    /// Same as [`StepBatchNorm::forward`], with the same panics.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.run(x, None)
    }

    /// Same as [`StepBatchNorm::forward_masked`], with the same panics.
    pub fn forward_masked<const D: usize>(&self, x: Tensor<D>, mask: Tensor<D, Bool>) -> Tensor<D> {
        self.run(x, Some(mask))
    }

    /// The layer of the steps of x alone: a cell would otherwise look through the averages of all
    /// steps at each of them.
    ///
    /// # Panics
    /// If momentum counts batches: each call would count as one.
    fn run<const D: usize>(&self, x: Tensor<D>, mask: Option<Tensor<D, Bool>>) -> Tensor<D> {
        assert!(
            self.layer.num_batches_tracked.is_none(),
            "this momentum counts batches, and a step at a time is no batch; use Step or Keep, or \
             give whole sequences"
        );
        let Step { channels, steps, step_axis, .. } = self.layer.rule;
        let axis = if step_axis < 0 { step_axis + D as isize } else { step_axis };
        // of a shape without this axis, the rule says what would suit
        let len = x.dims().get(axis as usize).copied().unwrap_or(1).max(1);
        let begin = self.first.min(steps.saturating_sub(1));
        let end = self.first.saturating_add(len).min(steps);
        let mut call = self.layer.call(&x.device());
        call.rule = Step { steps: end - begin, first: 0, ..call.rule };
        let part = Some((begin * channels, (end - begin) * channels));
        call.averages = call.averages.map(|all| Averages { part, ..all });
        call.run(x, mask).0
    }
}
