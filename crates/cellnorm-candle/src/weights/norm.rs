//! w = g v / ‖v‖ as a tensor of the trained g and v.

use candle_core::{Result, Shape, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use cellnorm::weights::{WeightDirection, WeightNormConfig};

use crate::numbers::{of_tensor, tensor, wrong};
use crate::ops::apply;

/// What PyTorch calls g and v, in its newer and in its older way.
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
    /// Of g and v, with a norm for each index of this axis of v (PyTorch's `dim`, 0 unless asked
    /// otherwise), or one of all.
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

    /// Of a weight as it is: v is the weight and g its norms, so that nothing changes at first;
    /// both are new variables.
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
        let g = vb.get_with_hints(of_norms(&shape, axis)?, name_g, Init::Const(1.0))?;
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
        let layer = WeightNormConfig::of(direction).init().map_err(wrong)?;
        apply(layer, &self.v, &[Some(self.g.flatten_all()?)], None, |_| Ok(()))
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
fn of_norms(shape: &Shape, axis: Option<usize>) -> Result<Shape> {
    let Some(axis) = axis else {
        return Ok(Shape::from(()));
    };
    let outputs = candle_core::shape::Dim::to_index(&axis, shape, "weight normalization")?;
    Ok(Shape::from(
        shape
            .dims()
            .iter()
            .enumerate()
            .map(|(i, len)| if i == outputs { *len } else { 1 })
            .collect::<Vec<_>>(),
    ))
}

/// ‖v‖ of each part, in the shape of g.
fn norms(v: &Tensor, axis: Option<usize>) -> Result<Tensor> {
    let values = ndarray::ArrayD::from_shape_vec(v.dims(), of_tensor(v, "weight normalization")?)
        .map_err(wrong)?;
    let layer = WeightNormConfig::of_weight(values.view(), axis.map(|axis| axis as isize))
        .map_err(wrong)?;
    let g = layer.parameter("g").into_iter().flatten().copied().collect();
    tensor(g, &of_norms(v.shape(), axis)?, v.dtype(), v.device())
}
