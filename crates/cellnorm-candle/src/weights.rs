//! Weight normalization for Candle's convolutions and linear layers: w = g v / ‖v‖, so that length
//! and direction are trained apart.
//!
//! [`WeightNorm`] is the weight, made anew from g and v at every use; [`WeightNormed`] a layer of
//! Candle's with such a weight. Both read PyTorch's checkpoints by either of its names: `weight_g`
//! and `weight_v`, or `parametrizations.weight.original0` and `original1`.
//!
//! Transposed convolutions of one axis cannot train in Candle 0.11, with such a weight or a plain
//! one: `conv_transpose1d` has no gradient, and says so.
//!
//! Source: T. Salimans, D. P. Kingma, *Weight Normalization: A Simple Reparameterization to
//! Accelerate Training of Deep Neural Networks*, 2016. As `torch.nn.utils.weight_norm` and
//! `torch.nn.utils.parametrizations.weight_norm` of PyTorch 2.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::{Conv1d, Conv1dConfig, Module, VarBuilder, VarMap};
//! use cellnorm_candle::weights::WeightNormed;
//! let (variables, x) = (VarMap::new(), Tensor::randn(0f32, 1., (2, 4, 9), &Device::Cpu)?);
//! let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
//! let conv =
//!     WeightNormed::<Conv1d>::from_builder((8, 4, 3), true, Conv1dConfig::default(), vb)?;
//! let gradients = conv.forward(&x)?.sqr()?.sum_all()?.backward()?;
//! assert!(gradients.get(conv.weight_norm().g()).is_some());
//! let plain: Conv1d = conv.plain()?; // to ship
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Module, Result, Shape, Tensor, Var, shape::Dim};
use candle_nn::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose1d, ConvTranspose1dConfig,
    ConvTranspose2d, ConvTranspose2dConfig, Init, Linear, VarBuilder,
};
use cellnorm::weights::{WeightDirection, WeightNormConfig};
use ndarray::ArrayD;

use crate::numbers::{tensor, values, wrong};
use crate::ops::apply;

/// PyTorch's names of g and v, the newer and the older ones.
const NAMES: [[&str; 2]; 2] = [
    ["parametrizations.weight.original0", "parametrizations.weight.original1"],
    ["weight_g", "weight_v"],
];

/// A weight w = g v / ‖v‖, with a norm for each index of an axis, or one of all. A norm below 1e-6
/// counts as that.
#[derive(Clone, Debug)]
pub struct WeightNorm {
    g: Tensor,
    v: Tensor,
    axis: Option<usize>,
}

impl WeightNorm {
    /// The weight of g and v, with a norm for each index of this axis of v (PyTorch's `dim`, there
    /// 0 by default), or one of all.
    ///
    /// # Errors
    /// If v has no such axis, or g not one number for each of its indices.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use cellnorm_candle::weights::WeightNorm;
    /// let v = Tensor::new(&[[3f32, 4.], [0., 2.]], &Device::Cpu)?;
    /// let w = WeightNorm::new(Tensor::new(&[[10f32], [2.]], &Device::Cpu)?, v, Some(0))?;
    /// assert_eq!(w.weight()?.to_vec2::<f32>()?, [[6.0, 8.0], [0.0, 2.0]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn new(g: Tensor, v: Tensor, axis: Option<usize>) -> Result<Self> {
        let norm = Self { g, v, axis };
        let outputs = norm.outputs()?;
        if norm.g.elem_count() != outputs {
            candle_core::bail!(
                "g has the shape {:?}; for v of shape {:?} it must have {outputs} numbers, one \
                 for each norm",
                norm.g.dims(),
                norm.v.dims()
            )
        }
        Ok(norm)
    }

    /// A weight as it is: v is the weight and g its norms, so that nothing changes at first; both
    /// are new variables.
    ///
    /// # Errors
    /// If the weight has no such axis, is empty, or holds NaN or infinity.
    pub fn of_weight(weight: &Tensor, axis: Option<usize>) -> Result<Self> {
        let (v, g) = (weight.copy()?, norms(weight, axis)?);
        Self::new(Var::from_tensor(&g)?.into_inner(), Var::from_tensor(&v)?.into_inner(), axis)
    }

    /// From a builder with either of PyTorch's names. Where there are none, v is made, by Kaiming's
    /// rule, under the older names, and g as its norms.
    ///
    /// # Errors
    /// If the builder has another shape, or v no such axis.
    pub fn from_builder(
        shape: impl Into<Shape>,
        axis: Option<usize>,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let shape = shape.into();
        let found = NAMES.into_iter().find(|[g, _]| vb.contains_tensor(g));
        let [name_g, name_v] = found.unwrap_or(NAMES[1]);
        let v =
            vb.get_with_hints(shape.clone(), name_v, candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
        let g = vb.get_with_hints(norms_shape(&shape, axis)?, name_g, Init::Const(1.0))?;
        if found.is_none() {
            Var::from_tensor(&g)?.set(&norms(&v, axis)?)?;
        }
        Self::new(g, v, axis)
    }

    /// w, with gradients for g and v.
    ///
    /// # Errors
    /// If g or v holds NaN or infinity.
    pub fn weight(&self) -> Result<Tensor> {
        let direction = WeightDirection { axis: self.axis, outputs: self.outputs()? };
        let layer = WeightNormConfig::custom(direction).init().map_err(wrong)?;
        apply(layer, &self.v, &[("g", Some(self.g.flatten_all()?))], None, |_| Ok(()))
    }

    /// The lengths.
    pub fn g(&self) -> &Tensor {
        &self.g
    }

    /// The directions.
    pub fn v(&self) -> &Tensor {
        &self.v
    }

    fn outputs(&self) -> Result<usize> {
        self.axis.map_or(Ok(1), |axis| self.v.dim(axis))
    }
}

/// The shape of g as PyTorch has it: that of v with all axes but one 1, or no axes for one norm of
/// all.
fn norms_shape(shape: &Shape, axis: Option<usize>) -> Result<Shape> {
    let Some(axis) = axis else { return Ok(Shape::from(())) };
    let outputs = axis.to_index(shape, "weight normalization")?;
    let mut norms = vec![1; shape.rank()];
    norms[outputs] = shape.dims()[outputs];
    Ok(norms.into())
}

/// ‖v‖ of each part, in the shape of g.
fn norms(v: &Tensor, axis: Option<usize>) -> Result<Tensor> {
    let array = ArrayD::from_shape_vec(v.dims(), values(v, "weight normalization")?);
    let (array, axis_index) = (array.map_err(wrong)?, axis.map(|axis| axis as isize));
    let layer = WeightNormConfig::of_weight(array.view(), axis_index).map_err(wrong)?;
    let g = layer.parameter("g").into_iter().flatten().copied().collect();
    tensor(g, &norms_shape(v.shape(), axis)?, v.dtype(), v.device())
}

/// A layer of Candle's that has a weight and perhaps a bias.
pub trait Weighted: Module {
    /// Its settings besides.
    type Config: Copy + std::fmt::Debug;

    /// The axis of the outputs in the weight.
    const OUTPUTS: usize;

    /// The layer with this weight and bias.
    fn of(weight: Tensor, bias: Option<Tensor>, config: Self::Config) -> Self;

    /// Its weight, its bias and its settings.
    fn parts(&self) -> (&Tensor, Option<&Tensor>, Self::Config);

    /// The number of outputs of a weight of this shape.
    fn outputs(shape: &Shape, _config: Self::Config) -> Result<usize> {
        let outputs = shape.dims().get(Self::OUTPUTS).copied();
        outputs.ok_or_else(|| wrong("the weight has too few axes"))
    }
}

macro_rules! weighted {
    ($(
        $layer:ident: $config:ty, $outputs:literal, $new:expr, $own:expr $(, $groups:ident)?;
    )*) => {$(
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
    ConvTranspose1d: ConvTranspose1dConfig, 1, ConvTranspose1d::new,
        |layer: &ConvTranspose1d| *layer.config(), groups;
    ConvTranspose2d: ConvTranspose2dConfig, 1, ConvTranspose2d::new,
        |layer: &ConvTranspose2d| *layer.config();
}

/// A layer of Candle's whose weight is normalized at every use.
#[derive(Clone, Debug)]
pub struct WeightNormed<L: Weighted> {
    norm: WeightNorm,
    bias: Option<Tensor>,
    config: L::Config,
}

impl<L: Weighted> WeightNormed<L> {
    /// The layer of this weight, this bias and this config: `()` for a linear one.
    pub fn new(norm: WeightNorm, bias: Option<Tensor>, config: L::Config) -> Self {
        Self { norm, bias, config }
    }

    /// A layer as it is: nothing changes at first, and g and v are new variables. The norms are of
    /// axis 0, as in PyTorch.
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
