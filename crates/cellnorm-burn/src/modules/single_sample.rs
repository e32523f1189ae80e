//! The layers of single samples, the same in training and in inference: layer, instance, group and
//! RMS normalization.

use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};
use cellnorm::rule::{NormConfig, Rule};
use cellnorm::semantics::GroupParameters;
use cellnorm::shape::Excluded;
use cellnorm::{Mode, OneValue, Semantics, norms};

use super::{display, forwards, frozen, mode_on, parameters, value};
use crate::apply::Call;

/// Which axes share statistics, and how γ and β, always one-dimensional, lie on them.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum Features {
    /// The last axis, `d_model` long; a parameter for each element.
    Last,
    /// These axes, with these lengths in the tensor's order; a parameter for each element,
    /// row-major.
    Axes {
        /// The axes; negative counts from the last.
        axes: Vec<isize>,
        /// Their lengths; the product is `d_model`.
        lengths: Vec<usize>,
    },
    /// All axes but the samples'; a parameter for each of the `d_model` channels.
    PerChannel {
        /// The axis of the channels; negative counts from the last.
        channel_axis: isize,
    },
}

impl Features {
    fn rule(&self, d_model: usize) -> norms::Features {
        match self {
            Self::Last => norms::Features::Last(vec![d_model]),
            Self::Axes { axes, lengths } => norms::Features::Axes(axes.clone(), lengths.clone()),
            Self::PerChannel { channel_axis } => {
                norms::Features::PerChannel { channels: d_model, axis: *channel_axis }
            }
        }
    }
}

/// Config and module of each layer. Fields: required ones, and those with a default, of which
/// `skip` leaves one out of records.
macro_rules! layers {
    ($(
        $(#[$doc:meta])*
        $layer:ident, $config:ident {
            $($(#[$required_doc:meta])* $required:ident: $required_type:ty,)*
        } {
            $($(#[$option_doc:meta])* $option:ident: $type:ty = $default:literal $($skip:ident)?,)*
        }
        center: $center:literal,
        rule: |$own:ident| -> $rule:ty { $make:expr },
        semantics: |$taking:ident, $semantics:ident| $take:expr,
        display: { $($shown:ident as $as:ty),* };
    )*) => {$(
        #[doc = concat!("Makes a [`", stringify!($layer), "`].")]
        #[derive(Config, Debug)]
        pub struct $config {
            $($(#[$required_doc])* pub $required: $required_type,)*
            /// ε, added to the variance inside the root. Default: 1e-5
            #[config(default = 1e-5)]
            pub epsilon: f64,
            $($(#[$option_doc])* #[config(default = $default)] pub $option: $type,)*
            /// The policy for one value a statistic, as that of an instance normalization of images
            /// of one pixel. Default: an error in training (`device.autodiff()`), β in inference
            #[config(default = "OneValue::Error")]
            pub one_value: OneValue,
            /// The treatment of values that a mask excludes. Default: y and dx are 0 there
            #[config(default = "Excluded::Zero")]
            pub excluded: Excluded,
            /// Whether there is a trained factor γ. Default: true
            #[config(default = true)]
            pub scale: bool,
            #[doc = concat!("Whether there is a trained offset β. Default: ", stringify!($center))]
            #[config(default = $center)]
            pub center: bool,
            /// Whether a γ that is not wanted by `scale` is there all the same, applied and
            /// without gradient, as with MXNet's `scale=False`. Default: false
            #[config(default = false)]
            pub frozen_gamma: bool,
            /// Whether a β that is not wanted by `center` is there all the same, applied and
            /// without gradient. Default: false
            #[config(default = false)]
            pub frozen_beta: bool,
            /// How γ starts. Default: ones
            #[config(default = "Initializer::Ones")]
            pub gamma_initializer: Initializer,
            /// How β starts. Default: zeros
            #[config(default = "Initializer::Zeros")]
            pub beta_initializer: Initializer,
        }

        $(#[$doc])*
        #[derive(Module, Debug)]
        #[module(custom_display)]
        pub struct $layer {
            /// The factor γ, flat.
            pub gamma: Option<Param<Tensor<1>>>,
            /// The offset β, flat.
            pub beta: Option<Param<Tensor<1>>>,
            $($(#[$required_doc])* pub $required: $required_type,)*
            /// ε inside the root.
            pub epsilon: f64,
            $($(#[$option_doc])* $(#[module($skip)])? pub $option: $type,)*
            /// The policy for one value a statistic.
            #[module(skip)]
            pub one_value: OneValue,
            /// The treatment of values that a mask excludes.
            #[module(skip)]
            pub excluded: Excluded,
        }

        display!($layer, |layer| { $($shown: layer.$shown as $as),* });

        impl $config {
            /// As a framework has it: ε, γ and β, the policy for one value, the treatment of values
            /// that a mask excludes, and where the layer has one the channel axis.
            pub fn with_semantics(mut self, semantics: &Semantics) -> Self {
                (self.epsilon, self.one_value) = (semantics.epsilon, semantics.one_value);
                (self.scale, self.center) = (semantics.scale, semantics.center);
                (self.frozen_gamma, self.frozen_beta) = frozen(semantics);
                self.excluded = semantics.excluded;
                let ($taking, $semantics) = (&mut self, semantics);
                $take;
                self
            }

            /// The layer, with γ = 1 and β = 0 unless they start otherwise.
            ///
            /// # Panics
            /// If ε is not finite and at least 1e-36, one value is to use running averages (there
            /// are none), or the other numbers are not sound; the message says what would be.
            pub fn init(&self, device: &Device) -> $layer {
                let mut layer = $layer {
                    gamma: None,
                    beta: None,
                    $($required: self.$required,)*
                    epsilon: self.epsilon,
                    $($option: self.$option.clone(),)*
                    one_value: self.one_value,
                    excluded: self.excluded,
                };
                let rule = layer.rule();
                let len = rule.parameters()[0].shape.iter().product();
                let config = NormConfig::custom(rule).epsilon(self.epsilon);
                let arrays = config.one_value(self.one_value).init();
                arrays.unwrap_or_else(|error| panic!("{error}"));
                let initializers = [&self.gamma_initializer, &self.beta_initializer];
                let trained = [self.scale, self.center];
                let frozen = [self.frozen_gamma, self.frozen_beta];
                [layer.gamma, layer.beta] =
                    parameters(len, trained, frozen, initializers, device);
                layer
            }
        }

        impl $layer {
            forwards!();

            fn call(&self, device: &Device) -> Call<'_, $rule> {
                let parameters = vec![("gamma", value(&self.gamma)), ("beta", value(&self.beta))];
                Call {
                    one_value: self.one_value,
                    excluded: self.excluded,
                    mode: mode_on(device, true, Mode::training()),
                    ..Call::new(self.rule(), self.epsilon, parameters)
                }
            }

            fn rule(&self) -> $rule {
                let $own = self;
                $make
            }
        }
    )*};
}

/// The layers over the features of a sample, with a number of parameters and a choice of axes.
macro_rules! over_features {
    ($($(#[$doc:meta])* $layer:ident, $config:ident, $rule:path, center: $center:literal;)*) => {
        layers! {$(
            $(#[$doc])*
            $layer, $config {
                /// The number of values of γ and of β: the length of the last axis, unless other
                /// features are chosen.
                d_model: usize,
            } {
                /// Which axes share statistics. Default: the last
                features: Features = "Features::Last" skip,
            }
            center: $center,
            rule: |layer| -> $rule { $rule(layer.features.rule(layer.d_model)) },
            semantics: |config, semantics| {
                if let Features::PerChannel { channel_axis } = &mut config.features {
                    *channel_axis = semantics.channel_axis;
                }
            },
            display: { d_model as usize, epsilon as f64 };
        )*}
        $(
            impl $config {
                /// Over any axes, of these lengths, with a parameter for each element.
                pub fn over(axes: &[isize], lengths: &[usize]) -> Self {
                    let d_model = lengths.iter().product();
                    let (axes, lengths) = (axes.to_vec(), lengths.to_vec());
                    Self::new(d_model).with_features(Features::Axes { axes, lengths })
                }

                /// Over all axes but the samples', with a parameter for each of the `channels`
                /// channels on axis 1.
                pub fn per_channel(channels: usize) -> Self {
                    Self::new(channels).with_features(Features::PerChannel { channel_axis: 1 })
                }
            }
        )*
    };
}

over_features! {
    /// Layer normalization: γ (x − mean_n) / √(variance_n + ε) + β, over the last axis, any
    /// axes, or all features of a sample.
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
    /// assert!([last, image, all].iter().all(|y| y.dims() == [2, 8, 6, 6]));
    /// ```
    LayerNorm, LayerNormConfig, norms::Layer, center: true;

    /// RMS normalization: γ x / √(mean(x²) + ε) + β, over the last axis, any axes, or all
    /// features of a sample.
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
    RmsNorm, RmsNormConfig, norms::Rms, center: false;
}

layers! {
    /// Instance normalization: γ (x − mean_{n,c}) / √(variance_{n,c} + ε) + β, with a mean and a
    /// variance for each channel of each sample.
    ///
    /// Source: D. Ulyanov, A. Vedaldi, V. Lempitsky, *Instance Normalization*, 2016; ε as
    /// `torch.nn.InstanceNorm*d` of PyTorch 2, with γ and β as Burn's own layer and TensorFlow
    /// Addons have them (PyTorch: `affine=True`).
    ///
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use cellnorm_burn::InstanceNormConfig;
    /// let device = Device::flex();
    /// let x = Tensor::<3>::random([2, 3, 9], Distribution::Default, &device);
    /// let y = InstanceNormConfig::new(3).init(&device).forward(x);
    /// assert!(y.slice([1..2, 2..3]).mean().into_scalar::<f32>().abs() < 1e-5);
    /// ```
    InstanceNorm, InstanceNormConfig {
        /// The number of channels.
        num_channels: usize,
    } {
        /// The axis of the channels; negative counts from the last. Default: 1; −1 for
        /// channels-last
        channel_axis: isize = 1,
    }
    center: true,
    rule: |layer| -> norms::Instance {
        norms::Instance { channels: layer.num_channels, channel_axis: layer.channel_axis }
    },
    semantics: |config, semantics| config.channel_axis = semantics.channel_axis,
    display: { num_channels as usize, epsilon as f64, channel_axis as i64 };

    /// Group normalization: γ (x − mean_{n,g}) / √(variance_{n,g} + ε) + β, with a mean and a
    /// variance for each group of neighbouring channels of each sample.
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
    GroupNorm, GroupNormConfig {
        /// The number of groups; it divides the channels.
        num_groups: usize,
        /// The number of channels.
        num_channels: usize,
    } {
        /// The axis of the channels; negative counts from the last. Default: 1; −1 for
        /// channels-last
        channel_axis: isize = 1,
        /// The owners of γ and β: channels, or groups as in MXNet 1.9. Default: channels
        parameters: GroupParameters = "GroupParameters::PerChannel" skip,
    }
    center: true,
    rule: |layer| -> norms::Group {
        norms::Group {
            groups: layer.num_groups,
            channels: layer.num_channels,
            channel_axis: layer.channel_axis,
            parameters: layer.parameters,
        }
    },
    semantics: |config, semantics| {
        (config.channel_axis, config.parameters) =
            (semantics.channel_axis, semantics.group_parameters);
    },
    display: {
        num_groups as usize, num_channels as usize, epsilon as f64, channel_axis as i64
    };
}
