//! `.npy`: a header that says type, order and shape, then the numbers.

use std::fs::File;
use std::io::{self, Read, Seek};
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
    Ok(Box::new(Array::new(
        Bytes::File(file, start),
        about.stored,
        about.big_endian,
        &about.shape,
    )?))
}

/// The array that the bytes of a file are.
pub fn of_bytes(mut bytes: Vec<u8>) -> Result<Box<dyn Source>, String> {
    let mut rest = bytes.as_slice();
    let about = header(&mut rest)?;
    let start = bytes.len() - rest.len();
    bytes.drain(..start);
    Ok(Box::new(Array::new(Bytes::Memory(bytes), about.stored, about.big_endian, &about.shape)?))
}

/// The bytes of a header: eight of magic and version, its length in two bytes, in four from version
/// 2 on, and the text.
fn text(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 8];
    from.read_exact(&mut bytes)?;
    let start = bytes.len();
    bytes.resize(start + if bytes[6] < 2 { 2 } else { 4 }, 0);
    from.read_exact(&mut bytes[start..])?;
    let length = bytes[start..].iter().rev().fold(0, |length, byte| length << 8 | u64::from(*byte));
    if from.take(length.min(LONGEST)).read_to_end(&mut bytes)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
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

/// The most brackets of a header: one of numbers has two, and the time to parse nested ones doubles
/// with each.
const MOST_BRACKETS: usize = 8;

/// Reads a header, and not more.
pub fn header(from: &mut impl Read) -> Result<About, String> {
    let text = text(from).map_err(|error| format!("its header cannot be read: {error}"))?;
    if text.iter().filter(|letter| b"([{".contains(letter)).count() > MOST_BRACKETS {
        return Err("its header is none of an array of numbers".into());
    }
    let header = NpyHeader::from_reader(text.as_slice());
    let header = header.map_err(|error| format!("its header cannot be read: {error}"))?;
    if header.order() == Order::Fortran && header.shape().len() > 1 {
        return Err("it is stored column by column; save np.ascontiguousarray of it".into());
    }
    let dtype = header.dtype();
    let DType::Plain(plain) = &dtype else {
        return Err(format!("it has elements of type {}; numbers are needed", dtype.descr()));
    };
    let stored = match (plain.type_char(), plain.size_field()) {
        (TypeChar::Bool, _) => Stored::Bool,
        (TypeChar::Uint, 1) => Stored::U8,
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
        _ => {
            return Err(format!(
                "it has elements of type {}; numbers of at most 64 bits are needed",
                dtype.descr()
            ));
        }
    };
    Ok(About {
        stored,
        big_endian: plain.endianness() == Endianness::Big,
        shape: header.shape().to_vec(),
    })
}
