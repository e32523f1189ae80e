//! PyTorch's checkpoints (`torch.save`): a pickle, of which nothing is run, and the tensors' bytes.

use std::path::Path;

use pytorch_reader::{DType, PytorchReader};
use safetensors::Dtype;

use super::Checkpoint;
use super::checkpoint::Stored;
use crate::error::Error;

pub(super) fn read(path: &Path) -> Result<Checkpoint, Error> {
    let failed = |problem: String| Error::File { path: path.display().to_string(), problem };
    let reader = PytorchReader::new(path).map_err(|error| failed(error.to_string()))?;
    if reader.is_empty() {
        return Err(failed("no tensor is in it; save model.state_dict()".into()));
    }
    let mut checkpoint = Checkpoint::default();
    for (name, tensor) in reader.into_tensors() {
        let bytes = tensor.read().map_err(|error| failed(error.to_string()))?;
        let stored = Stored { dtype: dtype(tensor.dtype()), shape: tensor.shape().to_vec(), bytes };
        checkpoint.stored.insert(name, stored);
    }
    Ok(checkpoint)
}

fn dtype(theirs: DType) -> Dtype {
    match theirs {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
