//! Layer normalization, y = γ (x − mean_n) / √(variance_n + ε) + β over the features of each
//! sample, and RMS normalization, y = γ x / √(mean(x²) + ε).

use candle_core::{Result, Shape, Tensor};
use candle_nn::{LayerNormConfig, Module, VarBuilder};
use cellnorm::norms::{Features, Layer, OverFeatures, Rms};
use cellnorm::rule::NormConfig;
use cellnorm::{Activation, Mask, OneValue, Semantics, shape::Excluded};

use super::RuleNorm;

/// Layer normalization over the last axes, those of the weight: γ (x − mean_n) / √(variance_n +
/// ε) + β.
///
/// The constructors are candle-nn's, and so are the names that [`layer_norm`] looks for. The weight
/// may have more than one axis, as PyTorch's `normalized_shape`;
/// [`with_features`](Self::with_features) takes any axes.
///
/// `forward` takes f32, f64, f16 and bf16 of any strides, beside parameters of any of these types.
/// It refuses NaN and infinity in x, parameters that are not of the shape of the features, and,
/// where a gradient is wanted, one value a statistic: see [`with_one_value`](Self::with_one_value).
/// Without samples, y and dx are empty and the gradients of γ and β are 0.
///
/// Source: J. L. Ba, J. R. Kiros, G. E. Hinton, *Layer Normalization*, 2016; interface of candle-nn
/// 0.11.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use candle_nn::Module;
/// use cellnorm_candle::LayerNorm;
/// let x = Var::new(&[[1f32, 2., 3.], [9., 8., 7.]], &Device::Cpu)?;
/// let weight = Var::new(&[1f32, 1., 1.], &Device::Cpu)?;
/// let bias = Var::new(&[0f32, 0., 0.], &Device::Cpu)?;
/// let layer = LayerNorm::new(weight.as_tensor().clone(), bias.as_tensor().clone(), 1e-5);
/// let y = layer.forward(&x)?;
/// let gradients = (y * x.sin()?)?.sum_all()?.backward()?;
/// // candle-nn: dx through sin alone, and no gradient of the weight
/// assert!(gradients.get(&x).is_some() && gradients.get(&weight).is_some());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum LayerNorm {
    /// Values are measured from their mean.
    Mean(RuleNorm<Layer, false>),
    /// Values are measured from zero: RMS normalization.
    Zero(RmsNorm),
}

/// RMS normalization over the last axes, those of the weight: γ x / √(mean(x²) + ε). `forward`
/// takes and refuses the same as [`LayerNorm`]'s, except that one value is fine.
///
/// Source: B. Zhang, R. Sennrich, *Root Mean Square Layer Normalization*, 2019; interface of
/// candle-nn 0.11.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::Module;
/// use cellnorm_candle::RmsNorm;
/// let layer = RmsNorm::new(Tensor::ones(4, DType::F64, &Device::Cpu)?, 1e-12);
/// let y = layer.forward(&Tensor::new(&[[3f64, 4., 0., 0.]], &Device::Cpu)?)?;
/// assert!((y.to_vec2::<f64>()?[0][1] - 1.6).abs() < 1e-9);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub type RmsNorm = RuleNorm<Rms, false>;

/// Runs `$body` with `$norm` as the layer about the mean or about zero; with `wrap`, a
/// [`LayerNorm`] of the result.
macro_rules! either {
    ($layer:expr, $norm:ident => $body:expr) => {
        match $layer {
            LayerNorm::Mean($norm) => $body,
            LayerNorm::Zero($norm) => $body,
        }
    };
    ($layer:expr, $norm:ident => wrap $body:expr) => {
        match $layer {
            LayerNorm::Mean($norm) => LayerNorm::Mean($body),
            LayerNorm::Zero($norm) => LayerNorm::Zero($body),
        }
    };
}

impl<R: OverFeatures + 'static> RuleNorm<R, false> {
    fn over_last(weight: Tensor, bias: Option<Tensor>, eps: f64) -> Self {
        let features = Features::Last(weight.dims().to_vec());
        // `forward` refuses a weight without axes
        let layer = Self::new_affine(Features::Last(vec![1]).into(), Some(weight), bias, eps);
        layer.expect("one axis is sound").with_features(features)
    }

    fn over_last_from_builder(size: Shape, bias: bool, eps: f64, vb: &VarBuilder) -> Result<Self> {
        let layer = Self::from_builder(NormConfig::<R>::new(size.dims()).center(bias), vb)?;
        Ok(layer.with_eps(eps).with_features(Features::Last(size.into_dims())))
    }

    /// The factor γ.
    pub fn weight(&self) -> &Tensor {
        self.parameter("gamma").expect("the constructors take γ")
    }

    /// The offset β.
    pub fn bias(&self) -> Option<&Tensor> {
        self.parameter("beta")
    }
}

impl LayerNorm {
    /// γ, β and ε.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self::Mean(RuleNorm::over_last(weight, Some(bias), eps))
    }

    /// γ and ε, without β.
    pub fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self::Mean(RuleNorm::over_last(weight, None, eps))
    }

    /// RMS normalization, γ x / √(mean(x²) + ε): about zero instead of the mean, without β.
    pub fn rms_norm(weight: Tensor, eps: f64) -> Self {
        Self::Zero(RmsNorm::new(weight, eps))
    }

    /// See [`RuleNorm::with_features`].
    pub fn with_features(self, features: Features) -> Self {
        either!(self, norm => wrap norm.with_features(features))
    }

    /// See [`RuleNorm::with_activation`].
    pub fn with_activation(self, activation: Activation) -> Self {
        either!(self, norm => wrap norm.with_activation(activation))
    }

    /// See [`RuleNorm::with_frozen`], which has the same errors.
    pub fn with_frozen(self, name: &str) -> Result<Self> {
        Ok(either!(self, norm => wrap norm.with_frozen(name)?))
    }

    /// See [`RuleNorm::with_excluded`].
    pub fn with_excluded(self, excluded: Excluded) -> Self {
        either!(self, norm => wrap norm.with_excluded(excluded))
    }

    /// See [`RuleNorm::with_semantics`], which has the same errors.
    pub fn with_semantics(self, semantics: &Semantics) -> Result<Self> {
        Ok(either!(self, norm => wrap norm.with_semantics(semantics)?))
    }

    /// See [`RuleNorm::with_one_value`], which has the same errors.
    pub fn with_one_value(self, policy: OneValue) -> Result<Self> {
        Ok(either!(self, norm => wrap norm.with_one_value(policy)?))
    }

    /// The factor γ.
    pub fn weight(&self) -> &Tensor {
        either!(self, norm => norm.weight())
    }

    /// The offset β.
    pub fn bias(&self) -> Option<&Tensor> {
        either!(self, norm => norm.bias())
    }

    /// ε, added to the variance inside the root.
    pub fn eps(&self) -> f64 {
        either!(self, norm => norm.eps())
    }

    /// Whether values are measured from their mean; else this is RMS normalization.
    pub fn remove_mean(&self) -> bool {
        matches!(self, Self::Mean(_))
    }

    /// See [`RuleNorm::forward_masked`], which has the same errors.
    pub fn forward_masked(&self, x: &Tensor, mask: &Mask) -> Result<Tensor> {
        either!(self, norm => norm.forward_masked(x, mask))
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        either!(self, norm => norm.forward(x))
    }
}

impl RuleNorm<Rms, false> {
    /// γ and ε.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self::over_last(weight, None, eps)
    }

    /// This layer as a [`LayerNorm`] about zero.
    pub fn into_inner(self) -> LayerNorm {
        LayerNorm::Zero(self)
    }

    /// Same as `forward`, with the same errors: here `forward` has a gradient, too; candle-nn's has
    /// not.
    pub fn forward_diff(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }
}

/// A layer from `weight` and `bias`, or `gamma` and `beta` where those are there; γ starts as 1, β
/// as 0. `config` is ε, or candle-nn's config, where `affine: false` leaves out β alone.
///
/// # Errors
/// If the builder lacks them or has another shape.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{VarBuilder, VarMap};
/// let variables = VarMap::new();
/// let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
/// let layer = cellnorm_candle::layer_norm(768, 1e-5, vb.pp("norm"))?;
/// assert!(variables.data().lock().unwrap().contains_key("norm.bias"));
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn layer_norm<C: Into<LayerNormConfig>>(
    size: impl Into<Shape>,
    config: C,
    vb: VarBuilder,
) -> Result<LayerNorm> {
    let (size, LayerNormConfig { eps, remove_mean, affine }) = (size.into(), config.into());
    Ok(match remove_mean {
        true => LayerNorm::Mean(RuleNorm::over_last_from_builder(size, affine, eps, &vb)?),
        false => LayerNorm::Zero(RuleNorm::over_last_from_builder(size, affine, eps, &vb)?),
    })
}

/// [`layer_norm`] without β, with the same errors.
pub fn layer_norm_no_bias(size: impl Into<Shape>, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    layer_norm(size, LayerNormConfig { eps, remove_mean: true, affine: false }, vb)
}

/// A layer from `weight`, or `gamma` where that is there, which starts as 1.
///
/// # Errors
/// If the builder lacks it or has another shape.
pub fn rms_norm(size: impl Into<Shape>, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    RuleNorm::over_last_from_builder(size.into(), false, eps, &vb)
}
