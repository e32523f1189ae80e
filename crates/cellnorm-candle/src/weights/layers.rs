//! Candle's layers with a weight that is normalized.

use candle_core::{Result, Shape, Tensor};
use candle_nn::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose1d, ConvTranspose1dConfig,
    ConvTranspose2d, ConvTranspose2dConfig, Init, Linear, Module, VarBuilder,
};

use super::WeightNorm;

/// A layer of Candle's that has a weight and perhaps a bias.
pub trait Weighted: Module {
    /// What it says besides.
    type Config: Copy + std::fmt::Debug;

    /// The axis of the outputs in the weight.
    const OUTPUTS: usize;

    /// The layer with this weight and bias.
    fn of(weight: Tensor, bias: Option<Tensor>, config: Self::Config) -> Self;

    /// Its weight, its bias and what it says besides.
    fn parts(&self) -> (&Tensor, Option<&Tensor>, Self::Config);

    /// The number of outputs of a weight of this shape.
    fn outputs(shape: &Shape, _config: Self::Config) -> Result<usize> {
        shape
            .dims()
            .get(Self::OUTPUTS)
            .copied()
            .ok_or_else(|| candle_core::Error::msg("the weight has too few axes"))
    }
}

macro_rules! weighted {
    ($($layer:ident: $config:ty, $outputs:literal, $new:expr, $own:expr $(, $groups:ident)?;)*) => {$(
        impl Weighted for $layer {
            type Config = $config;
            const OUTPUTS: usize = $outputs;

            fn of(weight: Tensor, bias: Option<Tensor>, config: $config) -> Self {
                $new(weight, bias, config)
            }

            fn parts(&self) -> (&Tensor, Option<&Tensor>, $config) {
                (self.weight(), self.bias(), $own(self))
            }
            $(
                fn outputs(shape: &Shape, config: $config) -> Result<usize> {
                    Ok(shape.dims().get($outputs).copied().unwrap_or(0) * config.$groups)
                }
            )?
        }
    )*};
}

weighted! {
    Linear: (), 0, |weight, bias, ()| Linear::new(weight, bias), |_: &Linear| ();
    Conv1d: Conv1dConfig, 0, Conv1d::new, |layer: &Conv1d| *layer.config();
    Conv2d: Conv2dConfig, 0, Conv2d::new, |layer: &Conv2d| *layer.config();
    ConvTranspose1d: ConvTranspose1dConfig, 1, ConvTranspose1d::new, |layer: &ConvTranspose1d| *layer.config(), groups;
    ConvTranspose2d: ConvTranspose2dConfig, 1, ConvTranspose2d::new, |layer: &ConvTranspose2d| *layer.config();
}

/// A layer of Candle's whose weight is normalized at every use.
#[derive(Clone, Debug)]
pub struct WeightNormed<L: Weighted> {
    norm: WeightNorm,
    bias: Option<Tensor>,
    config: L::Config,
}

impl<L: Weighted> WeightNormed<L> {
    /// Of the weight, the bias and the layer's config: `()` for a linear one.
    pub fn new(norm: WeightNorm, bias: Option<Tensor>, config: L::Config) -> Self {
        Self { norm, bias, config }
    }

    /// Of a layer as it is: nothing changes at first, and g and v are new variables. The norms are
    /// of axis 0, as in PyTorch.
    ///
    /// # Errors
    /// If the weight holds NaN or infinity.
    pub fn of_layer(layer: &L) -> Result<Self> {
        let (weight, bias, config) = layer.parts();
        Ok(Self::new(WeightNorm::of_weight(weight, Some(0))?, bias.cloned(), config))
    }

    /// From a builder, with the weight's shape: `(outputs, inputs)` for a linear layer, `(outputs,
    /// inputs / groups, taps…)` for a convolution, `(inputs, outputs / groups, taps…)` for a
    /// transposed one. The norms are of axis 0, as in PyTorch. Where nothing is there yet, the
    /// weight starts by Kaiming's rule and the bias uniform in ±1/√(weights of an output).
    ///
    /// # Errors
    /// If the builder has other shapes.
    pub fn from_builder(
        shape: impl Into<Shape>,
        bias: bool,
        config: L::Config,
        vb: VarBuilder,
    ) -> Result<Self> {
        let shape = shape.into();
        let norm = WeightNorm::from_builder(shape.clone(), Some(0), &vb)?;
        let outputs = L::outputs(&shape, config)?;
        let up = 1.0 / (shape.elem_count() as f64 / outputs.max(1) as f64).sqrt();
        let bias = bias.then(|| vb.get_with_hints(outputs, "bias", Init::Uniform { lo: -up, up }));
        Ok(Self::new(norm, bias.transpose()?, config))
    }

    /// The layer with the weight as it is now; as long as it is used alone, g and v still get their
    /// gradients.
    ///
    /// # Errors
    /// If g or v holds NaN or infinity.
    pub fn plain(&self) -> Result<L> {
        Ok(L::of(self.norm.weight()?, self.bias.clone(), self.config))
    }

    /// The weight.
    pub fn weight_norm(&self) -> &WeightNorm {
        &self.norm
    }

    /// The bias.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl<L: Weighted> Module for WeightNormed<L> {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.plain()?.forward(x)
    }
}
