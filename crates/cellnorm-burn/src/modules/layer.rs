//! Layer normalization for Burn.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::{Features, check_epsilon, further_forwards, parameters, semantics, value};
use crate::functions::normalize;
use crate::norms::Layer;

/// Makes a [`LayerNorm`].
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// The number of values of γ and of β: the length of the last axis, unless other features are
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

/// Layer normalization: γ (x − mean_n) / √(variance_n + ε) + β, over the last axis, any axes, or
/// all features of a sample.
///
/// Source: J. L. Ba, J. R. Kiros, G. E. Hinton, *Layer Normalization*, 2016; defaults as
/// `torch.nn.LayerNorm` of PyTorch 2.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use cellnorm_burn::LayerNormConfig;
/// let device = Device::flex();
/// let x = Tensor::<4>::random([2, 8, 6, 6], Distribution::Default, &device);
/// let last = LayerNormConfig::new(6).init(&device).forward(x.clone());
/// let image = LayerNormConfig::over(&[2, 3], &[6, 6]).init(&device).forward(x.clone());
/// let all = LayerNormConfig::per_channel(8).init(&device).forward(x);
/// assert_eq!(
///     (last.dims(), image.dims(), all.dims()),
///     ([2, 8, 6, 6], [2, 8, 6, 6], [2, 8, 6, 6])
/// );
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct LayerNorm {
    /// The factor, `[d_model]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// The offset, `[d_model]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// The number of values of γ and of β.
    pub d_model: usize,
    /// ε inside the root.
    pub epsilon: f64,
    /// Which axes share statistics.
    #[module(skip)]
    pub features: Features,
}

impl ModuleDisplay for LayerNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content.add("d_model", &self.d_model).add("epsilon", &self.epsilon).optional()
    }
}

impl LayerNormConfig {
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
    pub fn init(&self, device: &Device) -> LayerNorm {
        check_epsilon(self.epsilon);
        let (wanted, initializers) =
            ([self.scale, self.center], [&self.gamma_initializer, &self.beta_initializer]);
        let [gamma, beta] = parameters(self.d_model, wanted, initializers, device);
        let (d_model, epsilon, features) = (self.d_model, self.epsilon, self.features.clone());
        LayerNorm { gamma, beta, d_model, epsilon, features }
    }
}

impl LayerNorm {
    /// Normalizes x, whose axes are those the layer was made for.
    ///
    /// # Panics
    /// If they are not.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        normalize(&self.kind(), x, value(&self.gamma), value(&self.beta), self.epsilon).y
    }

    further_forwards!();

    fn kind(&self) -> Layer {
        Layer(self.features.kind(self.d_model))
    }
}
