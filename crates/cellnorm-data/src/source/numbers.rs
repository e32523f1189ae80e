//! Numbers as they were stored, as far as that matters: bytes and 16-bit integers are counted, all
//! others are floats.

use std::ops::Range;

use bytemuck::Pod;
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

impl Block {
    /// One of its samples; `None` if it has fewer.
    pub fn sample(&self, sample: u64) -> Option<Self> {
        let length: usize = self.shape.iter().product();
        let start = usize::try_from(sample).ok()?.checked_mul(length)?;
        let range = start
            ..start.checked_add(length).filter(|end| *end <= self.numbers.len() && length > 0)?;
        let valid = self.valid.as_ref().map(|valid| valid[range.clone()].to_vec());
        Some(Self {
            shape: self.shape.clone(),
            channel_axis: self.channel_axis,
            numbers: self.numbers.slice(range),
            valid,
        })
    }
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
    /// One byte, 0 or 1.
    Bool,
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
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::Bf16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// No numbers yet, of the type in which these are kept.
    pub fn none(self) -> Numbers {
        match self {
            Self::U8 => Numbers::U8(Vec::new()),
            Self::U16 => Numbers::U16(Vec::new()),
            Self::Bool | Self::F16 | Self::Bf16 | Self::F32 => Numbers::F32(Vec::new()),
            Self::I8 | Self::I16 | Self::U32 | Self::I32 | Self::U64 | Self::I64 | Self::F64 => {
                Numbers::F64(Vec::new())
            }
        }
    }

    /// Replaces numbers by `count` others, in the same memory where it suffices; `fill` reads the
    /// bytes of these.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn read(
        self,
        big_endian: bool,
        count: usize,
        numbers: &mut Numbers,
        fill: impl Fill,
    ) -> Result<(), String> {
        let from = Bytes { count, big_endian, fill };
        match (self, numbers) {
            (Self::U8, Numbers::U8(all)) => from.kept(all),
            (Self::U16, Numbers::U16(all)) => from.kept(all),
            (Self::F32, Numbers::F32(all)) => from.kept(all),
            (Self::F64, Numbers::F64(all)) => from.kept(all),
            (Self::Bool, Numbers::F32(all)) => {
                from.each(all, |[byte]| f32::from(u8::from(byte != 0)))
            }
            (Self::F16, Numbers::F32(all)) => {
                from.each(all, |bytes| f16::from_le_bytes(bytes).into())
            }
            (Self::Bf16, Numbers::F32(all)) => {
                from.each(all, |bytes| bf16::from_le_bytes(bytes).into())
            }
            (Self::I8, Numbers::F64(all)) => {
                from.each(all, |bytes| i8::from_le_bytes(bytes).into())
            }
            (Self::I16, Numbers::F64(all)) => {
                from.each(all, |bytes| i16::from_le_bytes(bytes).into())
            }
            (Self::U32, Numbers::F64(all)) => {
                from.each(all, |bytes| u32::from_le_bytes(bytes).into())
            }
            (Self::I32, Numbers::F64(all)) => {
                from.each(all, |bytes| i32::from_le_bytes(bytes).into())
            }
            (Self::U64, Numbers::F64(all)) => {
                from.each(all, |bytes| u64::from_le_bytes(bytes) as f64)
            }
            (Self::I64, Numbers::F64(all)) => {
                from.each(all, |bytes| i64::from_le_bytes(bytes) as f64)
            }
            (_, others) => {
                *others = self.none();
                self.read(big_endian, count, others, from.fill)
            }
        }
    }
}

/// Reads the next bytes of a file.
pub trait Fill: FnOnce(&mut [u8]) -> Result<(), String> {}

impl<F: FnOnce(&mut [u8]) -> Result<(), String>> Fill for F {}

/// Bytes of numbers that are still to be read.
struct Bytes<F> {
    count: usize,
    big_endian: bool,
    fill: F,
}

impl<F: Fill> Bytes<F> {
    /// As numbers of their own type.
    fn kept<T: Pod>(self, all: &mut Vec<T>) -> Result<(), String> {
        all.resize(self.count, T::zeroed());
        let bytes = bytemuck::cast_slice_mut(all);
        (self.fill)(bytes)?;
        if self.big_endian != cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    /// As numbers of a wider type.
    fn each<const N: usize, T>(
        self,
        all: &mut Vec<T>,
        of: impl Fn([u8; N]) -> T,
    ) -> Result<(), String> {
        let mut bytes = vec![0; self.count * N];
        (self.fill)(&mut bytes)?;
        if self.big_endian {
            bytes.chunks_exact_mut(N).for_each(<[u8]>::reverse);
        }
        all.clear();
        all.extend(bytes.as_chunks::<N>().0.iter().map(|bytes| of(*bytes)));
        Ok(())
    }
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

    /// What they are divided by to lie between 0 and 1: the largest of their type for integers, 1
    /// for floats.
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
