//! Normalization layers for Burn that run on Cellnorm's fused passes.
//!
//! [`BatchNorm`], [`LayerNorm`], [`InstanceNorm`], [`GroupNorm`] and [`RmsNorm`] take the place of
//! Burn's own: the same names, fields and records, so a PyTorch checkpoint still loads into them.
//! Each is one autodiff node with a fused forward and backward on the CPU backend Flex; on other
//! devices the same layers run on Burn's own operations. Beyond Burn's, they take the channels on
//! any axis, γ and β separately, and the running variance by PyTorch's rule.
//!
//! The other layers have no counterpart in Burn. Table rules run on the same fused passes:
//! [`SwitchableNorm`], [`BatchInstanceNorm`], [`BatchRenorm`], [`GhostBatchNorm`],
//! [`AxesBatchNorm`], [`StepBatchNorm`] (inside a recurrence [`at_step`](StepBatchNorm::at_step)),
//! [`GraphNorm`], [`FilterResponseNorm`], [`GemmaRmsNorm`], [`RmsScalingNorm`],
//! [`MeanVarianceNorm`], and [`AdaptiveNorm`], whose γ and β come with each x.
//! [`LocalResponseNorm`] and [`LpNorm`] have no cells, but lines, and passes of their own over
//! these. [`Tlu`], the activation that goes with filter response normalization, is composed of
//! Burn's own operations on every device.
//!
//! [`parameters`] says which parameters of a network are those of normalizations, so that weight
//! decay can leave them out; [`weights`] normalizes the weights of any layer instead of its
//! activations. [`fold`] makes batch normalizations with fixed statistics part of the convolutions
//! and linear layers beside them.
//!
//! [`data`] normalizes what a network gets, floats or bytes, by constants that a saved network
//! keeps. [`recalibrate`] sets running statistics to those of whole data sets.
//!
//! [`ranks`]: replicas that train together, batch normalizations with the statistics of all of
//! them.
//!
//! [`stopwatch`] tells how long a layer takes within a training step. [`functions::cell_moments`]
//! and [`functions::cell_affine`] are the building blocks of further normalizations.
#![deny(missing_docs)]

// each imports only from those above it; a test holds this order
mod ops;
mod tables;
mod composed;
mod averages;
mod apply;
pub mod functions;
pub mod ranks;
mod modules;
pub mod fold;
mod recalibrate;
pub mod data;
pub mod parameters;
#[cfg(feature = "flex")]
pub mod stopwatch;
pub mod weights;
#[cfg(all(test, feature = "flex"))]
mod edges;

#[cfg(test)]
#[path = "../../module_order.rs"]
mod module_order;

pub use averages::clone_with_statistics;
pub use cellnorm;
pub use cellnorm::norms;
pub use modules::*;
#[cfg(feature = "flex")]
pub use ops::keep_buffers;
pub use recalibrate::{Recalibrated, recalibrate};
