//! Layer normalization: y = γ (x − mean_n) / √(variance_n + ε) + β over the features of each
//! sample.

use candle_core::{Result, Shape, Tensor};
use candle_nn::{Init, LayerNormConfig, Module, VarBuilder};
use cellnorm::norms::{Features, Layer, Rms};
use cellnorm::tables::Mask;
use cellnorm::{About, Semantics};

use super::{Options, forward_masked};
use crate::ops::inferred;

/// Layer normalization over the last axes, those of the weight: γ (x − mean_n) / √(variance_n +
/// ε) + β.
///
/// The constructors are candle-nn's, and so are the names that [`layer_norm`] looks for. The weight
/// may have more than one axis, as PyTorch's `normalized_shape`;
/// [`with_features`](Self::with_features) takes any axes.
///
/// `forward` takes f32, f64, f16 and bf16 of any strides, beside parameters of any of these types.
/// It refuses NaN and infinity in x, parameters that are not of the shape of the features, and,
/// where a gradient is wanted, one value a statistic.
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
/// assert!(gradients.get(&x).is_some() && gradients.get(&weight).is_some()); // candle-nn: through sin alone, and none
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Option<Tensor>,
    remove_mean: bool,
    features: Features,
    options: Options,
}

impl LayerNorm {
    /// γ, β and ε.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self::of(weight, Some(bias), true, eps)
    }

    /// γ and ε, without β.
    pub fn new_no_bias(weight: Tensor, eps: f64) -> Self {
        Self::of(weight, None, true, eps)
    }

    /// RMS normalization, γ x / √(mean(x²) + ε): about zero instead of the mean, without β.
    pub fn rms_norm(weight: Tensor, eps: f64) -> Self {
        Self::of(weight, None, false, eps)
    }

    fn of(weight: Tensor, bias: Option<Tensor>, remove_mean: bool, eps: f64) -> Self {
        let features = Features::Last(weight.dims().to_vec());
        Self { weight, bias, remove_mean, features, options: Options::new(eps) }
    }

    /// Over other axes than the last ones: any, or all but the samples' with a parameter for each
    /// channel.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use candle_nn::Module;
    /// use cellnorm_candle::{LayerNorm, norms::Features};
    /// let images = Tensor::randn(0f32, 1., (2, 8, 6, 6), &Device::Cpu)?;
    /// let weight = Tensor::ones(8, DType::F32, &Device::Cpu)?;
    /// let layer = LayerNorm::new_no_bias(weight, 1e-5)
    ///     .with_features(Features::PerChannel { channels: 8, axis: 1 });
    /// assert!(layer.forward(&images)?.get(0)?.mean_all()?.to_scalar::<f32>()?.abs() < 1e-5);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_features(self, features: Features) -> Self {
        Self { features, ..self }
    }

    /// As a framework has it: ε, the channel axis of features with a parameter for each channel,
    /// and what one value a statistic does.
    ///
    /// # Errors
    /// If the semantics are those of another layer, or cannot be had here.
    pub fn with_semantics(mut self, semantics: &Semantics) -> Result<Self> {
        if self.remove_mean {
            let mut kind = Layer(self.features);
            self.options = Options::of_semantics(&mut kind, semantics)?;
            return Ok(Self { features: kind.0, ..self });
        }
        let mut kind = Rms(self.features);
        self.options = Options::of_semantics(&mut kind, semantics)?;
        Ok(Self { features: kind.0, ..self })
    }

    /// The factor γ.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The offset β.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// ε, added to the variance inside the root.
    pub fn eps(&self) -> f64 {
        self.options.epsilon
    }

    /// Whether values are measured from their mean; else this is RMS normalization.
    pub fn remove_mean(&self) -> bool {
        self.remove_mean
    }

    forward_masked!();

    fn run(&self, x: &Tensor, mask: Option<&Mask>) -> Result<Tensor> {
        let about = if self.remove_mean { About::Mean } else { About::Zero };
        if mask.is_none()
            && let Some(y) = inferred(
                about,
                &self.features,
                x,
                &self.weight,
                self.bias.as_ref(),
                self.options.epsilon,
            )
        {
            return Ok(y);
        }
        let (features, parameters) =
            (self.features.clone(), [Some(&self.weight), self.bias.as_ref()]);
        match self.remove_mean {
            true => self.options.normalize(Layer(features), x, parameters, mask),
            false => self.options.normalize(Rms(features), x, parameters, mask),
        }
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None)
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
    let (size, config) = (size.into(), config.into());
    let get = |names: [&'static str; 2], initial| {
        let name = names.into_iter().find(|name| vb.contains_tensor(name)).unwrap_or(names[0]);
        vb.get_with_hints(size.clone(), name, Init::Const(initial))
    };
    let weight = get(["weight", "gamma"], 1.0)?;
    let bias = config.affine.then(|| get(["bias", "beta"], 0.0)).transpose()?;
    Ok(LayerNorm::of(weight, bias, config.remove_mean, config.eps))
}

/// As [`layer_norm`], without β.
///
/// # Errors
/// As [`layer_norm`].
pub fn layer_norm_no_bias(size: impl Into<Shape>, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    layer_norm(size, LayerNormConfig { eps, remove_mean: true, affine: false }, vb)
}
