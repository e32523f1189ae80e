//! Tensors as safetensors.

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

use super::bytes::from_bytes;
use super::{DType, Tensors};
use crate::error::Error;

const TYPES: [(Dtype, DType); 7] = [
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::Bf16),
    (Dtype::F32, DType::F32),
    (Dtype::F64, DType::F64),
    (Dtype::U8, DType::U8),
    (Dtype::I32, DType::I32),
    (Dtype::I64, DType::I64),
];

pub(super) fn decode(bytes: &[u8]) -> Result<Tensors, Error> {
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let Some((_, dtype)) = TYPES.iter().find(|(theirs, _)| *theirs == view.dtype()) else {
            let problem = format!("has the type {:?}, which is not read here", view.dtype());
            return Err(Error::Tensor { name, problem });
        };
        let tensor = from_bytes(&name, *dtype, view.shape(), false, view.data())?;
        Ok((name, tensor))
    };
    file.tensors().into_iter().map(tensor).collect()
}

pub(super) fn encode(tensors: &Tensors) -> Result<Vec<u8>, Error> {
    let bytes = tensors.iter().map(|(name, tensor)| tensor.to_bytes(name)).collect::<Result<Vec<_>, _>>()?;
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        let (dtype, _) = TYPES.iter().find(|(_, ours)| *ours == tensor.dtype).expect("every type has its own");
        let view = TensorView::new(*dtype, tensor.values.shape().to_vec(), bytes).map_err(damaged)?;
        Ok((name, view))
    });
    serialize(views.collect::<Result<Vec<_>, Error>>()?, None).map_err(damaged)
}

fn damaged(error: safetensors::SafeTensorError) -> Error {
    Error::Tensor { name: "safetensors".into(), problem: error.to_string() }
}
