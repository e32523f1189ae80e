mod arrays;
mod cells;
mod element;
mod error;
mod functions;
mod moments;
pub mod norms;
pub mod passes;
mod plan;
mod standardize;
pub use cells::{Cells, Sets};
pub use element::{Element, Real};
pub use error::Error;
pub use functions::{Stats, batch_normalization, get_stats, moments};
pub use moments::Moments;
pub use norms::{
    BatchNorm, BatchNormConfig, Gradients, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig, LayerNorm,
    LayerNormConfig, Momentum, RmsNorm, RmsNormConfig, RunningVariance, Saved,
};
pub use plan::{Axis, Plan};
pub use standardize::{About, Parameters, Statistics};
