//! Tensors as safetensors.

use safetensors::tensor::{SafeTensors, TensorView, serialize};

use super::Checkpoint;
use super::checkpoint::Stored;
use crate::error::Error;

pub(super) fn decode(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let stored = |(name, view): (String, TensorView<'_>)| {
        let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        (name, Stored { dtype, shape, bytes })
    };
    Ok(Checkpoint {
        metadata: header.metadata().clone().into_iter().flatten().collect(),
        stored: file.tensors().into_iter().map(stored).collect(),
    })
}

pub(super) fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, Error> {
    let views = checkpoint.stored.iter().map(|(name, stored)| {
        let view =
            TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes).map_err(damaged)?;
        Ok((name, view))
    });
    let metadata = &checkpoint.metadata;
    let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
    serialize(views.collect::<Result<Vec<_>, Error>>()?, metadata).map_err(damaged)
}

fn damaged(error: safetensors::SafeTensorError) -> Error {
    Error::tensor("safetensors", error)
}
