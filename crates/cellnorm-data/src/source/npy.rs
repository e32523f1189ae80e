//! `.npy`: a header that says type, order and shape, then the numbers.

use std::io::{self, Read};

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::array::Header;
use super::numbers::Stored;

/// The bytes of a header: eight of magic and version, its length in two bytes, in four from version
/// 2 on, and the text.
fn header_bytes(from: &mut dyn Read) -> io::Result<Vec<u8>> {
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

/// The longest header that is read; NumPy itself warns above 10,000.
const LONGEST: u64 = 1 << 20;

/// The most brackets of a header. That of an array of numbers has two; the time to parse nested
/// ones doubles with each.
const MOST_BRACKETS: usize = 8;

/// Reads a header, and no byte after it.
pub fn header(from: &mut dyn Read) -> Result<Header, String> {
    let unreadable = |error| format!("its header cannot be read: {error}");
    let bytes = header_bytes(from).map_err(unreadable)?;
    if bytes.iter().filter(|letter| b"([{".contains(letter)).count() > MOST_BRACKETS {
        return Err("its header is none of an array of numbers".into());
    }
    let header = NpyHeader::from_reader(bytes.as_slice()).map_err(unreadable)?;
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
    let big_endian = plain.endianness() == Endianness::Big;
    Ok(Header { stored, big_endian, shape: header.shape().to_vec() })
}
