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
//!
//! # Which preset of tf.keras 2
//!
//! tf.keras 2 and Keras 2.15 have two batch normalizations, whose running variances differ by
//! n/(n − 1). The input and the options decide which of them runs:
//!
//! * `tf-keras-2-fused`: input of 4 axes with the channels on axis 1 or 3, or of 5 axes with them
//!   on axis 1 or 4, in f16, bf16 or f32. The running variance follows the unbiased variance.
//! * `tf-keras-2`: any other input (2 or 3 axes, f64, several axes in a list), and any input with
//!   `fused=False`, `renorm`, `virtual_batch_size` or `synchronized`. The running variance follows
//!   the biased variance.
//!
//! [`Semantics::applies_to`] and `cellnorm semantics show` say so, too.

mod applies;
mod diff;
mod presets;
mod table;

pub use diff::{Difference, Sample};
pub(crate) use presets::distance;

use std::fmt;

use diff::text;

use crate::momentum::{Frozen, Momentum, OneValue, RunningVariance};
use crate::normalization::Normalization;
use crate::shape::Excluded;

/// Where ε is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EpsilonAt {
    /// 1 / √(variance + ε): all layers of all frameworks here.
    #[default]
    InsideRoot,
    /// 1 / (√variance + ε): ONNX's MeanVarianceNormalization, and Burn's layer before 0.14.
    OutsideRoot,
}

/// The role of a γ or β that is not learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unlearned {
    /// It is not stored: γ counts as 1, β as 0.
    #[default]
    Absent,
    /// It is stored and applied, and only its gradient stops: MXNet with `scale=False` or
    /// `center=False`, and ONNX, whose inputs are required.
    Applied,
    /// It is stored, but counts as 1 or 0 whatever it holds: MXNet's `fix_gamma`.
    Ignored,
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
    /// The role of a γ that is not learned.
    pub unlearned_gamma: Unlearned,
    /// The role of a β that is not learned.
    pub unlearned_beta: Unlearned,
    /// The treatment of statistics of one value.
    pub one_value: OneValue,
    /// The axis that γ and β of group normalization lie along.
    pub group_parameters: GroupParameters,
    /// Batch normalization's pace of the running statistics, by default.
    pub momentum: Momentum,
    /// Whether the layer keeps running statistics, by default: an option of PyTorch's batch and
    /// instance normalization. Where it does, their names are part of a checkpoint.
    pub running_statistics: bool,
    /// Which variance batch normalization's running variance follows.
    pub running_variance: RunningVariance,
    /// The behaviour of a frozen batch normalization.
    pub frozen: Frozen,
    /// Batch renormalization's pace of the averages that training is corrected toward, by default;
    /// None where the framework has no such layer. The others do not bound the correction
    /// by default.
    pub renorm_momentum: Option<Momentum>,
    /// Whether the parts of ghost batch normalization are interleaved; None where the framework has
    /// no such layer.
    pub ghost_interleaved: Option<bool>,
    /// The treatment of values that a mask excludes, where a layer is given one. Of Keras' layers
    /// batch normalization alone takes a mask, and not tf.keras 2's fused one; its others take
    /// statistics of all values.
    pub excluded: Excluded,
    /// The framework's names of parameters and statistics.
    pub names: ParameterNames,
}

/// The names of γ, β, the running mean and variance, and the number of steps.
///
/// Layers without running statistics have names for them, too: those used elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterNames {
    /// γ.
    pub gamma: &'static str,
    /// β.
    pub beta: &'static str,
    /// The running mean.
    pub mean: &'static str,
    /// The running variance.
    pub variance: &'static str,
    /// The number of training steps, where it is stored.
    pub steps: Option<&'static str>,
    /// The names of γ and β in older checkpoints, which are found where the names above are not.
    pub former: Option<[&'static str; 2]>,
}

impl ParameterNames {
    /// γ, β, mean, variance and steps.
    pub(crate) fn all(&self) -> [Option<&'static str>; 5] {
        let Self { gamma, beta, mean, variance, steps, former: _ } = *self;
        [Some(gamma), Some(beta), Some(mean), Some(variance), steps]
    }
}

impl Semantics {
    /// The names of γ, β, mean, variance and steps; `None` where this framework does not store it.
    pub(crate) fn names(&self) -> [Option<&'static str>; 5] {
        let [gamma, beta, running @ ..] = self.names.all();
        let kept = |name: Option<_>| name.filter(|_| self.running_statistics);
        let [mean, variance, steps] = running.map(kept);
        [gamma, beta, mean, variance, steps]
    }
}

/// A line for each field that says something about the layer.
///
/// ```
/// use cellnorm::{Normalization, Semantics};
/// let keras = Semantics::preset("keras-3", Normalization::Batch)?.to_string();
/// assert!(keras.starts_with("keras-3 batch\n  epsilon            0.001, InsideRoot\n"));
/// # Ok::<(), cellnorm::Error>(())
/// ```
impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        let mut row = |field: &str, value: String| write!(f, "\n  {field:<18} {value}");
        row("epsilon", format!("{}, {:?}", text(self.epsilon), self.epsilon_at))?;
        row("channel_axis", text(self.channel_axis))?;
        row("scale", text(self.scale))?;
        row("center", text(self.center))?;
        row("unlearned_gamma", text(self.unlearned_gamma))?;
        row("unlearned_beta", text(self.unlearned_beta))?;
        row("one_value", text(self.one_value))?;
        if self.normalization == Normalization::Group {
            row("group_parameters", text(self.group_parameters))?;
        }
        if matches!(self.normalization, Normalization::Batch | Normalization::Instance) {
            row("running_statistics", text(self.running_statistics))?;
        }
        if self.normalization == Normalization::Batch {
            row("momentum", text(self.momentum))?;
            row("running_variance", text(self.running_variance))?;
            row("frozen", text(self.frozen))?;
            row("renorm_momentum", text(self.renorm_momentum))?;
            row("ghost_interleaved", text(self.ghost_interleaved))?;
        }
        row("excluded", text(self.excluded))?;
        if let Some(inputs) = self.applies_to() {
            row("applies_to", inputs.into())?;
        }
        row("names", self.names().into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}
