//! The layers, with candle-nn's names, constructors and traits.

mod averages;
mod batch;
mod group;
mod instance;
mod layer;
mod local_response;
mod rms;
mod rules;

pub use batch::{BatchNorm, batch_norm};
pub use group::{GroupNorm, group_norm};
pub use instance::{InstanceNorm, InstanceNormConfig, instance_norm};
pub use layer::{LayerNorm, layer_norm, layer_norm_no_bias};
pub use local_response::LocalResponseNorm;
pub use rms::{RmsNorm, rms_norm};
pub use rules::{
    BatchInstanceNorm, FilterResponseNorm, RuleNorm, SwitchableNorm, batch_instance_norm,
    filter_response_norm, rule_norm, switchable_norm,
};

use candle_core::{Result, Tensor};
use cellnorm::norms::{Kind, NormConfig};
use cellnorm::tables::Mask;
use cellnorm::{OneValue, Semantics};

use crate::numbers::wrong;
use crate::ops::apply;

/// What a layer of single samples says besides its kind and its parameters.
#[derive(Clone, Copy, Debug)]
struct Options {
    epsilon: f64,
    one_value: OneValue,
}

impl Options {
    fn new(epsilon: f64) -> Self {
        Self { epsilon, one_value: OneValue::default() }
    }

    /// Those of a framework, which also says where the kind's channels are.
    fn of_semantics<K: Kind>(kind: &mut K, semantics: &Semantics) -> Result<Self> {
        NormConfig::of(kind.clone()).semantics(semantics).init().map_err(wrong)?;
        kind.adopt(semantics);
        Ok(Self { epsilon: semantics.epsilon, one_value: semantics.one_value })
    }

    /// Normalizes by a kind.
    fn normalize<K: Kind + Send + Sync + 'static>(
        self,
        kind: K,
        x: &Tensor,
        parameters: [Option<&Tensor>; 2],
        mask: Option<&Mask>,
    ) -> Result<Tensor> {
        let trains = tracks([Some(x), parameters[0], parameters[1]]);
        // in inference one value is fine, unless it never is
        let one_value = match self.one_value {
            OneValue::Error if !trains => OneValue::Beta,
            policy => policy,
        };
        // γ and β are set when the operation runs
        let config = NormConfig::of(kind)
            .epsilon(self.epsilon)
            .one_value(one_value)
            .scale(false)
            .center(false);
        let layer = config.init().map_err(wrong)?;
        apply(layer, x, &parameters.map(Option::<&Tensor>::cloned), mask, |_| Ok(()))
    }
}

/// Whether a gradient is wanted of one of them.
fn tracks<'a>(tensors: impl IntoIterator<Item = Option<&'a Tensor>>) -> bool {
    tensors.into_iter().flatten().any(Tensor::track_op)
}

/// `forward_masked` of the layers of single samples.
macro_rules! forward_masked {
    () => {
        /// As `forward`, over the values alone that the mask says are valid: y and dx are 0 at the
        /// others, whatever x holds there.
        ///
        /// # Errors
        /// As `forward`, but for one value, and if the mask does not fit x.
        pub fn forward_masked(&self, x: &Tensor, mask: &cellnorm::tables::Mask) -> Result<Tensor> {
            self.run(x, Some(mask))
        }
    };
}
use forward_masked;

/// What layers with the channels on an axis of their own have besides their constructors.
macro_rules! with_channels {
    () => {
        /// The axis of the channels; negative counts from the last. Default: 1; −1 for
        /// channels-last.
        pub fn with_channel_axis(mut self, axis: isize) -> Self {
            self.kind.channel_axis = axis;
            self
        }

        /// As a framework has it: ε, the channel axis, and what one value a statistic does.
        ///
        /// # Errors
        /// If the semantics are those of another layer, or cannot be had here.
        pub fn with_semantics(mut self, semantics: &cellnorm::Semantics) -> Result<Self> {
            self.options = Options::of_semantics(&mut self.kind, semantics)?;
            Ok(self)
        }

        $crate::layers::forward_masked!();

        fn run(&self, x: &Tensor, mask: Option<&cellnorm::tables::Mask>) -> Result<Tensor> {
            self.options.normalize(
                self.kind.clone(),
                x,
                [self.weight.as_ref(), self.bias.as_ref()],
                mask,
            )
        }
    };
}
use with_channels;
