//! Tensors as NumPy's npz: a zip archive of npy files.
//!
//! An npy file is the magic `\x93NUMPY`, two bytes of version, the length of a header (2 bytes in
//! version 1, else 4), the header `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`,
//! and the values. (NumPy's documentation of `numpy.lib.format`.)

use std::io::{Cursor, Read, Write};

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use safetensors::Dtype;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::Checkpoint;
use super::checkpoint::Stored;
use crate::error::Error;

const MAGIC: &[u8] = b"\x93NUMPY";
const TYPES: [(&str, Dtype); 12] = [
    ("f2", Dtype::F16),
    ("f4", Dtype::F32),
    ("f8", Dtype::F64),
    ("b1", Dtype::BOOL),
    ("u1", Dtype::U8),
    ("u2", Dtype::U16),
    ("u4", Dtype::U32),
    ("u8", Dtype::U64),
    ("i1", Dtype::I8),
    ("i2", Dtype::I16),
    ("i4", Dtype::I32),
    ("i8", Dtype::I64),
];

pub(super) fn decode(bytes: &[u8]) -> Result<Checkpoint, Error> {
    let mut archive =
        ZipArchive::new(Cursor::new(bytes)).map_err(|error| Error::tensor("npz", error))?;
    let mut checkpoint = Checkpoint::default();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| Error::tensor("npz", error))?;
        let file = entry.name().map_err(|error| Error::tensor("npz", error))?.into_owned();
        let Some(name) = file.strip_suffix(".npy").map(str::to_owned) else { continue };
        let mut npy = Vec::new();
        entry.read_to_end(&mut npy).map_err(|error| Error::tensor(&name, error))?;
        let stored = parse(&name, &npy)?;
        checkpoint.stored.insert(name, stored);
    }
    Ok(checkpoint)
}

pub(super) fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, Error> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, stored) in &checkpoint.stored {
        let npy = npy(name, stored)?;
        archive
            .start_file(format!("{name}.npy"), options)
            .map_err(|error| Error::tensor(name, error))?;
        archive.write_all(&npy).map_err(|error| Error::tensor(name, error))?;
    }
    Ok(archive.finish().map_err(|error| Error::tensor("npz", error))?.into_inner())
}

fn npy(name: &str, stored: &Stored) -> Result<Vec<u8>, Error> {
    let Some((descr, _)) = TYPES.iter().find(|(_, dtype)| *dtype == stored.dtype) else {
        let dtype = stored.dtype;
        let problem =
            format!("is of type {dtype}, which npz does not have; choose F32, or safetensors");
        return Err(Error::tensor(name, problem));
    };
    let shape: String = stored.shape.iter().map(|len| format!("{len}, ")).collect();
    // one byte has no order
    let order = if stored.dtype.bitsize() == 8 { '|' } else { '<' };
    let mut header = format!(
        "{{'descr': '{order}{descr}', 'fortran_order': False, 'shape': ({}), }}",
        shape.trim_end()
    );
    // the values begin at a multiple of 64 bytes
    let padding = 63 - (MAGIC.len() + 4 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding).chain(['\n']));
    let length = (header.len() as u16).to_le_bytes();
    Ok([MAGIC, &[1, 0], &length, header.as_bytes(), &stored.bytes].concat())
}

fn parse(name: &str, npy: &[u8]) -> Result<Stored, Error> {
    let (header, data) =
        split(npy).ok_or_else(|| Error::tensor(name, "not an npy file, or cut off"))?;
    let (descr, fortran, shape) = fields(header).ok_or_else(|| {
        Error::tensor(name, format!("a header that is not understood: {}", header.trim()))
    })?;
    let (order, kind) = descr.split_at(1);
    let Some((_, dtype)) = TYPES.iter().find(|(theirs, _)| *theirs == kind) else {
        return Err(Error::tensor(name, format!("has the type {descr}, which is not read here")));
    };
    let (mut data, size) = (data.to_vec(), dtype.bitsize() / 8);
    if order == ">" {
        data.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    let count = shape.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
    if count.and_then(|count| count.checked_mul(size)) != Some(data.len()) {
        let problem = format!("has {} bytes, which is not {shape:?} values of {dtype}", data.len());
        return Err(Error::tensor(name, problem));
    }
    if fortran {
        data = row_major(&shape, &data, size)
            .ok_or_else(|| Error::tensor(name, "has more values than can be counted"))?;
    }
    Ok(Stored { dtype: *dtype, shape, bytes: data })
}

/// Values whose first axis is the fastest, with the last one the fastest.
fn row_major(shape: &[usize], data: &[u8], size: usize) -> Option<Vec<u8>> {
    let values: Vec<&[u8]> = data.chunks_exact(size).collect();
    let values = ArrayD::from_shape_vec(IxDyn(shape).f(), values).ok()?;
    Some(values.iter().copied().flatten().copied().collect())
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
    let field =
        |key: &str| header.split_once(key)?.1.trim_start().strip_prefix(':').map(str::trim_start);
    let descr = field("'descr'")?.strip_prefix('\'')?.split_once('\'')?.0;
    let fortran = field("'fortran_order'")?.starts_with("True");
    let shape = field("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
    let lengths = shape
        .split(',')
        .map(str::trim)
        .filter(|length| !length.is_empty())
        .map(|length| length.parse().ok());
    let byte_order = descr.starts_with(['<', '>', '|', '=']);
    Some((descr, fortran, lengths.collect::<Option<_>>()?)).filter(|_| byte_order)
}
