//! Weight normalization for Candle's convolutions and linear layers: w = g v / ‖v‖, so that length
//! and direction are trained apart.
//!
//! [`WeightNorm`] is the weight, made anew from g and v at every use; [`WeightNormed`] a layer of
//! Candle's with such a weight. Both read PyTorch's checkpoints by either of its names: `weight_g`
//! and `weight_v`, or `parametrizations.weight.original0` and `original1`.
//!
//! Transposed convolutions of one axis cannot train in Candle 0.11, with such a weight or a plain
//! one: `conv_transpose1d` has no gradient, and says so.
//!
//! Source: T. Salimans, D. P. Kingma, *Weight Normalization: A Simple Reparameterization to
//! Accelerate Training of Deep Neural Networks*, 2016. As `torch.nn.utils.weight_norm` and
//! `torch.nn.utils.parametrizations.weight_norm` of PyTorch 2.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Conv1d, Conv1dConfig, Module, VarBuilder, VarMap};
//! use cellnorm_candle::weights::WeightNormed;
//! let (variables, x) = (VarMap::new(), Tensor::randn(0f32, 1., (2, 4, 9), &Device::Cpu)?);
//! let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
//! let conv =
//!     WeightNormed::<Conv1d>::from_builder((8, 4, 3), true, Conv1dConfig::default(), vb)?;
//! let gradients = conv.forward(&x)?.sqr()?.sum_all()?.backward()?;
//! assert!(gradients.get(conv.weight_norm().g()).is_some());
//! let plain: Conv1d = conv.plain()?; // to ship
//!     
//! # Ok::<(), candle_core::Error>(())
//! ```

mod layers;
mod norm;

pub use layers::{WeightNormed, Weighted};
pub use norm::WeightNorm;
