//! The semantics of a normalization in a framework, as data.
//!
//! Two frameworks that give a layer the same name differ in ε, in the pace and the bias of the
//! running statistics, in what one value a statistic does, in what freezing means, in the axis of
//! the channels, in the shape of γ and in the names they store. A [`Semantics`] holds all of it for
//! one layer of one framework. It can be printed, compared with another ([`Semantics::diff`]) and
//! given to a config; no code asks for a framework's name.
//!
//! ```
//! use cellnorm::{BatchNormConfig, Normalization, Semantics};
//! let keras = Semantics::preset("keras-3", Normalization::Batch)?;
//! let layer = BatchNormConfig::new(64).semantics(&keras).init()?;
//! assert_eq!(layer.epsilon, 1e-3);
//! # Ok::<(), cellnorm::Error>(())
//! ```

mod diff;
mod names;
mod presets;
mod show;
mod table;

use crate::error::Error;
pub use diff::{Difference, Sample};
pub use names::ParameterNames;

use crate::norms::{Momentum, RunningVariance};

/// Which layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// Batch normalization.
    Batch,
    /// Layer normalization.
    Layer,
    /// Instance normalization.
    Instance,
    /// Group normalization.
    Group,
    /// RMS normalization.
    Rms,
}

impl Normalization {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Batch, Self::Layer, Self::Instance, Self::Group, Self::Rms];
}

/// Where ε is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpsilonAt {
    /// 1 / √(variance + ε): all layers of all frameworks here.
    #[default]
    InsideRoot,
    /// 1 / (√variance + ε): ONNX's MeanVarianceNormalization, and Burn's layer normalization before
    /// 0.14.
    OutsideRoot,
}

/// The treatment of statistics of one value, whose variance is always 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OneValue {
    /// Training is an error, inference runs: PyTorch's batch normalization.
    #[default]
    Error,
    /// An error in inference too: PyTorch's instance normalization, and its group normalization of
    /// one sample.
    AlwaysError,
    /// The layer runs: y = β. Running statistics move, the variance toward 0: Keras, TensorFlow on
    /// the CPU, MXNet, Flax, ONNX.
    Beta,
    /// The running statistics normalize, and stay as they are; only batch normalization has them.
    UseRunning,
}

impl OneValue {
    /// Where each statistic of an x of this shape has one value: whether the running statistics
    /// normalize it, and stay as they are. `batch` is whether statistics are those of x, as in
    /// training.
    ///
    /// # Errors
    /// If the policy refuses such an x.
    pub fn uses_running(
        self,
        layer: &'static str,
        shape: &[usize],
        batch: bool,
    ) -> Result<bool, Error> {
        match self {
            Self::Error if !batch => Ok(false),
            Self::Error | Self::AlwaysError => {
                Err(Error::OneValue { layer, shape: shape.to_vec() })
            }
            Self::UseRunning => Ok(true),
            Self::Beta => Ok(false),
        }
    }
}

/// The behaviour of a frozen batch normalization in training.
///
/// The three are what Keras meant by `trainable=False` at one time or another. See
/// [`Mode::frozen`](crate::Mode::frozen).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// As inference: the running statistics normalize and stay. Keras 3 and tf.keras 2
    /// (`trainable=False`), Burn (`freeze`).
    Inference,
    /// The batch's statistics normalize, and the running ones stay: Keras 2.3.1
    /// (`trainable=False`).
    BatchStatistics,
    /// Only γ and β stay; the batch's statistics normalize and move the running ones. PyTorch
    /// (`requires_grad=False`), MXNet (`lr_mult=0`), early Keras 2.
    ParametersOnly,
}

/// The axis that γ and β of group normalization lie along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum GroupParameters {
    /// A value for each channel, \[C\].
    #[default]
    PerChannel,
    /// A value for each group, \[G\]: MXNet 1.6 to 1.9 and ONNX opsets 18 to 20.
    PerGroup,
}

/// All that frameworks disagree about, for one layer.
///
/// Make one from a [preset](Semantics::preset), and change what is different in the case at hand.
///
/// ```
/// use cellnorm::{Momentum, Normalization, Semantics};
/// let default = Semantics::preset("keras-3", Normalization::Batch)?;
/// let tuned = Semantics { momentum: Momentum::Keep(0.9), ..default };
/// assert_eq!(default.diff(&tuned)[0].field, "momentum");
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Semantics {
    /// The framework, the version and the layer: "keras-3 batch".
    pub name: &'static str,
    /// Which layer.
    pub normalization: Normalization,
    /// ε, by default.
    pub epsilon: f64,
    /// Where ε is added.
    pub epsilon_at: EpsilonAt,
    /// The axis of the channels, by default; negative counts from the last. Without meaning to
    /// layer and RMS normalization with a parameter for each element.
    pub channel_axis: isize,
    /// Whether there is a γ that is learned, by default.
    pub scale: bool,
    /// Whether there is a β that is learned, by default.
    pub center: bool,
    /// Whether a γ or β that is not learned is stored all the same, as 1 or 0 (MXNet, whose
    /// `fix_gamma` means just that, and ONNX, whose inputs are required).
    pub stores_fixed: bool,
    /// The treatment of statistics of one value.
    pub one_value: OneValue,
    /// The axis that γ and β of group normalization lie along.
    pub group_parameters: GroupParameters,
    /// Batch normalization's pace of the running statistics, by default.
    pub momentum: Momentum,
    /// Which variance batch normalization's running variance follows.
    pub running_variance: RunningVariance,
    /// The behaviour of a frozen batch normalization.
    pub frozen: Frozen,
    /// The framework's names of parameters and statistics.
    pub names: ParameterNames,
}
