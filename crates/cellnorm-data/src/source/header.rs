//! The headers of arrays, which the numbers follow. No byte after a header is read.

use std::io::{self, Read};

use npyz::{DType, Endianness, NpyHeader, Order, TypeChar};

use super::Stored;

/// The header of an array.
pub struct Header {
    pub stored: Stored,
    pub big_endian: bool,
    pub shape: Vec<u64>,
}

impl Header {
    /// How many bytes the numbers are; `None` for more than can be.
    pub fn bytes(&self) -> Option<u64> {
        let values = self.shape.iter().try_fold(1_u64, |all, length| all.checked_mul(*length));
        values?.checked_mul(self.stored.size() as u64)
    }

    /// The shape of a sample and how many values it has; `None` for more than can be.
    pub fn sample(&self) -> Option<(Vec<usize>, usize)> {
        let lengths = self.shape.iter().skip(1).map(|length| usize::try_from(*length).ok());
        let shape: Vec<usize> = lengths.collect::<Option<_>>()?;
        let length = shape.iter().try_fold(1_usize, |all, length| all.checked_mul(*length))?;
        Some((shape, length))
    }
}

/// Reads a header, and no byte after it.
pub type ReadHeader = fn(&mut dyn Read) -> Result<Header, String>;

/// Reads the header of an IDX file: two zeros, the type, the number of axes and their lengths, all
/// with the large end first.
pub fn idx(from: &mut dyn Read) -> Result<Header, String> {
    let mut word = || {
        let mut word = [0; 4];
        from.read_exact(&mut word).map_err(|_| "its header is cut off".to_owned())?;
        Ok::<_, String>(word)
    };
    let [zero, also, stored, axes] = word()?;
    if [zero, also] != [0, 0] {
        return Err("it is no IDX file: that begins with two zeros".into());
    }
    let stored = match stored {
        0x08 => Stored::U8,
        0x09 => Stored::I8,
        0x0b => Stored::I16,
        0x0c => Stored::I32,
        0x0d => Stored::F32,
        0x0e => Stored::F64,
        other => {
            return Err(format!(
                "it is no IDX file: its third byte is {other:#04x}, which is no type of IDX"
            ));
        }
    };
    let lengths = (0..axes).map(|_| Ok(u64::from(u32::from_be_bytes(word()?))));
    let shape = lengths.collect::<Result<_, String>>()?;
    Ok(Header { stored, big_endian: true, shape })
}

/// The bytes of the header of a `.npy` file: eight of magic and version, its length in two bytes,
/// in four from version 2 on, and the text.
fn npy_bytes(from: &mut dyn Read) -> io::Result<Vec<u8>> {
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

/// Reads the header of a `.npy` file, which says type, order and shape.
pub fn npy(from: &mut dyn Read) -> Result<Header, String> {
    let unreadable = |error| format!("its header cannot be read: {error}");
    let bytes = npy_bytes(from).map_err(unreadable)?;
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
