//! RMS normalization: y = γ x / √(mean(x²) + ε) over the features of each sample.

use candle_core::{Result, Shape, Tensor};
use candle_nn::{LayerNormConfig, Module, VarBuilder};
use cellnorm::Semantics;
use cellnorm::tables::Mask;

use super::{LayerNorm, layer_norm};

/// RMS normalization over the last axes, those of the weight: γ x / √(mean(x²) + ε). What `forward`
/// takes and refuses is as for [`LayerNorm`], but one value is fine.
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
#[derive(Clone, Debug)]
pub struct RmsNorm(LayerNorm);

impl RmsNorm {
    /// γ and ε.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self(LayerNorm::rms_norm(weight, eps))
    }

    /// As a framework has it: ε, the channel axis of features with a parameter for each channel,
    /// and what one value a statistic does.
    ///
    /// # Errors
    /// If the semantics are those of another layer, or cannot be had here.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use cellnorm_candle::RmsNorm;
    /// use cellnorm_candle::cellnorm::{Normalization, Semantics};
    /// let pytorch = Semantics::preset("pytorch-2", Normalization::Rms).unwrap();
    /// let layer = RmsNorm::new(Tensor::ones(4, DType::F32, &Device::Cpu)?, 1e-5)
    ///     .with_semantics(&pytorch)?;
    /// assert_eq!(layer.eps(), f64::from(f32::EPSILON));
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_semantics(self, semantics: &Semantics) -> Result<Self> {
        self.0.with_semantics(semantics).map(Self)
    }

    /// The layer, about zero, that this one is.
    pub fn into_inner(self) -> LayerNorm {
        self.0
    }

    /// The factor γ.
    pub fn weight(&self) -> &Tensor {
        self.0.weight()
    }

    /// ε, added to the mean square inside the root.
    pub fn eps(&self) -> f64 {
        self.0.eps()
    }

    /// As `forward`, which has a gradient, too; candle-nn has not.
    ///
    /// # Errors
    /// As `forward`.
    pub fn forward_diff(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)
    }

    /// As `forward`, over the values alone that the mask says are valid: y and dx are 0 at the
    /// others, whatever x holds there.
    ///
    /// # Errors
    /// As `forward`, and if the mask does not fit x.
    pub fn forward_masked(&self, x: &Tensor, mask: &Mask) -> Result<Tensor> {
        self.0.forward_masked(x, mask)
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}

/// A layer from `weight`, or `gamma` where that is there, which starts as 1.
///
/// # Errors
/// If the builder lacks it or has another shape.
pub fn rms_norm(size: impl Into<Shape>, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    Ok(RmsNorm(layer_norm(size, LayerNormConfig { eps, remove_mean: false, affine: false }, vb)?))
}
