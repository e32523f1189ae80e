//! Tensors as NumPy's npz: a zip archive of npy files.
//!
//! An npy file is the magic `\x93NUMPY`, two bytes of version, the length of a header (2 bytes in version 1, else 4), the header
//! `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, and the values. (NumPy's documentation of `numpy.lib.format`.)

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::bytes::from_bytes;
use super::{DType, Tensor, Tensors};
use crate::error::Error;

const MAGIC: &[u8] = b"\x93NUMPY";
const TYPES: [(&str, DType); 6] = [
    ("f2", DType::F16),
    ("f4", DType::F32),
    ("f8", DType::F64),
    ("u1", DType::U8),
    ("i4", DType::I32),
    ("i8", DType::I64),
];

pub(super) fn decode(bytes: &[u8]) -> Result<Tensors, Error> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged("npz", error))?;
    let mut tensors = Tensors::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| damaged("npz", error))?;
        let file = entry.name().map_err(|error| damaged("npz", error))?.into_owned();
        let Some(name) = file.strip_suffix(".npy").map(str::to_owned) else { continue };
        let mut npy = Vec::new();
        entry.read_to_end(&mut npy).map_err(|error| damaged(&name, error))?;
        let tensor = parse(&name, &npy)?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

pub(super) fn encode(tensors: &Tensors) -> Result<Vec<u8>, Error> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, tensor) in tensors {
        let npy = npy(name, tensor)?;
        archive.start_file(format!("{name}.npy"), options).map_err(|error| damaged(name, error))?;
        archive.write_all(&npy).map_err(|error| damaged(name, error))?;
    }
    Ok(archive.finish().map_err(|error| damaged("npz", error))?.into_inner())
}

fn npy(name: &str, tensor: &Tensor) -> Result<Vec<u8>, Error> {
    let Some((descr, _)) = TYPES.iter().find(|(_, dtype)| *dtype == tensor.dtype) else {
        let problem = format!("is of type {:?}, which npz does not have; choose F32, or safetensors", tensor.dtype);
        return Err(Error::Tensor { name: name.into(), problem });
    };
    let shape: String = tensor.values.shape().iter().map(|len| format!("{len}, ")).collect();
    let mut header = format!("{{'descr': '<{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    // the values begin at a multiple of 64 bytes
    let padding = 63 - (MAGIC.len() + 4 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding).chain(['\n']));
    let length = (header.len() as u16).to_le_bytes();
    Ok([MAGIC, &[1, 0], &length, header.as_bytes(), &tensor.to_bytes(name)?].concat())
}

fn parse(name: &str, npy: &[u8]) -> Result<Tensor, Error> {
    let (header, data) = split(npy).ok_or_else(|| damaged(name, "not an npy file, or cut off"))?;
    let (descr, fortran, shape) =
        fields(header).ok_or_else(|| damaged(name, format!("a header that is not understood: {}", header.trim())))?;
    let (order, kind) = descr.split_at(1);
    let Some((_, dtype)) = TYPES.iter().find(|(theirs, _)| *theirs == kind) else {
        return Err(damaged(name, format!("has the type {descr}, which is not read here")));
    };
    let mut data = data.to_vec();
    if order == ">" {
        data.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
    }
    from_bytes(name, *dtype, &shape, fortran, &data)
}

/// The header and the values.
fn split(npy: &[u8]) -> Option<(&str, &[u8])> {
    let rest = npy.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = rest.split_at_checked(if version[0] == 1 { 2 } else { 4 })?;
    let length = length.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// The type with its byte order, whether the first axis is the fastest, and the shape.
fn fields(header: &str) -> Option<(&str, bool, Vec<usize>)> {
    let field = |key: &str| header.split_once(key)?.1.trim_start().strip_prefix(':').map(str::trim_start);
    let descr = field("'descr'")?.strip_prefix('\'')?.split_once('\'')?.0;
    let fortran = field("'fortran_order'")?.starts_with("True");
    let shape = field("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
    let lengths = shape.split(',').map(str::trim).filter(|length| !length.is_empty()).map(|length| length.parse().ok());
    let byte_order = descr.starts_with(['<', '>', '|', '=']);
    Some((descr, fortran, lengths.collect::<Option<_>>()?)).filter(|_| byte_order)
}

fn damaged(name: &str, problem: impl ToString) -> Error {
    Error::Tensor { name: name.into(), problem: problem.to_string() }
}
