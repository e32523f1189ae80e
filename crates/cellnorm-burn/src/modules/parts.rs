//! The parts of a layer in a forward pass, and its methods, which every layer has.

use burn::module::RunningState;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use cellnorm::rule::{Norm, Rule, Tracked};
use cellnorm::{Activation, Mode, OneValue};
use ndarray::ArrayD;

use super::averages::{Average, Averages, Pace, batches};
use crate::apply::Call;
use crate::ranks::Link;
use crate::tables::Table;

/// The parts of a layer.
pub(super) struct Parts<'a, R> {
    pub(super) rule: &'a R,
    pub(super) epsilon: f64,
    pub(super) one_value: OneValue,
    /// In the order of the rule's, flat.
    pub(super) parameters: Vec<(&'static str, Option<Tensor<1>>)>,
    pub(super) averages: Option<Averages<'a>>,
    pub(super) mode: Mode,
    pub(super) pace: Pace,
    pub(super) link: Option<&'a Link>,
}

impl<R: Rule + 'static> Parts<'_, R> {
    /// y, after which the running averages move as the mode says; and the statistics of the batch.
    ///
    /// # Panics
    /// If the shape of x does not suit the rule, the mask does not broadcast to it, the policy
    /// refuses its number of values, or a rank fails.
    pub(super) fn run<const D: usize>(
        self,
        x: Tensor<D>,
        mask: Option<Tensor<D, Bool>>,
        activation: Activation,
    ) -> (Tensor<D>, Option<Tracked<Table>>) {
        let Self { rule, epsilon, one_value, parameters, averages, mode, pace, link } = self;
        // as they are before they move
        let running = averages.map(Averages::values);
        let ranks = link.and_then(Link::ranks);
        let update = mode.update && averages.is_some();
        let call = Call {
            rule,
            epsilon,
            one_value,
            parameters,
            running,
            mode: Mode { update, ..mode },
            activation,
            ranks,
            pace: (pace.momentum, pace.variance),
        };
        let (y, tracked) = call.run(x, mask);
        if let (true, Some(averages), Some(tracked)) = (update, averages, &tracked) {
            pace.follow(averages, tracked.clone(), epsilon, one_value);
        }
        (y, tracked)
    }
}

/// The mode on a device: inference unless it is a training device and the layer is not frozen.
pub(super) fn mode_on(device: &Device, training: bool, mode: Mode) -> Mode {
    if device.is_autodiff() && training { mode } else { Mode::inference() }
}

/// `forward`, `forward_activated` and `forward_masked` of a layer that has
/// `run(x, mask, activation)`.
macro_rules! forwards {
    () => {
        /// Normalizes x.
        ///
        /// # Panics
        /// If the shape of x does not suit the layer, or a statistic has one value and the policy
        /// refuses it; the message says what would suit.
        pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
            self.run(x, None, cellnorm::Activation::Identity)
        }

        /// Normalizes x and applies an activation, in the same pass over memory on Flex.
        ///
        /// # Panics
        /// Same as [`forward`](Self::forward).
        pub fn forward_activated<const D: usize>(
            &self,
            x: Tensor<D>,
            activation: cellnorm::Activation,
        ) -> Tensor<D> {
            self.run(x, None, activation)
        }

        /// Normalizes the values alone where the mask is true; y and dx are 0 at the others,
        /// whatever x holds there. Each axis of the mask is as long as that of x, or 1.
        ///
        /// # Panics
        /// Same as [`forward`](Self::forward); also if the mask does not broadcast to x.
        pub fn forward_masked<const D: usize>(
            &self,
            x: Tensor<D>,
            mask: Tensor<D, burn::tensor::Bool>,
        ) -> Tensor<D> {
            self.run(x, Some(mask), cellnorm::Activation::Identity)
        }
    };
}
pub(super) use forwards;

/// The values as a tensor, flat.
pub(super) fn flat(values: &ArrayD<f64>, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// The running mean and variance of a layer on arrays, and the count of their batches where they
/// need it.
///
/// # Panics
/// If it has averages of another pace beside them.
pub(super) fn averages_of<R: Rule>(layer: &Norm<R>, device: &Device) -> [Average; 3] {
    let average = |of: &ArrayD<f64>| RunningState::new(flat(of, device));
    assert!(
        layer.correction.is_none(),
        "{} has a momentum of its own for its correction, for which a layer of Burn has no \
         averages; leave correction_momentum out, or train on arrays",
        R::NAME
    );
    let Some(running) = &layer.running else {
        return [None, None, None];
    };
    let batches = batches(layer.momentum, layer.steps, device);
    [Some(average(&running.mean)), Some(average(&running.variance)), batches]
}
