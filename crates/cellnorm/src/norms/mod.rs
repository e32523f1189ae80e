//! The normalizations, one file each: which values share statistics, and what each keeps.
//!
//! | normalization | values that share a mean and a variance | parameters |
//! |---|---|---|
//! | [`BatchNorm`] | those of one channel | per channel |
//! | [`LayerNorm`] | those of one sample, over any set of axes | per element or per channel |
//! | [`InstanceNorm`] | those of one channel of one sample | per channel |
//! | [`GroupNorm`] | those of one group of channels of one sample | per channel |
//! | [`RmsNorm`] | as layer, about zero instead of the mean | per element or per channel |
//! | [`GemmaRmsNorm`] | as RMS; γ is stored less 1 | per element or per channel |
//!
//! Others blend, split or correct these statistics, or scale otherwise:
//!
//! | normalization | what it does |
//! |---|---|
//! | [`BatchInstanceNorm`] | a gate for each channel blends the batch's and the instance's result |
//! | [`SwitchableNorm`] | learned weights blend instance, layer and batch statistics |
//! | [`BatchRenorm`] | batch statistics, corrected toward the running ones |
//! | [`GhostBatchNorm`] | a large batch in small parts |
//! | [`StepBatchNorm`] | batch statistics of its own for each time step |
//! | [`TrackedInstanceNorm`] | instance statistics in training, running ones in inference |
//! | [`GraphNorm`] | instance statistics, a learned share of the mean |
//! | [`AdaptiveNorm`] | γ and β given for each sample |
//! | [`FilterResponseNorm`] | each channel of each sample by its root mean square |
//! | [`RmsScalingNorm`] | the features by their standard deviation, mean kept |
//! | [`MeanVarianceNorm`] | any axes, ε outside the root, nothing learned |
//!
//! Two more divide by a size instead, without a mean and without parameters:
//!
//! | normalization | divided by |
//! |---|---|
//! | [`LpNorm`] | the length of the vector along some axes: unit, L1, L2 and maximum normalization |
//! | [`LocalResponseNorm`] | a power of the neighbouring channels' mean square |
//!
//! [`Tlu`] is no normalization but the activation that [`FilterResponseNorm`] was made with.
//!
//! Each has a config with the defaults of PyTorch, `forward` for training, which also returns what
//! `backward` needs, and `infer`; the two without parameters keep nothing, and `backward` needs
//! only x. Parameters and statistics are f64 whatever the type of x.

mod adaptive;
mod axes;
mod batch;
mod batch_instance;
mod features;
mod filter_response;
mod gemma_rms;
mod ghost;
mod graph;
mod group;
mod instance;
mod layer;
mod length;
mod lines;
mod local_response;
mod lp;
mod mean_variance;
mod renorm;
mod rms;
mod rms_scaling;
mod step;
mod strips;
mod switchable;
mod tlu;
mod tracked_instance;
mod windows;

pub use adaptive::{Adaptive, AdaptiveNorm, AdaptiveStatistics};
pub use axes::HasChannels;
pub use batch::{Batch, BatchNorm, BatchNormConfig};
pub use batch_instance::{BatchInstance, BatchInstanceNorm, BatchInstanceNormConfig};
pub use features::{Features, OverFeatures};
pub use filter_response::{FilterResponse, FilterResponseNorm, FilterResponseNormConfig};
pub use gemma_rms::{GemmaRms, GemmaRmsNorm, GemmaRmsNormConfig};
pub use ghost::{Ghost, GhostBatchNorm, GhostBatchNormConfig};
pub use graph::{Graph, GraphNorm, GraphNormConfig};
pub use group::{Group, GroupNorm, GroupNormConfig};
pub use instance::{Instance, InstanceNorm, InstanceNormConfig};
pub use layer::{Layer, LayerNorm, LayerNormConfig};
pub use lines::{Lines, lines_of};
pub use local_response::{LocalResponseNorm, LocalResponseNormConfig, Window};
pub use lp::{Floor, LpNorm, LpNormConfig};
pub use mean_variance::{MeanVariance, MeanVarianceNorm, MeanVarianceNormConfig};
pub use renorm::{BatchRenorm, BatchRenormConfig, Renorm};
pub use rms::{Rms, RmsNorm, RmsNormConfig};
pub use rms_scaling::{RmsScaling, RmsScalingNorm, RmsScalingNormConfig};
pub use step::{Step, StepBatchNorm, StepBatchNormConfig};
pub use switchable::{Switchable, SwitchableNorm, SwitchableNormConfig};
pub use tlu::{Tlu, TluConfig, TluGradients};
pub use tracked_instance::{TrackedInstance, TrackedInstanceNorm, TrackedInstanceNormConfig};
