//! Group normalization for Burn.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use cellnorm::GroupParameters;
use cellnorm::norms::Kind;

use super::{check_epsilon, further_forwards, parameters, semantics, value};
use crate::functions::normalize;
use crate::norms::Group;

/// Makes a [`GroupNorm`].
#[derive(Config, Debug)]
pub struct GroupNormConfig {
    /// The number of groups; it divides the channels.
    pub num_groups: usize,
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
    /// What γ and β belong to: channels, or groups as in MXNet 1.9. Default: channels
    #[config(default = "GroupParameters::PerChannel")]
    pub parameters: GroupParameters,
    /// How γ starts. Default: ones
    #[config(default = "Initializer::Ones")]
    pub gamma_initializer: Initializer,
    /// How β starts. Default: zeros
    #[config(default = "Initializer::Zeros")]
    pub beta_initializer: Initializer,
}

/// Group normalization: γ (x − mean_{n,g}) / √(variance_{n,g} + ε) + β, with a mean and a variance
/// for each group of neighbouring channels of each sample.
///
/// Source: Y. Wu, K. He, *Group Normalization*, 2018; defaults as `torch.nn.GroupNorm` of
/// PyTorch 2.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::GroupNormConfig;
/// let device = Device::flex();
/// let layer = GroupNormConfig::new(5, 10).init(&device);
/// let y = layer.forward(Tensor::<4>::random([2, 10, 6, 6], Distribution::Default, &device));
/// assert!(y.slice([0..1, 0..2]).mean().into_scalar::<f32>().abs() < 1e-5);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct GroupNorm {
    /// The factor of each channel, `[num_channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// The offset of each channel, `[num_channels]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// The number of groups.
    pub num_groups: usize,
    /// The number of channels.
    pub num_channels: usize,
    /// ε inside the root.
    pub epsilon: f64,
    /// The axis of the channels.
    pub channel_axis: isize,
    /// What γ and β belong to.
    #[module(skip)]
    pub parameters: GroupParameters,
}

impl ModuleDisplay for GroupNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("num_groups", &self.num_groups)
            .add("num_channels", &self.num_channels)
            .add("epsilon", &self.epsilon)
            .add("channel_axis", &(self.channel_axis as i64))
            .optional()
    }
}

impl GroupNormConfig {
    semantics!(epsilon, scale, center, channel_axis; parameters = group_parameters);

    /// The layer, with γ = 1 and β = 0 unless they start otherwise.
    ///
    /// # Panics
    /// If the groups do not divide the channels, or ε is not positive and finite.
    pub fn init(&self, device: &Device) -> GroupNorm {
        check_epsilon(self.epsilon);
        let len = match self.parameters {
            GroupParameters::PerChannel => self.num_channels,
            GroupParameters::PerGroup => self.num_groups,
        };
        let (wanted, initializers) =
            ([self.scale, self.center], [&self.gamma_initializer, &self.beta_initializer]);
        let [gamma, beta] = parameters(len, wanted, initializers, device);
        let layer = GroupNorm {
            gamma,
            beta,
            num_groups: self.num_groups,
            num_channels: self.num_channels,
            epsilon: self.epsilon,
            channel_axis: self.channel_axis,
            parameters: self.parameters,
        };
        if let Err(error) = layer.kind().check() {
            panic!("{error}");
        }
        layer
    }
}

impl GroupNorm {
    /// Normalizes x of any rank ≥ 2 whose channel axis has `num_channels` channels.
    ///
    /// # Panics
    /// If x has no such channel axis or another number of channels.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        normalize(&self.kind(), x, value(&self.gamma), value(&self.beta), self.epsilon).y
    }

    further_forwards!();

    fn kind(&self) -> Group {
        let (groups, channels, channel_axis) =
            (self.num_groups, self.num_channels, self.channel_axis);
        Group { groups, channels, channel_axis, parameters: self.parameters }
    }
}
