//! Numbers of the types that matter: bytes and 16-bit integers, which are counted, and floats,
//! which all other types become.

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
    /// The samples, one after the other.
    pub numbers: Numbers,
    /// Which numbers are there, if some are missing.
    pub valid: Option<Vec<bool>>,
}

impl Block {
    /// Samples of this shape: the file does not say which axis holds the channels, and none of
    /// their numbers is missing.
    pub fn new(shape: Vec<usize>, numbers: Numbers) -> Self {
        Self { shape, channel_axis: None, numbers, valid: None }
    }

    /// One of its samples; `None` if it has fewer.
    pub fn sample(&self, sample: u64) -> Option<Self> {
        let length: usize = self.shape.iter().product();
        let start = usize::try_from(sample).ok()?.checked_mul(length)?;
        let end = start.checked_add(length)?;
        if length == 0 || end > self.numbers.len() {
            return None;
        }
        let valid = self.valid.as_ref().map(|valid| valid[start..end].to_vec());
        Some(Self {
            shape: self.shape.clone(),
            channel_axis: self.channel_axis,
            numbers: self.numbers.slice(start..end),
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
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    Bf16,
    F32,
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

    /// No numbers, of the type that numbers of this type are read as.
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

    /// Replaces numbers by `count` others, in the same memory where it suffices; `fill` reads their
    /// bytes.
    ///
    /// # Errors
    /// Same errors as `fill`.
    pub fn read(
        self,
        big_endian: bool,
        count: usize,
        numbers: &mut Numbers,
        fill: &Fill<'_>,
    ) -> Result<(), String> {
        let raw = RawNumbers { count, big_endian, fill };
        match (self, numbers) {
            (Self::U8, Numbers::U8(all)) => raw.copy(all),
            (Self::U16, Numbers::U16(all)) => raw.copy(all),
            (Self::F32, Numbers::F32(all)) => raw.copy(all),
            (Self::F64, Numbers::F64(all)) => raw.copy(all),
            (Self::Bool, Numbers::F32(all)) => raw.widen(all, |[byte]| f32::from(byte != 0)),
            (Self::F16, Numbers::F32(all)) => raw.widen(all, |le| f16::from_le_bytes(le).into()),
            (Self::Bf16, Numbers::F32(all)) => raw.widen(all, |le| bf16::from_le_bytes(le).into()),
            (Self::I8, Numbers::F64(all)) => raw.widen(all, |le| i8::from_le_bytes(le).into()),
            (Self::I16, Numbers::F64(all)) => raw.widen(all, |le| i16::from_le_bytes(le).into()),
            (Self::U32, Numbers::F64(all)) => raw.widen(all, |le| u32::from_le_bytes(le).into()),
            (Self::I32, Numbers::F64(all)) => raw.widen(all, |le| i32::from_le_bytes(le).into()),
            (Self::U64, Numbers::F64(all)) => raw.widen(all, |le| u64::from_le_bytes(le) as f64),
            (Self::I64, Numbers::F64(all)) => raw.widen(all, |le| i64::from_le_bytes(le) as f64),
            (_, others) => {
                *others = self.none();
                self.read(big_endian, count, others, fill)
            }
        }
    }
}

/// Reads the bytes of numbers.
pub type Fill<'f> = dyn Fn(&mut [u8]) -> Result<(), String> + 'f;

/// Numbers whose bytes are still to be read.
struct RawNumbers<'f> {
    count: usize,
    big_endian: bool,
    fill: &'f Fill<'f>,
}

impl RawNumbers<'_> {
    /// Reads them as numbers of their own type.
    fn copy<T: Pod>(self, all: &mut Vec<T>) -> Result<(), String> {
        all.resize(self.count, T::zeroed());
        let bytes = bytemuck::cast_slice_mut(all);
        (self.fill)(bytes)?;
        if self.big_endian != cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    /// Reads them as numbers of a wider type.
    fn widen<const N: usize, T>(
        self,
        all: &mut Vec<T>,
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<(), String> {
        let mut bytes = vec![0; self.count * N];
        (self.fill)(&mut bytes)?;
        if self.big_endian {
            bytes.chunks_exact_mut(N).for_each(<[u8]>::reverse);
        }
        all.clear();
        all.extend(bytes.as_chunks().0.iter().map(|bytes| convert(*bytes)));
        Ok(())
    }
}

/// The value of an expression for the numbers of whichever type.
macro_rules! each_type {
    ($numbers:expr, $all:ident => $value:expr) => {
        match $numbers {
            Numbers::U8($all) => $value,
            Numbers::U16($all) => $value,
            Numbers::F32($all) => $value,
            Numbers::F64($all) => $value,
        }
    };
}
pub(crate) use each_type;

/// Numbers of any type as f64.
pub(crate) fn floats<T: Copy + Into<f64>>(all: &[T]) -> impl Iterator<Item = f64> {
    all.iter().map(|x| (*x).into())
}

macro_rules! conversions {
    ($($variant:ident: $type:ty),*) => {$(
        impl From<Vec<$type>> for Numbers {
            fn from(all: Vec<$type>) -> Self {
                Self::$variant(all)
            }
        }
    )*};
}
conversions!(U8: u8, U16: u16, F32: f32, F64: f64);

impl Numbers {
    /// How many there are.
    pub fn len(&self) -> usize {
        each_type!(self, all => all.len())
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
        each_type!(self, all => all[range].to_vec().into())
    }

    /// The numbers of some ranges, one range after the other.
    pub(super) fn select(&self, ranges: impl Iterator<Item = Range<usize>>) -> Self {
        each_type!(self, all => {
            ranges.flat_map(|range| &all[range]).copied().collect::<Vec<_>>().into()
        })
    }

    /// The number that they are divided by to lie between 0 and 1: the largest of their type for
    /// integers, 1 for floats.
    pub fn full_scale(&self) -> f64 {
        match self {
            Self::U8(_) => u8::MAX.into(),
            Self::U16(_) => u16::MAX.into(),
            Self::F32(_) | Self::F64(_) => 1.0,
        }
    }

    /// All of them as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        each_type!(self, all => floats(all).collect())
    }
}
