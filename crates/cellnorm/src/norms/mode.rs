//! What batch normalization does with statistics and parameters: three separate switches, which
//! frameworks join in one word.
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum StatisticsFrom {
    /// Those of x.
    #[default]
    Batch,
    /// The running ones.
    Running,
}

/// What [`BatchNorm::forward`](crate::BatchNorm::forward) and `backward` do. All eight settings
/// work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

    /// The running statistics normalize and stay. γ and β keep their gradients, as with PyTorch's
    /// `eval()`.
    pub const fn inference() -> Self {
        Self { statistics: StatisticsFrom::Running, update: false, train_parameters: true }
    }

    /// What a framework means by a frozen layer in training: γ and β have no gradients, and the
    /// statistics do as [`Frozen`] says.
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

/// What a layer's `train`, `freeze` and `unfreeze` leave behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) training: bool,
    pub(crate) frozen: Option<Frozen>,
}

impl Phase {
    /// Training, not frozen.
    pub(crate) const START: Self = Self { training: true, frozen: None };

    pub(crate) fn mode(self) -> Mode {
        match (self.frozen, self.training) {
            (None, true) => Mode::training(),
            (None, false) => Mode::inference(),
            (Some(regime), true) => Mode::frozen(regime),
            // in inference all regimes are one
            (Some(_), false) => Mode::frozen(Frozen::Inference),
        }
    }
}

/// `train`, `freeze`, `unfreeze` and `frozen` of a layer with the fields `mode` and `phase`.
macro_rules! phases {
    () => {
        /// Sets the mode to training or inference, but leaves a frozen layer frozen.
        ///
        /// ```
        /// use cellnorm::{BatchNormConfig, Frozen, Mode};
        /// let mut layer = BatchNormConfig::new(4).init()?;
        /// layer.freeze(Frozen::Inference);
        /// layer.train(true);
        /// assert_eq!(layer.mode, Mode::frozen(Frozen::Inference));
        /// layer.unfreeze();
        /// assert_eq!(layer.mode, Mode::training());
        /// # Ok::<(), cellnorm::Error>(())
        /// ```
        pub fn train(&mut self, training: bool) {
            self.phase.training = training;
            self.mode = self.phase.mode();
        }

        /// Freezes the layer until [`unfreeze`](Self::unfreeze): the parameters have no gradients,
        /// and the statistics do as the regime says whenever the layer is in training.
        pub fn freeze(&mut self, regime: Frozen) {
            self.phase.frozen = Some(regime);
            self.mode = self.phase.mode();
        }

        /// Ends [`freeze`](Self::freeze): the mode is that of the last [`train`](Self::train),
        /// training if there was none.
        pub fn unfreeze(&mut self) {
            self.phase.frozen = None;
            self.mode = self.phase.mode();
        }

        /// How the layer is frozen; None where it is not.
        pub fn frozen(&self) -> Option<Frozen> {
            self.phase.frozen
        }
    };
}
pub(crate) use phases;
