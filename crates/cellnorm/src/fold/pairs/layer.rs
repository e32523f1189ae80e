//! A linear layer of a checkpoint: read, folded, and written back.

use ndarray::{ArrayD, IxDyn};

use super::{LayerKind, Norm, Pair, Side};
use crate::error::Error;
use crate::fold::{Folding, Kernel};
use crate::state::{Checkpoint, DType, Tensor};

/// A layer's weight and bias.
pub(super) struct Layer {
    pub name: String,
    pub kernel: Kernel,
    pub weight: Tensor,
    pub bias: Option<Tensor>,
}

impl Layer {
    /// Reads the layer of a pair.
    pub fn read(checkpoint: &Checkpoint, name: &str, pair: &Pair) -> Result<Self, Error> {
        let names = [weight_name(name), bias_name(name)];
        let weight = checkpoint.tensor(&names[0])?;
        let bias = checkpoint.shape(&names[1]).map(|_| checkpoint.tensor(&names[1])).transpose()?;
        let shape = weight.values.shape();
        let kernel = match (pair.kind, shape) {
            (LayerKind::Convolution, [_, _, _, ..]) => Kernel::convolution(shape, pair.groups)?,
            (LayerKind::TransposedConvolution, [_, _, _, ..]) => {
                Kernel::transposed_convolution(shape, pair.groups)?
            }
            (LayerKind::Linear, [outputs, inputs]) => Kernel::dense([*outputs, *inputs])?,
            (kind, _) => {
                let right = match kind {
                    LayerKind::Linear => "a linear layer has two axes",
                    _ => "a convolution has three or more",
                };
                let problem = format!("has the shape {shape:?}; that of {right}");
                return Err(Error::tensor(&names[0], problem));
            }
        };
        for (name, tensor) in names.iter().zip([Some(&weight), bias.as_ref()]) {
            let Some(tensor) = tensor else { continue };
            if !matches!(tensor.dtype, DType::F16 | DType::Bf16 | DType::F32 | DType::F64) {
                let problem = format!("is of type {:?}; only floats can be folded", tensor.dtype);
                return Err(Error::tensor(name, problem));
            }
            if let Some(value) = tensor.values.iter().find(|value| !value.is_finite()) {
                return Err(Error::tensor(name, format!("holds {value}; it must be finite")));
            }
        }
        if let Some(bias) = &bias
            && bias.values.shape() != [kernel.outputs()]
        {
            let (given, expected) = (bias.values.shape(), [kernel.outputs()]);
            let problem = format!("has the shape {given:?}; it must be {expected:?}");
            return Err(Error::tensor(&names[1], problem));
        }
        Ok(Self { name: name.to_owned(), kernel, weight, bias })
    }

    /// The layer with normalizations as part of it. Its numbers are not yet rounded.
    pub fn plus(&self, norms: &[Norm]) -> Result<Self, Error> {
        let mut folding = Folding::none(self.kernel);
        for norm in norms {
            let (needed, at) = match norm.side {
                Side::After => (self.kernel.outputs(), "outputs"),
                Side::Before => (self.kernel.inputs(), "inputs"),
            };
            if norm.map.channels() != needed {
                let channels = norm.map.channels();
                let problem = format!("has {needed} {at}, its normalization {channels} channels");
                return Err(Error::tensor(&self.name, problem));
            }
            folding = match norm.side {
                Side::After => folding.fold_after(&norm.map)?,
                Side::Before => folding.fold_before(&norm.map)?,
            };
        }
        let folded = folding.fold(&self.numbers(), self.bias_numbers().as_deref())?;
        let tensor = |shape: &[usize], values, dtype| {
            let values = ArrayD::from_shape_vec(IxDyn(shape), values);
            Tensor::new(values.expect("as many as before"), dtype)
        };
        let Tensor { values, dtype } = &self.weight;
        let bias_dtype = self.bias.as_ref().map_or(*dtype, |bias| bias.dtype);
        Ok(Self {
            name: self.name.clone(),
            kernel: self.kernel,
            weight: tensor(values.shape(), folded.weight, *dtype),
            bias: Some(tensor(&[self.kernel.outputs()], folded.bias, bias_dtype)),
        })
    }

    /// The weights in the order of memory.
    pub fn numbers(&self) -> Vec<f64> {
        self.weight.values.iter().copied().collect()
    }

    /// The bias, where there is one.
    pub fn bias_numbers(&self) -> Option<Vec<f64>> {
        self.bias.as_ref().map(|bias| bias.values.iter().copied().collect())
    }

    /// Puts the numbers, each rounded to its type.
    pub fn write(&self, checkpoint: &mut Checkpoint) -> Result<(), Error> {
        checkpoint.insert(&weight_name(&self.name), &self.weight)?;
        self.bias.as_ref().map_or(Ok(()), |bias| checkpoint.insert(&bias_name(&self.name), bias))
    }
}

/// The name of a layer's weight.
pub(super) fn weight_name(layer: &str) -> String {
    format!("{layer}.weight")
}

fn bias_name(layer: &str) -> String {
    format!("{layer}.bias")
}
