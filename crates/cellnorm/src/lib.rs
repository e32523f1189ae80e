//! Normalization for neural networks as four passes over memory and small tables.
//!
//! Draw an activation tensor as N samples × C channels × S positions. A *cell* is one (sample,
//! channel) pair: its S values. Every normalization only says which cells share a mean and a
//! variance:
//!
//! | normalization | cells that share | statistics |
//! |---|---|---|
//! | [`BatchNorm`] | the cells of one channel | \[C\] |
//! | [`LayerNorm`] in transformers: `new(&[C])` on N×T×C | the C features at one position | \[N, T\] |
//! | [`LayerNorm`] on images: `per_channel(C)` | the cells of one sample | \[N\] |
//! | [`InstanceNorm`] | each cell alone | \[N, C\] |
//! | [`GroupNorm`] | the cells of one sample and one group of channels | \[N, G\] |
//! | [`RmsNorm`] | as either of layer, about zero | \[N, T\] or \[N\] |
//!
//! So the large tensor is touched by four [`kernels`] and no others, and a normalization is
//! arithmetic on small tables. Results are the same bits on any number of threads and any
//! instruction set, and stay exact where the mean is far from zero. Two normalizations have no such
//! statistics and map lines of values to lines: [`LpNorm`](norms::LpNorm) and
//! [`LocalResponseNorm`](norms::LocalResponseNorm).
//!
//! From the functions of the tutorials down to the kernels:
//!
//! * functions: [`moments`](fn@moments), [`batch_normalization`], [`get_stats`];
//! * layers: a config, `forward` and `backward` with an explicit saved state, `infer` ([`norms`]
//!   has all of them); [`parameters`] has their initializers and constraints, [`weights`] the
//!   normalization of weights;
//! * [`data`]: the statistics of a data set;
//! * [`fold`]: normalizations with fixed statistics as part of the linear layer beside them;
//! * [`ranks`]: a batch that several processes or threads hold together;
//! * [`explain`]: which values share a statistic for a shape, and what that costs, without
//!   computing anything;
//! * [`rule::Rule`] for authors of new normalizations, [`kernels`] and [`shape::Plan`] for those
//!   of adapters.
//!
//! ```
//! use cellnorm::GroupNormConfig;
//! use ndarray::Array4;
//!
//! let x = Array4::from_shape_fn((2, 6, 4, 4), |(n, c, h, w)| (n + c * c + h * w) as f32);
//! let mut layer = GroupNormConfig::new(3, 6).init()?;
//! let (y, saved) = layer.forward(x.view())?;
//! let gradients = layer.backward(&saved, x.view(), y.mapv(f32::sin))?;
//! assert_eq!(gradients.dx.dim(), (2, 6, 4, 4));
//! assert_eq!(gradients.dgamma.unwrap().shape(), [6]);
//! # Ok::<(), cellnorm::Error>(())
//! ```
#![deny(missing_docs)]

// each imports only from those above it; a test holds this order
#[macro_use]
mod setters;
mod normalization;
mod error;
pub mod momentum;
mod moments;
pub mod machine;
pub mod shape;
pub mod kernels;
pub mod ranks;
pub mod semantics;
pub mod parameters;
pub mod rule;
pub mod norms;
mod functions;
pub mod weights;
mod presets;
pub mod state;
pub mod data;
pub mod fold;
pub mod inspect;
pub mod explain;

#[cfg(test)]
#[path = "../../module_order.rs"]
mod module_order;

pub use error::Error;
pub use functions::{Stats, batch_normalization, get_stats, moments};
pub use kernels::{Activation, Element};
pub use moments::Moments;
pub use momentum::{Mode, Momentum, OneValue, RunningVariance};
pub use normalization::Normalization;
pub use norms::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig,
    LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig,
};
pub use semantics::Semantics;
pub use shape::Mask;
