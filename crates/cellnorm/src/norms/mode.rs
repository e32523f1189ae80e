//! What batch normalization does with statistics and parameters: three separate switches, which frameworks join in one word.
//!
//! | here | PyTorch | Keras 3, tf.keras 2 | Keras 2.3.1 | MXNet | Flax |
//! |---|---|---|---|---|---|
//! | [`Mode::training`] | `train()` | `training=True` | `training=True` | `autograd.record()` | `use_running_average=False` |
//! | [`Mode::inference`] | `eval()` | `training=False` | `training=False` | `use_global_stats=True` | `use_running_average=True` |
//! | [`Frozen::Inference`] | `eval()` and `requires_grad=False` | `trainable=False` | | `use_global_stats=True` and `lr_mult=0` | both |
//! | [`Frozen::BatchStatistics`] | `track_running_stats=False` and `requires_grad=False` | | `trainable=False` | | |
//! | [`Frozen::ParametersOnly`] | `requires_grad=False` | | | `lr_mult=0` | no update from the optimizer |

use crate::semantics::Frozen;

/// Whose mean and variance normalize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatisticsFrom {
    /// Those of x.
    #[default]
    Batch,
    /// The running ones.
    Running,
}

/// What [`BatchNorm::forward`](crate::BatchNorm::forward) and `backward` do. All eight settings work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Whose mean and variance normalize.
    pub statistics: StatisticsFrom,
    /// Whether the running statistics move toward those of x.
    pub update: bool,
    /// Whether γ and β have gradients.
    pub train_parameters: bool,
}

impl Mode {
    /// The batch's statistics normalize and move the running ones; γ and β are trained.
    pub const fn training() -> Self {
        Self { statistics: StatisticsFrom::Batch, update: true, train_parameters: true }
    }

    /// The running statistics normalize and stay. γ and β keep their gradients, as with PyTorch's `eval()`.
    pub const fn inference() -> Self {
        Self { statistics: StatisticsFrom::Running, update: false, train_parameters: true }
    }

    /// What a framework means by a frozen layer in training: γ and β have no gradients, and the statistics do as [`Frozen`] says.
    ///
    /// ```
    /// use cellnorm::{Frozen, Mode, StatisticsFrom};
    /// let keras_legacy = Mode::frozen(Frozen::BatchStatistics);
    /// assert_eq!((keras_legacy.statistics, keras_legacy.update), (StatisticsFrom::Batch, false));
    /// ```
    pub const fn frozen(regime: Frozen) -> Self {
        let (statistics, update) = match regime {
            Frozen::Inference => (StatisticsFrom::Running, false),
            Frozen::BatchStatistics => (StatisticsFrom::Batch, false),
            Frozen::ParametersOnly => (StatisticsFrom::Batch, true),
        };
        Self { statistics, update, train_parameters: false }
    }
}

impl Default for Mode {
    fn default() -> Self {
        Self::training()
    }
}
