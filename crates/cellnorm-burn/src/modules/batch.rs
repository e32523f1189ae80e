//! Batch normalization for Burn.

use burn::config::Config;
use burn::module::{Flag, Module, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use cellnorm::norms::Batch;
use cellnorm::rule::Tracked;
use cellnorm::shape::Excluded;
use cellnorm::{Mode, Momentum, Normalization, OneValue, RunningVariance, Semantics};

use super::{display, forwards, frozen, mode_on, parameters, value};
use crate::apply::Call;
use crate::averages::{self, Average, Averages, Pace};
use crate::ranks::Link;
use crate::tables::Table;

/// Makes a [`BatchNorm`].
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// The number of channels.
    pub num_features: usize,
    /// ε, added to the variance inside the root. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// The pace of the running statistics. Default: `Step(0.1)`, running = 0.9 · running + 0.1 ·
    /// batch. `Cumulative` and `Pooled` count the batches in `num_batches_tracked`
    #[config(default = "Momentum::Step(0.1)")]
    pub momentum: Momentum,
    /// The axis of the channels; negative counts from the last. Default: 1; −1 for channels-last
    #[config(default = 1)]
    pub channel_axis: isize,
    /// Whether there is a trained factor γ. Default: true
    #[config(default = true)]
    pub scale: bool,
    /// Whether there is a trained offset β. Default: true
    #[config(default = true)]
    pub center: bool,
    /// Whether a γ that is not wanted by `scale` is there all the same, applied and without
    /// gradient, as with MXNet's `scale=False`. Default: false
    #[config(default = false)]
    pub frozen_gamma: bool,
    /// Whether a β that is not wanted by `center` is there all the same, applied and without
    /// gradient. Default: false
    #[config(default = false)]
    pub frozen_beta: bool,
    /// How γ starts. Default: ones
    #[config(default = "Initializer::Ones")]
    pub gamma_initializer: Initializer,
    /// How β starts. Default: zeros
    #[config(default = "Initializer::Zeros")]
    pub beta_initializer: Initializer,
    /// Which variance the running variance follows. Default: unbiased, as PyTorch
    #[config(default = "RunningVariance::Unbiased")]
    pub running_variance: RunningVariance,
    /// Whether the running statistics move and normalize in inference. Without, the statistics are
    /// always those of x (PyTorch's `track_running_stats=False`). Default: true
    #[config(default = true)]
    pub running_statistics: bool,
    /// The policy for one value a channel in training. Default: an error, as PyTorch
    #[config(default = "OneValue::Error")]
    pub one_value: OneValue,
    /// The treatment of values that a mask excludes. Default: y and dx are 0 there
    #[config(default = "Excluded::Zero")]
    pub excluded: Excluded,
}

/// Batch normalization: γ (x − mean_c) / √(variance_c + ε) + β, with a mean and a variance for each
/// channel.
///
/// On a training device (`device.autodiff()`) and unless frozen, the statistics are those of the
/// batch and the running ones move toward them; else the running statistics are used. Without
/// [`running_statistics`](BatchNormConfig::running_statistics) those of x always are. NaN in x
/// passes on to y; a batch whose statistics are not all finite moves nothing. Running statistics
/// are f32 at least. Fields and records are those of Burn's own layer, with a count of batches
/// beside them where momentum needs it.
///
/// **Clones share the running statistics**, as all of Burn's running states: training a student
/// that was cloned from its teacher moves the teacher's, and so does loading a record into it. One
/// made by [`clone_with_statistics`](crate::clone_with_statistics) has its own. Clones that train
/// in several threads take one step after another.
///
/// Source: S. Ioffe, C. Szegedy, *Batch Normalization*, 2015; defaults as `torch.nn.BatchNorm*d` of
/// PyTorch 2.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::BatchNormConfig;
/// let device = Device::flex().autodiff();
/// let layer = BatchNormConfig::new(16).with_channel_axis(-1).init(&device);
/// let x = Tensor::<4>::random([8, 7, 7, 16], Distribution::Default, &device).require_grad();
/// let gradients = layer.forward(x.clone()).square().sum().backward();
/// assert_eq!(x.grad(&gradients).unwrap().dims(), [8, 7, 7, 16]);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BatchNorm {
    /// The factor of each channel, `[num_features]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// The offset of each channel, `[num_features]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// Whether this layer takes part in training; `freeze` turns it off.
    pub training: Param<Flag>,
    /// The mean for inference, `[num_features]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// The variance for inference, `[num_features]`.
    pub running_var: RunningState<Tensor<1>>,
    /// How many batches the running statistics have followed. None unless momentum
    /// [counts](Momentum::counts_batches) them, so that other records stay those of Burn's own
    /// layer. PyTorch's checkpoints hold an integer of this name, which Burn's reader refuses here:
    /// load them without it (`with_predicate`, `allow_partial`), and set the field.
    pub num_batches_tracked: Average,
    /// ε inside the root.
    pub epsilon: f64,
    /// The axis of the channels.
    pub channel_axis: isize,
    /// The pace of the running statistics.
    #[module(skip)]
    pub momentum: Momentum,
    /// Which variance the running variance follows.
    #[module(skip)]
    pub running_variance: RunningVariance,
    /// Whether the running statistics move and normalize in inference. Without, they stay as they
    /// are, in records as well, so that records are those of every batch normalization; a PyTorch
    /// checkpoint that has none loads with `allow_partial`.
    #[module(skip)]
    pub running_statistics: bool,
    /// The policy for one value a channel in training.
    #[module(skip)]
    pub one_value: OneValue,
    /// The treatment of values that a mask excludes.
    #[module(skip)]
    pub excluded: Excluded,
    /// The mode in training, whatever the mode of its parents: whose statistics normalize,
    /// whether the running ones move, and whether γ and β have gradients.
    #[module(skip)]
    pub mode: Mode,
    /// The ranks that the statistics of training are shared with;
    /// [`convert_sync_batch_norm`](crate::ranks::convert_sync_batch_norm) sets it. Default: none.
    pub link: Link,
}

display!(BatchNorm, |layer| {
    num_features: layer.running_mean.value().dims()[0],
    momentum: format!("{:?}", layer.momentum),
    epsilon: layer.epsilon,
    channel_axis: layer.channel_axis as i64
});

impl BatchNormConfig {
    /// As a framework has it: ε, γ and β, the channel axis, the running statistics, the policy for
    /// one value, and the treatment of values that a mask excludes.
    ///
    /// ```
    /// use cellnorm_burn::{
    ///     BatchNormConfig,
    ///     cellnorm::{Normalization, Semantics},
    /// };
    /// let keras = Semantics::preset("keras-3", Normalization::Batch)?;
    /// assert_eq!(BatchNormConfig::new(8).with_semantics(&keras).channel_axis, -1);
    /// # Ok::<(), cellnorm_burn::cellnorm::Error>(())
    /// ```
    pub fn with_semantics(mut self, semantics: &Semantics) -> Self {
        (self.epsilon, self.channel_axis) = (semantics.epsilon, semantics.channel_axis);
        (self.scale, self.center) = (semantics.scale, semantics.center);
        (self.frozen_gamma, self.frozen_beta) = frozen(semantics);
        (self.momentum, self.running_variance) = (semantics.momentum, semantics.running_variance);
        if semantics.normalization == Normalization::Batch {
            self.running_statistics = semantics.running_statistics;
        }
        (self.one_value, self.excluded) = (semantics.one_value, semantics.excluded);
        self
    }

    /// The layer, with γ = 1 and β = 0 unless they start otherwise, running mean 0 and running
    /// variance 1.
    ///
    /// # Panics
    /// If there are no channels, ε is not finite and at least 1e-36, momentum is not in \[0, 1\],
    /// the running variance does not go with ε, or one value is to use running statistics that are
    /// not kept.
    pub fn init(&self, device: &Device) -> BatchNorm {
        assert!(
            self.num_features > 0,
            "num_features is 0; batch normalization needs at least 1 channel"
        );
        let config = cellnorm::BatchNormConfig::new(self.num_features).epsilon(self.epsilon);
        let config = config.momentum(self.momentum).running_variance(self.running_variance);
        let config = config.running_statistics(self.running_statistics).one_value(self.one_value);
        config.init().unwrap_or_else(|error| panic!("{error}"));
        let initializers = [&self.gamma_initializer, &self.beta_initializer];
        let trained = [self.scale, self.center];
        let frozen = [self.frozen_gamma, self.frozen_beta];
        let [gamma, beta] = parameters(self.num_features, trained, frozen, initializers, device);
        BatchNorm {
            gamma,
            beta,
            training: Param::from_bool(true),
            running_mean: averages::state(&vec![0.0; self.num_features], device),
            running_var: averages::state(&vec![1.0; self.num_features], device),
            num_batches_tracked: averages::batches(self.momentum, 0, device),
            epsilon: self.epsilon,
            channel_axis: self.channel_axis,
            momentum: self.momentum,
            running_variance: self.running_variance,
            running_statistics: self.running_statistics,
            one_value: self.one_value,
            excluded: self.excluded,
            mode: Mode::training(),
            link: Link::default(),
        }
    }
}

impl BatchNorm {
    forwards!();

    /// Normalizes with the batch's statistics, moves the running ones, and returns (y, mean, biased
    /// variance of the batch), which is that of all ranks where the layer is linked to others.
    /// [`OneValue::UseRunning`] acts as [`OneValue::Beta`] here.
    ///
    /// # Panics
    /// Same as [`BatchNorm::forward`].
    pub fn forward_with_statistics<const D: usize>(
        &self,
        x: Tensor<D>,
    ) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
        // the running averages have no statistics of the batch to return
        let one_value = match self.one_value {
            OneValue::UseRunning => OneValue::Beta,
            policy => policy,
        };
        let call = Call { mode: Mode::training(), one_value, ..self.call(&x.device()) };
        let (y, tracked) = call.run(x, None);
        let Tracked { mean: Table(mean), variance: Table(variance), .. } =
            tracked.expect("the statistics of a batch");
        (y, mean, variance)
    }

    fn call(&self, device: &Device) -> Call<'_, Batch> {
        let rule = Batch::new(self.running_mean.value().dims()[0], self.channel_axis);
        let parameters = vec![("gamma", value(&self.gamma)), ("beta", value(&self.beta))];
        let (mean, variance) = (&self.running_mean, &self.running_var);
        let batches = self.num_batches_tracked.as_ref();
        let averages = Averages { mean, variance, batches, part: None };
        Call {
            one_value: self.one_value,
            excluded: self.excluded,
            averages: self.running_statistics.then_some(averages),
            mode: self.mode_on(device),
            pace: Pace { momentum: self.momentum, variance: self.running_variance },
            ranks: self.link.ranks(),
            ..Call::new(rule, self.epsilon, parameters)
        }
    }

    /// The mode on a device: inference unless it is a training device and the layer is not frozen.
    pub(crate) fn mode_on(&self, device: &Device) -> Mode {
        mode_on(device, self.training.is_enabled(), self.mode)
    }
}
