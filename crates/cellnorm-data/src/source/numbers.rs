//! Numbers as they were stored, as far as that matters: bytes and 16-bit integers are counted, all others are floats.

use std::ops::Range;

use half::{bf16, f16};

/// Some samples of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The shape of a sample, without the axis of the samples.
    pub shape: Vec<usize>,
    /// The axis of the samples' shape that holds the channels, if the file says so.
    pub channel_axis: Option<usize>,
    /// The samples one behind the other.
    pub numbers: Numbers,
    /// Which numbers are there, if some are not.
    pub valid: Option<Vec<bool>>,
}

/// Numbers of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Bytes.
    U8(Vec<u8>),
    /// Unsigned integers of 16 bits.
    U16(Vec<u16>),
    /// Floats of 16 and 32 bits.
    F32(Vec<f32>),
    /// Everything else; integers beyond 2⁵³ are rounded.
    F64(Vec<f64>),
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// One byte.
    U8,
    /// One byte, with a sign.
    I8,
    /// Two bytes.
    U16,
    /// Two bytes, with a sign.
    I16,
    /// Four bytes.
    U32,
    /// Four bytes, with a sign.
    I32,
    /// Eight bytes.
    U64,
    /// Eight bytes, with a sign.
    I64,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Stored {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The numbers that bytes are.
    pub fn numbers(self, bytes: &[u8], big_endian: bool) -> Numbers {
        match self {
            Self::U8 => Numbers::U8(bytes.to_vec()),
            Self::I8 => Numbers::F64(bytes.iter().map(|byte| f64::from(*byte as i8)).collect()),
            Self::U16 => Numbers::U16(each(bytes, big_endian, u16::from_le_bytes)),
            Self::I16 => Numbers::F64(each(bytes, big_endian, |bytes| i16::from_le_bytes(bytes).into())),
            Self::U32 => Numbers::F64(each(bytes, big_endian, |bytes| u32::from_le_bytes(bytes).into())),
            Self::I32 => Numbers::F64(each(bytes, big_endian, |bytes| i32::from_le_bytes(bytes).into())),
            Self::U64 => Numbers::F64(each(bytes, big_endian, |bytes| u64::from_le_bytes(bytes) as f64)),
            Self::I64 => Numbers::F64(each(bytes, big_endian, |bytes| i64::from_le_bytes(bytes) as f64)),
            Self::F16 => Numbers::F32(each(bytes, big_endian, |bytes| f16::from_le_bytes(bytes).into())),
            Self::Bf16 => Numbers::F32(each(bytes, big_endian, |bytes| bf16::from_le_bytes(bytes).into())),
            Self::F32 => Numbers::F32(each(bytes, big_endian, f32::from_le_bytes)),
            Self::F64 => Numbers::F64(each(bytes, big_endian, f64::from_le_bytes)),
        }
    }
}

fn each<const N: usize, T>(bytes: &[u8], big_endian: bool, of: impl Fn([u8; N]) -> T) -> Vec<T> {
    let all = bytes.as_chunks::<N>().0.iter();
    if !big_endian {
        return all.map(|bytes| of(*bytes)).collect();
    }
    all.map(|bytes| {
        let mut bytes = *bytes;
        bytes.reverse();
        of(bytes)
    })
    .collect()
}

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(all) => all.len(),
            Self::U16(all) => all.len(),
            Self::F32(all) => all.len(),
            Self::F64(all) => all.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them.
    ///
    /// # Panics
    /// If the range goes beyond the end.
    pub fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::U8(all) => Self::U8(all[range].to_vec()),
            Self::U16(all) => Self::U16(all[range].to_vec()),
            Self::F32(all) => Self::F32(all[range].to_vec()),
            Self::F64(all) => Self::F64(all[range].to_vec()),
        }
    }

    /// What they are divided by to lie between 0 and 1: the largest of their type for integers, 1 for floats.
    pub fn full_scale(&self) -> f64 {
        match self {
            Self::U8(_) => u8::MAX.into(),
            Self::U16(_) => u16::MAX.into(),
            Self::F32(_) | Self::F64(_) => 1.0,
        }
    }

    /// All of them as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::U8(all) => all.iter().map(|value| f64::from(*value)).collect(),
            Self::U16(all) => all.iter().map(|value| f64::from(*value)).collect(),
            Self::F32(all) => all.iter().map(|value| f64::from(*value)).collect(),
            Self::F64(all) => all.clone(),
        }
    }
}
