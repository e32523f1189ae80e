//! The layers whose normalization is a rule of [`cellnorm::tables`]: one line each.

use burn::module::{Flag, Module, Param};
use burn::tensor::{Bool, Device, Tensor};
use cellnorm::tables::{Rule, TableNorm, TableNormConfig};
use cellnorm::{OneValue, norms};

use super::averages::{Average, Averages, Pace};
use super::parts::{Parts, averages_of, flat};
use super::value;

/// A parameter of a rule as a layer holds it, flat.
type Parameter = Option<Param<Tensor<1>>>;

fn parameter<R: Rule>(layer: &TableNorm<R>, name: &str, device: &Device) -> Parameter {
    layer.parameter(name).map(|values| Param::from_tensor(flat(values, device)))
}

macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident, $rule:ty { $($parameter:ident),* };)*) => {
        /// The names of these layers.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];
    $(
        $(#[$doc])*
        ///
        /// Parameters and running averages are flat, row-major. On a training device
        /// (`device.autodiff()`) and unless frozen, the statistics are those of x, and the running
        /// averages, where there are any, move toward them; else these are used.
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
            /// The running variance, or what the normalization keeps in its place.
            pub running_var: Average,
            /// How many batches the running averages have followed; None unless momentum is
            /// cumulative.
            pub num_batches_tracked: Average,
            /// ε.
            pub epsilon: f64,
            /// The normalization.
            #[module(skip)]
            pub rule: $rule,
            /// What one value a statistic does in training.
            #[module(skip)]
            pub one_value: OneValue,
            #[module(skip)]
            pace: Pace,
        }

        impl $name {
            /// The layer that the config describes.
            ///
            /// # Panics
            /// If the config is not sound (the message says what would be), or has a momentum for a
            /// correction.
            pub fn new(config: TableNormConfig<$rule>, device: &Device) -> Self {
                let layer = config.init().unwrap_or_else(|error| panic!("{error}"));
                Self::from_arrays(&layer, device)
            }

            /// The layer with the parameters and running averages of one on arrays.
            ///
            /// # Panics
            /// If it has a momentum for a correction.
            pub fn from_arrays(layer: &TableNorm<$rule>, device: &Device) -> Self {
                let (momentum, variance) = (layer.momentum, layer.running_variance);
                let [running_mean, running_var, num_batches_tracked] = averages_of(layer, device);
                Self {
                    $($parameter: parameter(layer, stringify!($parameter), device),)*
                    training: Param::from_bool(true),
                    running_mean,
                    running_var,
                    num_batches_tracked,
                    epsilon: layer.epsilon,
                    rule: layer.rule().clone(),
                    one_value: layer.one_value,
                    pace: Pace { momentum, variance },
                }
            }

            /// Normalizes x.
            ///
            /// # Panics
            /// If the shape of x does not suit the layer, or a statistic has one value and the
            /// policy refuses it; the message says what would suit.
            pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
                self.parts(&self.rule).forward(x, None)
            }

            /// As [`forward`](Self::forward), over the values alone where the mask is true; y and
            /// dx are 0 at the others, whatever x holds there. Each axis of the mask is as long as
            /// that of x, or 1.
            ///
            /// # Panics
            /// As [`forward`](Self::forward), or if the mask does not fit x.
            pub fn forward_masked<const D: usize>(&self, x: Tensor<D>, mask: Tensor<D, Bool>) -> Tensor<D> {
                self.parts(&self.rule).forward(x, Some(mask))
            }

            /// What a forward pass needs, by this form of the layer's rule.
            pub(super) fn parts<'a>(&'a self, rule: &'a $rule) -> Parts<'a, $rule> {
                Parts {
                    rule,
                    epsilon: self.epsilon,
                    one_value: self.one_value,
                    parameters: vec![$((stringify!($parameter), value(&self.$parameter))),*],
                    averages: Averages::of(&self.running_mean, &self.running_var, &self.num_batches_tracked),
                    training: self.training.is_enabled(),
                    pace: self.pace,
                }
            }
        }
    )*};
}

layers! {
    /// Batch-instance normalization: a gate for each channel blends the batch's and the instance's
    /// result ([`cellnorm::BatchInstanceNorm`]).
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use cellnorm_burn::{BatchInstanceNorm, cellnorm::BatchInstanceNormConfig};
    /// let device = Device::flex().autodiff();
    /// let layer = BatchInstanceNorm::new(BatchInstanceNormConfig::new(3), &device);
    /// let x = Tensor::<4>::random([4, 3, 5, 5], Distribution::Default, &device);
    /// let gradients = layer.forward(x).square().sum().backward();
    /// assert_eq!(layer.rho.unwrap().grad(&gradients).unwrap().dims(), [3]);
    /// ```
    BatchInstanceNorm, norms::BatchInstance { gamma, beta, rho };
    /// Switchable normalization: learned weights blend instance, layer and batch statistics
    /// ([`cellnorm::SwitchableNorm`]).
    SwitchableNorm, norms::Switchable { gamma, beta, mean_weight, variance_weight };
    /// Batch normalization over several axes: each index along them has statistics of its own
    /// ([`cellnorm::AxesBatchNorm`]).
    AxesBatchNorm, norms::BatchAxes { gamma, beta };
    /// Batch renormalization: batch statistics, corrected toward the running ones
    /// ([`cellnorm::BatchRenorm`]).
    BatchRenorm, norms::Renorm { gamma, beta };
    /// Ghost batch normalization: a large batch in small parts ([`cellnorm::GhostBatchNorm`]).
    GhostBatchNorm, norms::Ghost { gamma, beta };
    /// Batch normalization of sequences with statistics for each time step
    /// ([`cellnorm::StepBatchNorm`]); inside a recurrence, [one step at a
    /// time](StepBatchNorm::at_step).
    StepBatchNorm, norms::Step { gamma, beta };
    /// Graph normalization: instance statistics, and a learned share of the mean
    /// ([`cellnorm::GraphNorm`]).
    GraphNorm, norms::Graph { gamma, beta, mean_scale };
    /// Filter response normalization: each channel by its root mean square
    /// ([`cellnorm::FilterResponseNorm`]).
    FilterResponseNorm, norms::FilterResponse { gamma, beta, learned_epsilon };
    /// Mean-variance normalization over any axes, without parameters
    /// ([`cellnorm::MeanVarianceNorm`]).
    MeanVarianceNorm, norms::MeanVariance { };
}
