//! Normalization layers for Candle that train, on Cellnorm's fused passes.
//!
//! In candle-nn 0.11 the fused layer and RMS normalization have no gradient, and say nothing: a
//! transformer that is made with them trains only what comes after the last of them. [`LayerNorm`],
//! [`RmsNorm`], [`BatchNorm`] and [`GroupNorm`] take their place with the same constructors, names
//! in a `VarBuilder`, and traits, so that one line changes:
//!
//! ```
//! use candle_nn::{Module, ModuleT};
//! // the first two were candle_nn's
//! use cellnorm_candle::{batch_norm, layer_norm, debug::unreached, switchable_norm};
//!
//! # use candle_core::{DType, Device, Tensor};
//! # use candle_nn::{VarBuilder, VarMap};
//! # let variables = VarMap::new();
//! # let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
//! # let tokens = Tensor::randn(0f32, 1., (2, 5, 768), &Device::Cpu)?;
//! # let images = Tensor::randn(0f32, 1., (2, 64, 3, 3), &Device::Cpu)?;
//! let layer = layer_norm(768, 1e-5, vb.pp("layer"))?;
//! let batch = batch_norm(64, 1e-5, vb.pp("batch"))?;
//! let switchable = switchable_norm(64, vb.pp("switchable"))?;
//! let (y, z) = (layer.forward(&tokens)?, batch.forward_t(&images, true)?);
//! let loss = (y.sqr()?.sum_all()? + z.sqr()?.sum_all()?)?;
//! for name in unreached(&loss, &variables)? {
//!     println!("no gradient reaches {name}");
//! }
//! # assert!(unreached(&loss, &variables)?.iter().all(|name| name.starts_with("switchable")));
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! | layer | statistics of | γ and β |
//! |---|---|---|
//! | [`LayerNorm`], [`RmsNorm`] | the features of each sample | for each feature |
//! | [`BatchNorm`] | each channel of the batch | for each channel |
//! | [`GroupNorm`], [`InstanceNorm`] | each group, each channel of each sample | for each channel |
//! | [`BatchInstanceNorm`], [`SwitchableNorm`] | blends of these | for each channel |
//! | [`FilterResponseNorm`] | each channel of each sample, about zero | for each channel |
//! | [`LocalResponseNorm`] | neighbouring channels | none |
//!
//! All but the last are a [`RuleNorm`], or two of them: each takes a mask, an activation and the
//! [`semantics`](cellnorm::semantics) of a framework, and a layer with running averages a
//! [`Mode`](cellnorm::Mode) and a momentum.
//!
//! [`rule_norm`] makes a layer of any other rule of the library, or of your own. [`weights`]
//! normalizes the weights of convolutions and linear layers, [`fold`] makes batch normalizations
//! part of them, and [`debug`] finds what a loss does not train.
//!
//! # On the CPU
//!
//! A layer is one operation, forward and backward, that reads x where it lies, whatever its
//! strides. It keeps its statistics for the backward pass, which gives the gradients of γ and β
//! where they are wanted. f32, f64, f16 and bf16 are taken, and parameters of any of these types
//! beside data of another; y and dx have the type of x and are rounded once. The numbers are those
//! of the library's layers on arrays, bit for bit.
//!
//! NaN and infinity in x are an error that says where they first show, instead of outputs that are
//! NaN; padding that holds them belongs under a [mask](mask()). Batch normalization in inference,
//! which sums nothing, passes them on. dy has to be finite, too.
//!
//! # On other devices
//!
//! On CUDA and Metal the same layers are composed of Candle's own operations, with their gradients.
//! NaN passes on there, since looking for it would wait for the device, except where running
//! averages would move toward it, which is an error there, too. These compositions are
//! tested on the CPU beside the fused operations.
//!
//! Gradients of gradients are not available on the CPU: Candle detaches a gradient from the graph.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod numbers;
mod checkpoint;
mod ops;
pub mod weights;
mod layers;
pub mod fold;
pub mod debug;

#[cfg(test)]
mod edges;

#[cfg(test)]
#[path = "../../module_order.rs"]
mod module_order;

pub use candle_nn::{BatchNormConfig, LayerNormConfig};
pub use cellnorm;
pub use cellnorm::norms;
pub use checkpoint::load_cast;
pub use layers::*;
pub use numbers::mask;
