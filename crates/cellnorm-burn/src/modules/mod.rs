//! The layers, with Burn's names and records.

mod adaptive;
mod batch;
mod local_response;
mod lp;
pub(crate) mod rules;
mod single_sample;
mod step;
mod tlu;

pub use adaptive::{AdaptiveNorm, AdaptiveNormConfig};
pub use batch::{BatchNorm, BatchNormConfig};
pub use local_response::{LocalResponseNorm, LocalResponseNormConfig};
pub use lp::{LpNorm, LpNormConfig};
pub use rules::*;
pub use single_sample::{
    Features, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig, LayerNorm,
    LayerNormConfig, RmsNorm, RmsNormConfig,
};
pub use step::AtStep;
pub use tlu::{Tlu, TluConfig};

use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use cellnorm::rule::{Correction, Norm, Rule};
use cellnorm::semantics::Unlearned;
use cellnorm::shape::{Along, Roles, Sharing};
use cellnorm::{Error, Mode, Semantics};
use ndarray::ArrayD;

use crate::apply::operation;
use crate::averages::{self, Average, batches};
use crate::composed::at_least_single;
use crate::ops::{Form, LineLayer, Spec, is_fused};

/// γ and β as a layer holds them.
type Parameter = Option<Param<Tensor<1>>>;

/// γ and β for `len` channels: trained, or frozen, or neither.
fn parameters(
    len: usize,
    trained: [bool; 2],
    frozen: [bool; 2],
    initializers: [&Initializer; 2],
    device: &Device,
) -> [Parameter; 2] {
    std::array::from_fn(|i| {
        let parameter = || initializers[i].init([len], device).set_require_grad(trained[i]);
        (trained[i] || frozen[i]).then(parameter)
    })
}

/// Whether semantics have a γ and a β that are applied but not learned.
fn frozen(semantics: &Semantics) -> (bool, bool) {
    let applied = |unlearned| unlearned == Unlearned::Applied;
    (applied(semantics.unlearned_gamma), applied(semantics.unlearned_beta))
}

fn value(parameter: &Parameter) -> Option<Tensor<1>> {
    parameter.as_ref().map(|parameter| parameter.val())
}

/// # Panics
/// If ε is not finite and at least 1e-36.
pub(crate) fn check_epsilon(epsilon: f64) {
    cellnorm::rule::check_epsilon(epsilon).unwrap_or_else(|error| panic!("{error}"));
}

/// The normalization of lines, fused on a device that has it. Elsewhere it is `composed` of x, in
/// f32 at least, and of which values share what they are divided by.
///
/// # Panics
/// If the shape does not suit the normalization, or a line has no values.
fn lines<const D: usize>(
    x: Tensor<D>,
    layer: LineLayer,
    composed: impl FnOnce(Tensor<D>, &[Along]) -> Tensor<D>,
) -> Tensor<D> {
    let shape = x.dims();
    let Sharing { along, .. } = layer.sharing(&shape).unwrap_or_else(|error| panic!("{error}"));
    if shape.contains(&0) {
        let roles = Roles::new(along.iter().map(|along| (*along != Along::Apart, false)));
        let empty = Error::Empty { shape: shape.to_vec() };
        assert!(roles.sets(&shape) == 0, "{empty}");
        return x;
    }
    if is_fused(x.device().as_dispatch()) {
        let along = along.iter().map(|along| *along != Along::Apart).collect();
        return operation(x, None, None, Spec::bare(Form::Lines { layer, along })).0;
    }
    at_least_single(x, |x| composed(x, &along))
}

/// The mode on a device: inference unless it is a training device and the layer is not frozen.
fn mode_on(device: &Device, training: bool, mode: Mode) -> Mode {
    if device.is_autodiff() && training { mode } else { Mode::inference() }
}

/// `forward`, `forward_activated` and `forward_masked` of a layer that has `call(device)`.
macro_rules! forwards {
    () => {
        /// Normalizes x. Of no samples y is empty, where each sample has its own statistics or
        /// running averages normalize; dx is, too, and the parameters' gradients are zeros.
        ///
        /// # Panics
        /// If the shape of x does not suit the layer, a statistic has no values, or one value and
        /// the policy refuses it; the message says what would suit.
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
        /// whatever x holds there, unless [`excluded`](Self::excluded) says that they are
        /// normalized as well. Each axis of the mask is as long as that of x, or 1.
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

        fn run<const D: usize>(
            &self,
            x: Tensor<D>,
            mask: Option<Tensor<D, burn::tensor::Bool>>,
            activation: cellnorm::Activation,
        ) -> Tensor<D> {
            Call { activation, ..self.call(&x.device()) }.run(x, mask).0
        }
    };
}
use forwards;

/// The display of a layer: these fields in one line.
macro_rules! display {
    ($layer:ident, |$own:ident| { $($field:ident: $value:expr),* }) => {
        impl burn::module::ModuleDisplay for $layer {
            fn custom_settings(&self) -> Option<burn::module::DisplaySettings> {
                let settings = burn::module::DisplaySettings::new();
                settings.with_new_line_after_attribute(false).optional()
            }

            fn custom_content(
                &self,
                content: burn::module::Content,
            ) -> Option<burn::module::Content> {
                let $own = self;
                content$(.add(stringify!($field), &$value))*.optional()
            }
        }
    };
}
use display;

/// The values as a tensor, flat.
fn flat(values: &ArrayD<f64>, device: &Device) -> Tensor<1> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    Tensor::from_data(&values[..], device)
}

/// The running mean and variance of a layer on arrays, and the count of their batches where they
/// need it.
///
/// # Panics
/// If the momentum of its correction counts the batches.
fn averages_of<R: Rule>(layer: &Norm<R>, device: &Device) -> [Average; 3] {
    if let Some(Correction { momentum, .. }) = &layer.correction {
        assert!(
            !momentum.counts_batches(),
            "a correction_momentum that counts the batches is not to be had in Burn; use Step or \
             Keep, or train on arrays"
        );
    }
    let Some(running) = &layer.running else {
        return [None, None, None];
    };
    let batches = batches(layer.momentum, layer.steps, device);
    [average(&running.mean, device), average(&running.variance, device), batches]
}

fn average(of: &ArrayD<f64>, device: &Device) -> Average {
    let values: Vec<f64> = of.iter().copied().collect();
    Some(averages::state(&values, device))
}
