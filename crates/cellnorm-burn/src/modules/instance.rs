//! Instance normalization for Burn.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::{check_epsilon, further_forwards, parameters, semantics, value};
use crate::functions::normalize;
use crate::norms::Instance;

/// Makes an [`InstanceNorm`].
#[derive(Config, Debug)]
pub struct InstanceNormConfig {
    /// The number of channels.
    pub num_channels: usize,
    /// ε, added to the variance inside the root. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
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
}

/// Instance normalization: γ (x − mean_{n,c}) / √(variance_{n,c} + ε) + β, with a mean and a
/// variance for each channel of each sample.
///
/// Source: D. Ulyanov, A. Vedaldi, V. Lempitsky, *Instance Normalization*, 2016; ε as
/// `torch.nn.InstanceNorm*d` of PyTorch 2, with γ and β as Burn's own layer and TensorFlow Addons
/// have them (PyTorch: `affine=True`).
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::InstanceNormConfig;
/// let device = Device::flex();
/// let y = InstanceNormConfig::new(3).init(&device).forward(Tensor::<3>::random(
///     [2, 3, 9],
///     Distribution::Default,
///     &device,
/// ));
/// assert!(y.slice([1..2, 2..3]).mean().into_scalar::<f32>().abs() < 1e-5);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct InstanceNorm {
    /// The factor of each channel, `[num_channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// The offset of each channel, `[num_channels]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// The number of channels.
    pub num_channels: usize,
    /// ε inside the root.
    pub epsilon: f64,
    /// The axis of the channels.
    pub channel_axis: isize,
}

impl ModuleDisplay for InstanceNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_channels", &self.num_channels)
            .add("epsilon", &self.epsilon)
            .add("channel_axis", &(self.channel_axis as i64))
            .optional()
    }
}

impl InstanceNormConfig {
    semantics!(epsilon, scale, center, channel_axis);

    /// The layer, with γ = 1 and β = 0 unless they start otherwise.
    ///
    /// # Panics
    /// If ε is not positive and finite.
    pub fn init(&self, device: &Device) -> InstanceNorm {
        check_epsilon(self.epsilon);
        let (wanted, initializers) =
            ([self.scale, self.center], [&self.gamma_initializer, &self.beta_initializer]);
        let [gamma, beta] = parameters(self.num_channels, wanted, initializers, device);
        let (num_channels, epsilon, channel_axis) =
            (self.num_channels, self.epsilon, self.channel_axis);
        InstanceNorm { gamma, beta, num_channels, epsilon, channel_axis }
    }
}

impl InstanceNorm {
    /// Normalizes x of any rank ≥ 2 whose channel axis has `num_channels` channels.
    ///
    /// # Panics
    /// If x has no such channel axis or another number of channels.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        normalize(&self.kind(), x, value(&self.gamma), value(&self.beta), self.epsilon).y
    }

    further_forwards!();

    fn kind(&self) -> Instance {
        Instance { channels: self.num_channels, channel_axis: self.channel_axis }
    }
}
