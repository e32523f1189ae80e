//! Batch normalization for Burn.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Flag, Module, ModuleDisplay, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use cellnorm::Error;

use super::{check_epsilon, parameters, value};
use crate::functions::{Normalized, normalize, normalize_fixed};
use crate::norms::{Batch, Kind};

/// Which variance of the batch the running variance moves toward. The batch itself is always normalized with the biased one.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum RunningVariance {
    /// Divided by n − 1, as PyTorch does.
    Unbiased,
    /// Divided by n, as Keras 3, MXNet, ONNX, Flax and Burn's own layer do.
    Biased,
}

/// Makes a [`BatchNorm`].
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// The number of channels.
    pub num_features: usize,
    /// ε, added to the variance inside the root. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// The weight of the batch in the running statistics: running = (1 − momentum) · running + momentum · batch. Default: 0.1
    #[config(default = 0.1)]
    pub momentum: f64,
    /// The axis of the channels; negative counts from the last. Default: 1; −1 for channels-last
    #[config(default = 1)]
    pub channel_axis: isize,
    /// Whether there is a factor γ. Default: true
    #[config(default = true)]
    pub scale: bool,
    /// Whether there is an offset β. Default: true
    #[config(default = true)]
    pub center: bool,
    /// How γ starts. Default: ones
    #[config(default = "Initializer::Ones")]
    pub gamma_initializer: Initializer,
    /// How β starts. Default: zeros
    #[config(default = "Initializer::Zeros")]
    pub beta_initializer: Initializer,
    /// Which variance the running variance follows. Default: unbiased, as PyTorch
    #[config(default = "RunningVariance::Unbiased")]
    pub running_variance: RunningVariance,
}

/// Batch normalization: γ (x − mean_c) / √(variance_c + ε) + β, with a mean and a variance for each channel.
///
/// On a training device (`device.autodiff()`) and unless frozen, the statistics are those of the batch and the running ones
/// move toward them; else the running statistics are used. NaN in x passes on, into the running statistics too. Fields and
/// records are those of Burn's own layer.
///
/// Source: S. Ioffe, C. Szegedy, *Batch Normalization*, 2015; defaults as `torch.nn.BatchNorm*d` of PyTorch 2.
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
    /// The weight of the batch in the running statistics.
    pub momentum: f64,
    /// ε inside the root.
    pub epsilon: f64,
    /// The axis of the channels.
    pub channel_axis: isize,
    /// Which variance the running variance follows.
    #[module(skip)]
    pub running_variance: RunningVariance,
}

impl ModuleDisplay for BatchNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_features", &self.num_features())
            .add("momentum", &self.momentum)
            .add("epsilon", &self.epsilon)
            .add("channel_axis", &(self.channel_axis as i64))
            .optional()
    }
}

impl BatchNormConfig {
    /// The layer, with γ = 1 and β = 0 unless they start otherwise, running mean 0 and running variance 1.
    ///
    /// # Panics
    /// If there are no channels, ε is not positive and finite, or momentum is not in \[0, 1\].
    pub fn init(&self, device: &Device) -> BatchNorm {
        check_epsilon(self.epsilon);
        assert!(self.num_features > 0, "num_features is 0; batch normalization needs at least 1 channel");
        assert!((0.0..=1.0).contains(&self.momentum), "momentum is {}; it must be between 0 and 1", self.momentum);
        let (wanted, initializers) = ([self.scale, self.center], [&self.gamma_initializer, &self.beta_initializer]);
        let [gamma, beta] = parameters(self.num_features, wanted, initializers, device);
        BatchNorm {
            gamma,
            beta,
            training: Param::from_bool(true),
            running_mean: RunningState::new(Tensor::zeros([self.num_features], device)),
            running_var: RunningState::new(Tensor::ones([self.num_features], device)),
            momentum: self.momentum,
            epsilon: self.epsilon,
            channel_axis: self.channel_axis,
            running_variance: self.running_variance,
        }
    }
}

impl BatchNorm {
    /// Normalizes x of any rank ≥ 2 whose channel axis has `num_features` channels.
    ///
    /// # Panics
    /// If x has no such channel axis or another number of channels, or one value per channel in training.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        if x.device().is_autodiff() && self.training.is_enabled() {
            return self.forward_with_statistics(x).0;
        }
        let device = x.device();
        let statistic = |state: &RunningState<Tensor<1>>| state.value().to_device(&device);
        let (mean, variance) = (statistic(&self.running_mean), statistic(&self.running_var));
        normalize_fixed(&self.kind(), x, value(&self.gamma), value(&self.beta), mean, variance, self.epsilon)
    }

    /// Normalizes with the batch's statistics, moves the running ones, and returns (y, mean, biased variance of the batch).
    ///
    /// # Panics
    /// As [`BatchNorm::forward`].
    pub fn forward_with_statistics<const D: usize>(&self, x: Tensor<D>) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
        let (device, shape) = (x.device(), x.dims());
        if let Err(error) = self.kind().roles(&shape, true) {
            panic!("{error}");
        }
        let values = shape.iter().product::<usize>() as f64 / self.num_features() as f64;
        if values == 1.0 {
            panic!("{}", Error::OneValue { layer: Batch::NAME, shape: shape.to_vec() });
        }
        let Normalized { y, mean, variance } =
            normalize(&self.kind(), x, value(&self.gamma), value(&self.beta), self.epsilon);
        let correction = match self.running_variance {
            RunningVariance::Unbiased => values / (values - 1.0),
            RunningVariance::Biased => 1.0,
        };
        for (state, batch) in
            [(&self.running_mean, mean.clone()), (&self.running_var, variance.clone().mul_scalar(correction))]
        {
            let running = state.value_sync().to_device(&device);
            let batch = batch.cast(running.dtype());
            let moved = running.mul_scalar(1.0 - self.momentum).add(batch.mul_scalar(self.momentum));
            state.update(moved.detach());
        }
        (y, mean, variance)
    }

    fn num_features(&self) -> usize {
        self.running_mean.value().dims()[0]
    }

    fn kind(&self) -> Batch {
        Batch { channels: self.num_features(), channel_axis: self.channel_axis }
    }
}
