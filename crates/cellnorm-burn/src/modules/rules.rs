//! The layers whose normalization is a rule of [`cellnorm::rule`] beyond Burn's own: one line each.

use burn::module::{Flag, Module, Param};
use burn::tensor::{Device, Tensor};
use cellnorm::norms::{self, HasChannels};
use cellnorm::rule::{Norm, NormConfig, Rule};
use cellnorm::shape::Excluded;
use cellnorm::{Mode, Momentum, OneValue, RunningVariance, Semantics};

use super::{Parameter, average, averages_of, flat, forwards, mode_on, value};
use crate::apply::Call;
use crate::averages::{Average, Averages, Pace};
use crate::ranks::Link;

fn parameter<R: Rule>(layer: &Norm<R>, name: &str, device: &Device) -> Parameter {
    let parameter = |values| Param::from_tensor(flat(values, device));
    let parameter = layer.parameter(name).map(parameter);
    parameter.map(|parameter| parameter.set_require_grad(!layer.is_frozen(name)))
}

/// A rule that has a module.
pub trait RuleModule: Rule {
    /// The module.
    type Module;

    /// The module with the parameters and running averages of a layer on arrays.
    ///
    /// # Panics
    /// If the momentum of its correction counts the batches.
    fn module(layer: &Norm<Self>, device: &Device) -> Self::Module;
}

/// Makes the module of a rule: a config of the rule on arrays, with Burn's names. Options that are
/// not here are those of [`NormConfig`], of which it is made by `from`.
///
/// ```
/// use burn::tensor::Device;
/// use cellnorm_burn::{BatchRenormConfig, cellnorm::norms};
/// let layer = BatchRenormConfig::new(8).with_epsilon(1e-4).init(&Device::flex());
/// assert_eq!(layer.epsilon, 1e-4);
/// let config = norms::BatchRenormConfig::new(8).bounds(2.0, 1.0);
/// assert_eq!(BatchRenormConfig::from(config).init(&Device::flex()).rule.r_max, 2.0);
/// ```
#[derive(Clone, Debug)]
pub struct RuleConfig<R>(NormConfig<R>);

impl<R> From<NormConfig<R>> for RuleConfig<R> {
    fn from(config: NormConfig<R>) -> Self {
        Self(config)
    }
}

macro_rules! options {
    ($($(#[$doc:meta])* $name:ident($option:ident: $type:ty);)*) => {$(
        $(#[$doc])*
        pub fn $name(self, $option: $type) -> Self {
            Self(self.0.$option($option))
        }
    )*};
}

impl<R: Rule> RuleConfig<R> {
    options! {
        /// ε. Default: 1e-5 unless the normalization says otherwise.
        with_epsilon(epsilon: f64);
        /// Whether there is a factor γ. Default: true.
        with_scale(scale: bool);
        /// Whether there is an offset β. Default: true.
        with_center(center: bool);
        /// The pace of the running averages. Default: `Step(0.1)`.
        with_momentum(momentum: Momentum);
        /// Which variance the running variance follows. Default: unbiased.
        with_running_variance(running_variance: RunningVariance);
        /// Whether the layer keeps the running averages of its rule. Without, the statistics are
        /// always those of x, in inference, too (PyTorch's `track_running_stats=False`), and no
        /// record has any. Default: true.
        with_running_statistics(running_statistics: bool);
        /// The policy for one value a statistic in training. Default: an error.
        with_one_value(one_value: OneValue);
        /// The treatment of values that a mask excludes. Default: y and dx are 0 there.
        with_excluded(excluded: Excluded);
        /// As a framework has it.
        with_semantics(semantics: &Semantics);
    }
}

impl<R: HasChannels> RuleConfig<R> {
    options! {
        /// The axis of the channels; negative counts from the last. Default: 1, but −1 for
        /// sequences.
        with_channel_axis(channel_axis: isize);
    }
}

impl<R: RuleModule> RuleConfig<R> {
    /// The layer.
    ///
    /// # Panics
    /// If the config is not sound (the message says what would be), or the momentum of a
    /// correction counts the batches.
    pub fn init(&self, device: &Device) -> R::Module {
        let layer = self.0.clone().init().unwrap_or_else(|error| panic!("{error}"));
        R::module(&layer, device)
    }
}

macro_rules! layers {
    ($(
        $(#[$doc:meta])*
        $name:ident, $config:ident::$new:ident($($argument:ident: $type:ty),*), $rule:ty {
            $($parameter:ident),*
        } $(with $correction_mean:ident, $correction_var:ident)?;
    )*) => {
        /// The names of these layers.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];
    $(
        #[doc = concat!("Makes a [`", stringify!($name), "`].")]
        pub type $config = RuleConfig<$rule>;

        impl RuleConfig<$rule> {
            /// The config on arrays with these arguments.
            pub fn new($($argument: $type),*) -> Self {
                Self(NormConfig::<$rule>::$new($($argument),*))
            }
        }

        $(#[$doc])*
        ///
        /// Parameters and running averages are flat, row-major. On a training device
        /// (`device.autodiff()`) and unless frozen, the statistics are those of x, and the running
        /// averages, where there are any, move toward them; else these are used. Clones share them
        /// ([`clone_with_statistics`](crate::clone_with_statistics) does not), and a batch whose
        /// statistics are not all finite moves none.
        #[derive(Module, Debug)]
        pub struct $name {
            $(
                /// The parameter of this name; None where the layer has none.
                pub $parameter: Parameter,
            )*
            /// Whether this layer takes part in training; `freeze` turns it off.
            pub training: Param<Flag>,
            /// The running mean; None where the normalization keeps none.
            pub running_mean: Average,
            /// The running variance, or the numbers that the normalization keeps in its place.
            pub running_var: Average,
            /// How many batches the running averages have followed; None unless momentum
            /// [counts](Momentum::counts_batches) them.
            pub num_batches_tracked: Average,
            $(
                /// The running mean that training is corrected toward, where it has a momentum of
                /// its own; else None, and it is `running_mean`.
                pub $correction_mean: Average,
                /// The running deviation beside it.
                pub $correction_var: Average,
            )?
            /// ε.
            pub epsilon: f64,
            /// The normalization.
            #[module(skip)]
            pub rule: $rule,
            /// The policy for one value a statistic in training.
            #[module(skip)]
            pub one_value: OneValue,
            /// The treatment of values that a mask excludes.
            #[module(skip)]
            pub excluded: Excluded,
            /// The mode in training, whatever the mode of its parents: whose statistics
            /// normalize, whether the running ones move, and whether the parameters have gradients.
            #[module(skip)]
            pub mode: Mode,
            #[module(skip)]
            pace: Pace,
            #[module(skip)]
            correction: Option<Momentum>,
            /// The ranks that the statistics of training are shared with;
            /// [`convert_sync_batch_norm`](crate::ranks::convert_sync_batch_norm) sets it. Default:
            /// none.
            pub link: Link,
        }

        impl RuleModule for $rule {
            type Module = $name;

            fn module(layer: &Norm<Self>, device: &Device) -> $name {
                let (momentum, variance) = (layer.momentum, layer.running_variance);
                let [running_mean, running_var, num_batches_tracked] = averages_of(layer, device);
                $name {
                    $($parameter: parameter(layer, stringify!($parameter), device),)*
                    training: Param::from_bool(true),
                    running_mean,
                    running_var,
                    num_batches_tracked,
                    $(
                        $correction_mean: layer
                            .correction
                            .as_ref()
                            .and_then(|of| average(&of.averages.mean, device)),
                        $correction_var: layer
                            .correction
                            .as_ref()
                            .and_then(|of| average(&of.averages.variance, device)),
                    )?
                    epsilon: layer.epsilon,
                    rule: layer.rule().clone(),
                    one_value: layer.one_value,
                    excluded: layer.excluded,
                    mode: layer.mode,
                    pace: Pace { momentum, variance },
                    correction: layer.correction.as_ref().map(|of| of.momentum),
                    link: Link::default(),
                }
            }
        }

        impl $name {
            /// The layer with the parameters and running averages of one on arrays; those that it
            /// [freezes](Norm::freeze_parameter) have no gradient here, either.
            ///
            /// # Panics
            /// If the momentum of its correction counts the batches.
            pub fn from_arrays(layer: &Norm<$rule>, device: &Device) -> Self {
                <$rule>::module(layer, device)
            }

            forwards!();

            pub(super) fn call(&self, device: &Device) -> Call<'_, $rule> {
                let parameters = vec![$((stringify!($parameter), value(&self.$parameter))),*];
                let (mean, variance) = (&self.running_mean, &self.running_var);
                let batches = &self.num_batches_tracked;
                let correction = None$(
                    .or(Averages::of(&self.$correction_mean, &self.$correction_var, batches))
                )?;
                Call {
                    one_value: self.one_value,
                    excluded: self.excluded,
                    averages: Averages::of(mean, variance, batches),
                    correction: correction.zip(self.correction),
                    mode: mode_on(device, self.training.is_enabled(), self.mode),
                    pace: self.pace,
                    ranks: self.link.ranks(),
                    ..Call::new(self.rule.clone(), self.epsilon, parameters)
                }
            }
        }
    )*};
}

layers! {
    /// Batch-instance normalization: a gate for each channel blends the batch's and the instance's
    /// result ([`cellnorm::norms::BatchInstanceNorm`]).
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use cellnorm_burn::BatchInstanceNormConfig;
    /// let device = Device::flex().autodiff();
    /// let layer = BatchInstanceNormConfig::new(3).init(&device);
    /// let x = Tensor::<4>::random([4, 3, 5, 5], Distribution::Default, &device);
    /// let gradients = layer.forward(x).square().sum().backward();
    /// assert_eq!(layer.rho.unwrap().grad(&gradients).unwrap().dims(), [3]);
    /// ```
    BatchInstanceNorm, BatchInstanceNormConfig::new(channels: usize), norms::BatchInstance {
        gamma, beta, rho
    };
    /// Switchable normalization: learned weights blend instance, layer and batch statistics
    /// ([`cellnorm::norms::SwitchableNorm`]).
    SwitchableNorm, SwitchableNormConfig::new(channels: usize), norms::Switchable {
        gamma, beta, mean_weight, variance_weight
    };
    /// Batch normalization over several axes: each index along them has statistics of its own
    /// ([`cellnorm::BatchNormConfig::over`]).
    AxesBatchNorm, AxesBatchNormConfig::over(axes: &[isize], lengths: &[usize]), norms::Batch {
        gamma, beta
    };
    /// Batch renormalization: batch statistics, corrected toward the running ones, or toward
    /// averages of their own pace, as in Keras ([`cellnorm::norms::BatchRenorm`]).
    BatchRenorm, BatchRenormConfig::new(channels: usize), norms::Renorm {
        gamma, beta
    } with running_correction_mean, running_correction_var;
    /// Ghost batch normalization: a large batch in small parts
    /// ([`cellnorm::norms::GhostBatchNorm`]).
    GhostBatchNorm, GhostBatchNormConfig::new(channels: usize, size: usize), norms::Ghost {
        gamma, beta
    };
    /// Batch normalization of sequences with statistics for each time step
    /// ([`cellnorm::norms::StepBatchNorm`]); inside a recurrence, [one step at a
    /// time](StepBatchNorm::at_step).
    StepBatchNorm, StepBatchNormConfig::new(channels: usize, steps: usize), norms::Step {
        gamma, beta
    };
    /// Graph normalization: instance statistics, and a learned share of the mean
    /// ([`cellnorm::norms::GraphNorm`]).
    GraphNorm, GraphNormConfig::new(channels: usize), norms::Graph { gamma, beta, mean_scale };
    /// Filter response normalization: each channel by its root mean square
    /// ([`cellnorm::norms::FilterResponseNorm`]).
    FilterResponseNorm, FilterResponseNormConfig::new(channels: usize), norms::FilterResponse {
        gamma, beta, learned_epsilon
    };
    /// RMS normalization with γ stored less 1, as Gemma's models have it
    /// ([`cellnorm::norms::GemmaRmsNorm`]).
    GemmaRmsNorm, GemmaRmsNormConfig::new(normalized_shape: &[usize]), norms::GemmaRms {
        gamma, beta
    };
    /// Scaling by the standard deviation of a sample's features, which keep their mean: Keras'
    /// `LayerNormalization(rms_scaling=True)` ([`cellnorm::norms::RmsScalingNorm`]).
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use cellnorm_burn::RmsScalingNormConfig;
    /// let layer = RmsScalingNormConfig::new(&[2]).with_epsilon(1e-12).init(&Device::flex());
    /// // the standard deviation is 1
    /// let y = layer.forward(Tensor::<2>::from_floats([[4.0, 6.0]], &Device::flex()));
    /// assert!((y.sum().into_scalar::<f32>() - 10.0).abs() < 1e-4);
    /// ```
    RmsScalingNorm, RmsScalingNormConfig::new(normalized_shape: &[usize]), norms::RmsScaling {
        gamma, beta
    };
    /// Mean-variance normalization over any axes, without parameters
    /// ([`cellnorm::norms::MeanVarianceNorm`]).
    MeanVarianceNorm, MeanVarianceNormConfig::new(axes: &[isize]), norms::MeanVariance { };
}
