//! The layers, with candle-nn's names, constructors and traits: each is a [`RuleNorm`].

mod batch;
mod channels;
mod layer;
mod local_response;
mod rule;

pub use batch::{BatchNorm, batch_norm};
pub use channels::{GroupNorm, InstanceNorm, InstanceNormConfig, group_norm, instance_norm};
pub use layer::{LayerNorm, RmsNorm, layer_norm, layer_norm_no_bias, rms_norm};
pub use local_response::LocalResponseNorm;
pub use rule::{
    BatchInstanceNorm, FilterResponseNorm, RuleNorm, SwitchableNorm, batch_instance_norm,
    filter_response_norm, rule_norm, switchable_norm,
};
