//! The normalizations, one file each: which values share statistics, and what is kept between
//! steps.
//!
//! | normalization | values that share a mean and a variance | parameters |
//! |---|---|---|
//! | [`BatchNorm`] | those of one channel | per channel |
//! | [`LayerNorm`] | those of one sample, over any set of axes | per element or per channel |
//! | [`InstanceNorm`] | those of one channel of one sample | per channel |
//! | [`GroupNorm`] | those of one group of channels of one sample | per channel |
//! | [`RmsNorm`] | as layer, about zero instead of the mean | per element or per channel |
//!
//! Rules of [`tables`](crate::tables) blend, split or correct these statistics, or scale otherwise:
//!
//! | normalization | what it does |
//! |---|---|
//! | [`BatchInstanceNorm`] | a gate for each channel blends the batch's and the instance's result |
//! | [`SwitchableNorm`] | learned weights blend instance, layer and batch statistics |
//! | [`BatchRenorm`] | batch statistics, corrected toward the running ones |
//! | [`GhostBatchNorm`] | a large batch in small parts |
//! | [`StepBatchNorm`] | batch statistics of its own for each time step |
//! | [`AxesBatchNorm`] | batch statistics of its own for each index of several axes |
//! | [`GraphNorm`] | instance statistics, a learned share of the mean |
//! | [`AdaptiveNorm`] | γ and β given for each sample |
//! | [`FilterResponseNorm`] | each channel of each sample by its root mean square |
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
mod batch_axes;
mod batch_config;
mod batch_instance;
mod divisor;
mod features;
mod filter_response;
mod ghost;
mod graph;
mod group;
mod instance;
mod layer;
mod length;
mod lines;
mod local_response;
mod lp;
mod masked;
mod mean_variance;
mod mode;
mod norm;
mod renorm;
mod rms;
mod run;
mod running;
mod slope;
mod step;
mod strips;
mod switchable;
mod tlu;
mod tracked_instance;
mod windows;

pub use crate::arrays::Roles;
pub use adaptive::{Adaptive, AdaptiveNorm, Sharing};
pub use axes::HasChannels;
pub use batch::{Batch, BatchNorm};
pub use batch_axes::{AxesBatchNorm, AxesBatchNormConfig, BatchAxes};
pub use batch_config::BatchNormConfig;
pub use batch_instance::{BatchInstance, BatchInstanceNorm, BatchInstanceNormConfig};
pub use features::{Features, OverFeatures};
pub use filter_response::{FilterResponse, FilterResponseNorm, FilterResponseNormConfig};
pub use ghost::{Ghost, GhostBatchNorm, GhostBatchNormConfig};
pub use graph::{Graph, GraphNorm, GraphNormConfig};
pub use group::{Group, GroupNorm, GroupNormConfig};
pub use instance::{Instance, InstanceNorm, InstanceNormConfig};
pub use layer::{Layer, LayerNorm, LayerNormConfig};
pub use lines::{Lines, lines_of};
pub use local_response::{LocalResponseNorm, LocalResponseNormConfig, Window};
pub use lp::{Floor, LpNorm, LpNormConfig};
pub use mean_variance::{MeanVariance, MeanVarianceNorm, MeanVarianceNormConfig};
pub use mode::{Mode, StatisticsFrom};
pub(crate) use mode::{Phase, phases};
pub use norm::{Kind, Norm, NormConfig};
pub(crate) use norm::{NOTHING_RUNS, suits};
pub use renorm::{BatchRenorm, BatchRenormConfig, Renorm};
pub use rms::{Rms, RmsNorm, RmsNormConfig};
pub use running::{Momentum, RunningVariance};
pub use step::{Step, StepBatchNorm, StepBatchNormConfig};
pub use switchable::{Switchable, SwitchableNorm, SwitchableNormConfig};
pub use tlu::{Tlu, TluConfig, TluGradients};
pub use tracked_instance::TrackedInstanceNorm;

use ndarray::{Array, ArrayD, Dimension};

use crate::error::Error;
use crate::parameters::Initializer;
use crate::standardize::Statistics;
use crate::tables::{Kept, Mask};
use run::Run;

/// The options that every config has.
macro_rules! common_options {
    () => {
        /// ε, added to the variance inside the root. Default: 1e-5.
        pub fn epsilon(mut self, epsilon: f64) -> Self {
            self.epsilon = epsilon;
            self
        }

        /// Whether there is a factor γ. Default: true.
        pub fn scale(mut self, scale: bool) -> Self {
            self.scale = scale;
            self
        }

        /// Whether there is an offset β. Default: true, but false for RMS.
        pub fn center(mut self, center: bool) -> Self {
            self.center = center;
            self
        }

        /// What one value a statistic does. Default: an error in training.
        pub fn one_value(mut self, policy: OneValue) -> Self {
            self.one_value = policy;
            self
        }

        /// How γ starts. Default: [`Initializer::Ones`]. [`Initializer::warning`] tells of a γ
        /// near 0.
        pub fn gamma_initializer(mut self, initializer: Initializer) -> Self {
            self.gamma_initializer = initializer;
            self
        }

        /// How β starts. Default: [`Initializer::Zeros`].
        pub fn beta_initializer(mut self, initializer: Initializer) -> Self {
            self.beta_initializer = initializer;
            self
        }
    };
}
pub(crate) use common_options;

/// What `backward` needs of a forward pass besides x: the statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The statistics that x was normalized with, in row-major order of the axes that do not share
    /// them.
    pub statistics: Statistics,
    /// Whether they were given (running statistics) rather than taken from x.
    pub fixed: bool,
    /// Under a mask, the mask and the moments of its cells.
    pub(crate) masked: Option<(Mask, Kept)>,
}

/// The gradients of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients<T, D: Dimension> {
    /// ∂L/∂x.
    pub dx: Array<T, D>,
    /// ∂L/∂γ, in the shape of γ; None where the layer has no γ or does not train it.
    pub dgamma: Option<ArrayD<f64>>,
    /// ∂L/∂β, in the shape of β; None where the layer has no β or does not train it.
    pub dbeta: Option<ArrayD<f64>>,
}

/// γ or β of a shape as it starts, where the layer has it.
fn parameter(
    present: bool,
    shape: &[usize],
    initializer: Initializer,
) -> Result<Option<ArrayD<f64>>, Error> {
    present.then(|| initializer.init(shape)).transpose()
}
