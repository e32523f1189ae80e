//! `.npy`: a header that says type, order and shape, then the numbers.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::Source;
use super::array::{Array, Bytes};
use super::numbers::Stored;

/// Opens a `.npy` file.
pub fn open(path: &Path) -> Result<Box<dyn Source>, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let about = header(&mut file)?;
    let start = file.stream_position().map_err(|error| error.to_string())?;
    Ok(Box::new(Array::new(Bytes::File(file, start), about.stored, about.big_endian, &about.shape)?))
}

/// The array that the bytes of a file are.
pub fn of_bytes(mut bytes: Vec<u8>) -> Result<Box<dyn Source>, String> {
    let mut rest = bytes.as_slice();
    let about = header(&mut rest)?;
    let start = bytes.len() - rest.len();
    bytes.drain(..start);
    Ok(Box::new(Array::new(Bytes::Memory(bytes), about.stored, about.big_endian, &about.shape)?))
}

/// What the header of an array says.
pub struct About {
    /// How its numbers are stored.
    pub stored: Stored,
    /// Whether their large end comes first.
    pub big_endian: bool,
    /// Its shape.
    pub shape: Vec<u64>,
}

/// The longest header that is read; NumPy itself warns above 10,000.
const LONGEST: u64 = 1 << 20;

/// Reads a header, and not more.
pub fn header(from: &mut impl Read) -> Result<About, String> {
    let header = NpyHeader::from_reader(from.by_ref().take(LONGEST));
    let header = header.map_err(|error| format!("its header cannot be read: {error}"))?;
    if header.order() == Order::Fortran && header.shape().len() > 1 {
        return Err("it is stored column by column; save np.ascontiguousarray of it".into());
    }
    let dtype = header.dtype();
    let DType::Plain(plain) = &dtype else {
        return Err(format!("it has elements of type {}; numbers are needed", dtype.descr()));
    };
    let stored = match (plain.type_char(), plain.size_field()) {
        (TypeChar::Bool, _) | (TypeChar::Uint, 1) => Stored::U8,
        (TypeChar::Int, 1) => Stored::I8,
        (TypeChar::Uint, 2) => Stored::U16,
        (TypeChar::Int, 2) => Stored::I16,
        (TypeChar::Uint, 4) => Stored::U32,
        (TypeChar::Int, 4) => Stored::I32,
        (TypeChar::Uint, 8) => Stored::U64,
        (TypeChar::Int, 8) => Stored::I64,
        (TypeChar::Float, 2) => Stored::F16,
        (TypeChar::Float, 4) => Stored::F32,
        (TypeChar::Float, 8) => Stored::F64,
        _ => return Err(format!("it has elements of type {}; numbers of at most 64 bits are needed", dtype.descr())),
    };
    Ok(About { stored, big_endian: plain.endianness() == Endianness::Big, shape: header.shape().to_vec() })
}
