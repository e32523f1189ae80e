//! safetensors: a header in JSON, then the tensors' bytes, read where they lie.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata};

use super::array::{Array, Bytes};
use super::{Source, Stored, header::Header, npz::chosen};
use crate::{error::text, settings::Settings};

/// The longest header of the format.
const LONGEST: u64 = 100_000_000;

/// Opens one tensor of a file.
pub fn open(path: &Path, settings: &Settings) -> Result<Box<dyn Source>, String> {
    let mut file = File::open(path).map_err(text)?;
    let mut length = [0; 8];
    let cut = |_| "its header is cut off".to_owned();
    file.read_exact(&mut length).map_err(cut)?;
    let length = u64::from_le_bytes(length);
    let left = file.metadata().map_err(text)?.len().saturating_sub(8);
    if length > LONGEST.min(left) {
        return Err(format!(
            "it is no usable safetensors file: its header would have {length} bytes"
        ));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(cut)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|error| format!("its header is unusable: {error}"))?;
    let mut names = header.offset_keys();
    names.sort();
    let name = chosen(&names, &settings.key)?;
    let tensor = header.info(&name).ok_or("the header is contradictory")?;
    let stored = match tensor.dtype {
        Dtype::BOOL => Stored::Bool,
        Dtype::U8 => Stored::U8,
        Dtype::I8 => Stored::I8,
        Dtype::U16 => Stored::U16,
        Dtype::I16 => Stored::I16,
        Dtype::U32 => Stored::U32,
        Dtype::I32 => Stored::I32,
        Dtype::U64 => Stored::U64,
        Dtype::I64 => Stored::I64,
        Dtype::F16 => Stored::F16,
        Dtype::BF16 => Stored::Bf16,
        Dtype::F32 => Stored::F32,
        Dtype::F64 => Stored::F64,
        other => {
            return Err(format!(
                "{name:?} has elements of type {other:?}; numbers of 8 to 64 bits are needed"
            ));
        }
    };
    let shape = tensor.shape.iter().map(|length| *length as u64).collect();
    let start = 8 + length + tensor.data_offsets.0 as u64;
    Array::boxed(Bytes::File(file, start), Header { stored, big_endian: false, shape })
}
