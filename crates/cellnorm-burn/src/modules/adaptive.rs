//! Adaptive normalization, y = γ_{n,c} (x − mean) / √(variance + ε) + β_{n,c}: γ and β come
//! with each x, statistics are those of instance, layer, group or batch normalization.

use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::tensor::{Bool, Device, Tensor};
use cellnorm::norms::{Adaptive, AdaptiveStatistics};
use cellnorm::rule::NormConfig;
use cellnorm::shape::Excluded;
use cellnorm::{Error, Mode, Momentum, Normalization, OneValue, RunningVariance, Semantics};

use super::{averages_of, mode_on};
use crate::apply::Call;
use crate::averages::{Average, Averages, Pace};

/// Makes an [`AdaptiveNorm`].
#[derive(Config, Debug)]
pub struct AdaptiveNormConfig {
    /// The number of channels.
    pub channels: usize,
    /// Whose statistics: each channel's over the batch, or each sample's over groups of channels.
    pub statistics: AdaptiveStatistics,
    /// ε, added to the variance inside the root. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// The axis of the channels; negative counts from the last. Default: 1; −1 for channels-last
    #[config(default = 1)]
    pub channel_axis: isize,
    /// The pace of the running averages of [`AdaptiveStatistics::Batch`]. Default: `Step(0.1)`
    #[config(default = "Momentum::Step(0.1)")]
    pub momentum: Momentum,
    /// Which variance the running variance follows. Default: unbiased, as PyTorch
    #[config(default = "RunningVariance::Unbiased")]
    pub running_variance: RunningVariance,
    /// Whether [`AdaptiveStatistics::Batch`] keeps running averages. Without, the statistics are
    /// always those of x, in inference, too. Default: true
    #[config(default = true)]
    pub running_statistics: bool,
    /// The policy for one value a statistic in training. Default: an error, as PyTorch
    #[config(default = "OneValue::Error")]
    pub one_value: OneValue,
    /// The treatment of values that a mask excludes. Default: y and dx are 0 there
    #[config(default = "Excluded::Zero")]
    pub excluded: Excluded,
}

/// Adaptive normalization of tensors \[N, C, …\] with γ and β, \[N, C\], given at each call and
/// differentiated: AdaIN, FiLM, conditional batch normalization
/// ([`cellnorm::norms::AdaptiveNorm`]).
///
/// On a training device (`device.autodiff()`) and unless frozen, the statistics of
/// [`AdaptiveStatistics::Batch`] are those of x and the running averages move toward them;
/// otherwise the running averages normalize. Clones share them
/// ([`clone_with_statistics`](crate::clone_with_statistics) does not), and a batch whose statistics
/// are not all finite moves none.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::{AdaptiveNormConfig, norms::AdaptiveStatistics};
/// let device = Device::flex().autodiff();
/// let layer = AdaptiveNormConfig::new(3, AdaptiveStatistics::Groups(3)).init(&device); // AdaIN
/// let x = Tensor::<4>::random([2, 3, 5, 5], Distribution::Default, &device);
/// let (gamma, beta) =
///     (Tensor::<2>::ones([2, 3], &device).require_grad(), Tensor::zeros([2, 3], &device));
/// let gradients = layer.forward(x, gamma.clone(), beta).exp().sum().backward();
/// assert_eq!(gamma.grad(&gradients).unwrap().dims(), [2, 3]);
/// ```
#[derive(Module, Debug)]
pub struct AdaptiveNorm {
    /// Whether this layer takes part in training; `freeze` turns it off.
    pub training: Param<Flag>,
    /// The running mean of each channel; None unless the statistics are the batch's.
    pub running_mean: Average,
    /// The running variance of each channel.
    pub running_var: Average,
    /// How many batches the running averages have followed; None unless momentum
    /// [counts](Momentum::counts_batches) them.
    pub num_batches_tracked: Average,
    /// ε inside the root.
    pub epsilon: f64,
    /// The number of channels.
    pub channels: usize,
    /// The axis of the channels.
    pub channel_axis: isize,
    /// Whose statistics.
    #[module(skip)]
    pub statistics: AdaptiveStatistics,
    /// The policy for one value a statistic in training.
    #[module(skip)]
    pub one_value: OneValue,
    /// The treatment of values that a mask excludes.
    #[module(skip)]
    pub excluded: Excluded,
    /// The mode of the layer in training, whatever the mode of its parents. γ and β have gradients
    /// in every mode: they are no parameters of the layer.
    #[module(skip)]
    pub mode: Mode,
    #[module(skip)]
    pace: Pace,
}

impl AdaptiveNormConfig {
    /// As a framework has it: ε, the channel axis, the running averages, the policy for one value,
    /// and the treatment of values that a mask excludes.
    pub fn with_semantics(mut self, semantics: &Semantics) -> Self {
        (self.epsilon, self.channel_axis) = (semantics.epsilon, semantics.channel_axis);
        (self.momentum, self.running_variance) = (semantics.momentum, semantics.running_variance);
        if semantics.normalization == Normalization::Batch {
            self.running_statistics = semantics.running_statistics;
        }
        (self.one_value, self.excluded) = (semantics.one_value, semantics.excluded);
        self
    }

    /// The layer, with running mean 0 and running variance 1 where it keeps any.
    ///
    /// # Panics
    /// If groups do not divide the channels, ε is not finite and at least 1e-36, or momentum is not
    /// in \[0, 1\].
    pub fn init(&self, device: &Device) -> AdaptiveNorm {
        let Self { channels, statistics, channel_axis, momentum, running_variance, .. } = *self;
        let rule = Adaptive { channels, channel_axis, statistics, samples: 0 };
        let config = NormConfig::custom(rule).epsilon(self.epsilon).momentum(momentum);
        let config = config.running_variance(running_variance).one_value(self.one_value);
        let layer = config.running_statistics(self.running_statistics).init();
        let layer = layer.unwrap_or_else(|error| panic!("{error}"));
        let [running_mean, running_var, num_batches_tracked] = averages_of(&layer, device);
        AdaptiveNorm {
            training: Param::from_bool(true),
            running_mean,
            running_var,
            num_batches_tracked,
            epsilon: self.epsilon,
            channels,
            channel_axis,
            statistics,
            one_value: self.one_value,
            excluded: self.excluded,
            mode: Mode::training(),
            pace: Pace { momentum, variance: running_variance },
        }
    }
}

impl AdaptiveNorm {
    /// Normalizes x, and scales and shifts each channel of each sample by `gamma` and `beta`, \[N,
    /// C\] each.
    ///
    /// # Panics
    /// If x has no such channel axis or another number of channels, `gamma` or `beta` is not \[N,
    /// C\], or a statistic has one value in training and the policy refuses it.
    pub fn forward<const D: usize>(
        &self,
        x: Tensor<D>,
        gamma: Tensor<2>,
        beta: Tensor<2>,
    ) -> Tensor<D> {
        self.run(x, gamma, beta, None)
    }

    /// Normalizes the values alone where the mask is true; y and dx are 0 at the others, whatever x
    /// holds there, unless [`excluded`](Self::excluded) says that they are normalized as well. Each
    /// axis of the mask is as long as that of x, or 1.
    ///
    /// # Panics
    /// Same as [`forward`](Self::forward); also if the mask does not broadcast to x.
    pub fn forward_masked<const D: usize>(
        &self,
        x: Tensor<D>,
        gamma: Tensor<2>,
        beta: Tensor<2>,
        mask: Tensor<D, Bool>,
    ) -> Tensor<D> {
        self.run(x, gamma, beta, Some(mask))
    }

    fn run<const D: usize>(
        &self,
        x: Tensor<D>,
        gamma: Tensor<2>,
        beta: Tensor<2>,
        mask: Option<Tensor<D, Bool>>,
    ) -> Tensor<D> {
        let Self { channels, channel_axis, statistics, epsilon, mode, pace, .. } = *self;
        let expected = [x.dims()[0], channels];
        let flat = |(name, of): (&'static str, Tensor<2>)| {
            let given = of.dims();
            if given != expected {
                let (given, expected) = (given.to_vec(), expected.to_vec());
                panic!("{}", Error::Parameter { name, given, expected });
            }
            (name, Some(of.reshape([expected[0] * channels])))
        };
        let parameters = [("gamma", gamma), ("beta", beta)].map(flat).into();
        let rule = Adaptive { channels, channel_axis, statistics, samples: expected[0] };
        let averages =
            Averages::of(&self.running_mean, &self.running_var, &self.num_batches_tracked);
        let mode = mode_on(&x.device(), self.training.is_enabled(), mode);
        let mode = Mode { train_parameters: true, ..mode };
        let call = Call::new(rule, epsilon, parameters);
        let (one_value, excluded) = (self.one_value, self.excluded);
        Call { one_value, excluded, averages, mode, pace, ..call }.run(x, mask).0
    }
}
