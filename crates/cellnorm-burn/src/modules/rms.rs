//! RMS normalization for Burn.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::{Features, check_epsilon, further_forwards, parameters, semantics, value};
use crate::functions::normalize;
use crate::norms::Rms;

/// Makes a [`RmsNorm`].
#[derive(Config, Debug)]
pub struct RmsNormConfig {
    /// The number of values of γ, and of β: the length of the last axis, unless other features are
    /// chosen.
    pub d_model: usize,
    /// ε, added to the variance inside the root. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Which axes share statistics. Default: the last
    #[config(default = "Features::Last")]
    pub features: Features,
    /// Whether there is a factor γ. Default: true
    #[config(default = true)]
    pub scale: bool,
    /// Whether there is an offset β. Default: false
    #[config(default = false)]
    pub center: bool,
    /// How γ starts. Default: ones
    #[config(default = "Initializer::Ones")]
    pub gamma_initializer: Initializer,
    /// How β starts. Default: zeros
    #[config(default = "Initializer::Zeros")]
    pub beta_initializer: Initializer,
}

/// RMS normalization: γ x / √(mean(x²) + ε) + β, over the last axis, any axes, or all features of a
/// sample.
///
/// Source: B. Zhang, R. Sennrich, *Root Mean Square Layer Normalization*, 2019. ε is 1e-5 as in
/// Burn's own layer; `torch.nn.RMSNorm` of PyTorch 2 uses 1.19e-7 where none is given, Keras 3
/// 1e-6.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::RmsNormConfig;
/// let device = Device::flex();
/// let x = Tensor::<3>::random([2, 5, 64], Distribution::Default, &device);
/// let y = RmsNormConfig::new(64).init(&device).forward(x);
/// assert!((y.square().mean().into_scalar::<f32>() - 1.0).abs() < 1e-3);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct RmsNorm {
    /// The factor, `[d_model]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// The offset, `[d_model]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// The number of values of γ, and of β.
    pub d_model: usize,
    /// ε inside the root.
    pub epsilon: f64,
    /// Which axes share statistics.
    #[module(skip)]
    pub features: Features,
}

impl ModuleDisplay for RmsNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content.add("d_model", &self.d_model).add("epsilon", &self.epsilon).optional()
    }
}

impl RmsNormConfig {
    semantics!(epsilon, scale, center);

    /// Over any axes, of these lengths, with a parameter for each element.
    pub fn over(axes: &[isize], lengths: &[usize]) -> Self {
        let (d_model, features) = Features::over(axes, lengths);
        Self::new(d_model).with_features(features)
    }

    /// Over all axes but the samples', with a parameter for each of the `channels` channels on
    /// axis 1.
    pub fn per_channel(channels: usize) -> Self {
        Self::new(channels).with_features(Features::PerChannel { channel_axis: 1 })
    }

    /// The layer, with γ = 1 and β = 0 unless they start otherwise.
    ///
    /// # Panics
    /// If ε is not positive and finite.
    pub fn init(&self, device: &Device) -> RmsNorm {
        check_epsilon(self.epsilon);
        let (wanted, initializers) =
            ([self.scale, self.center], [&self.gamma_initializer, &self.beta_initializer]);
        let [gamma, beta] = parameters(self.d_model, wanted, initializers, device);
        let (d_model, epsilon, features) = (self.d_model, self.epsilon, self.features.clone());
        RmsNorm { gamma, beta, d_model, epsilon, features }
    }
}

impl RmsNorm {
    /// Normalizes x, whose axes are those the layer was made for.
    ///
    /// # Panics
    /// If they are not.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        normalize(&self.kind(), x, value(&self.gamma), value(&self.beta), self.epsilon).y
    }

    further_forwards!();

    fn kind(&self) -> Rms {
        Rms(self.features.kind(self.d_model))
    }
}
