//! The numbers of a tensor of floats, whatever way they are stored, as f64.

use std::borrow::Cow;
use std::ops::Range;

use half::{bf16, f16};
use rayon::prelude::*;

/// A type of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Float {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl Float {
    /// The type that has this number in ONNX; `None` for a type that is no float.
    pub fn from_onnx(data_type: i32) -> Option<Self> {
        [Self::F32, Self::F16, Self::F64, Self::Bf16]
            .into_iter()
            .find(|float| float.data_type() == data_type)
    }

    /// ONNX's number of the type.
    pub fn data_type(self) -> i32 {
        match self {
            Self::F32 => 1,
            Self::F16 => 10,
            Self::F64 => 11,
            Self::Bf16 => 16,
        }
    }

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Half the distance from 1 to the next number: the largest relative error of rounding once.
    pub fn unit(self) -> f64 {
        match self {
            Self::F16 => 0.5 * f64::from(f16::EPSILON),
            Self::Bf16 => 0.5 * f64::from(bf16::EPSILON),
            Self::F32 => 0.5 * f64::from(f32::EPSILON),
            Self::F64 => 0.5 * f64::EPSILON,
        }
    }

    /// The smallest positive number.
    pub fn smallest(self) -> f64 {
        match self {
            Self::F16 => f16::MIN_POSITIVE_SUBNORMAL.to_f64(),
            Self::Bf16 => bf16::MIN_POSITIVE_SUBNORMAL.to_f64(),
            Self::F32 => f32::from_bits(1).into(),
            Self::F64 => f64::from_bits(1),
        }
    }

    /// The smallest number that has all its digits. Only weights of f16 come near: the other types
    /// end at 1e-38, where no network computes.
    pub fn smallest_normal(self) -> f64 {
        match self {
            Self::F16 => f16::MIN_POSITIVE.to_f64(),
            Self::Bf16 | Self::F32 | Self::F64 => 0.0,
        }
    }

    /// The number rounded to this type.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Self::F16 => f16::from_f64(value).to_f64(),
            Self::Bf16 => bf16::from_f64(value).to_f64(),
            Self::F32 => f64::from(value as f32),
            Self::F64 => value,
        }
    }

    /// The name of the type in ONNX.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 => "float",
            Self::F64 => "double",
        }
    }

    /// Writes numbers rounded to this type, little end first.
    ///
    /// # Panics
    /// If there are not [`size`](Self::size) bytes for each.
    #[inline(always)]
    pub fn store(self, values: &[f64], bytes: &mut [u8]) {
        match self {
            Self::F16 => store(values, bytes, |value| f16::from_f64(value).to_le_bytes()),
            Self::Bf16 => store(values, bytes, |value| bf16::from_f64(value).to_le_bytes()),
            Self::F32 => store(values, bytes, |value| (value as f32).to_le_bytes()),
            Self::F64 => store(values, bytes, f64::to_le_bytes),
        }
    }

    /// Numbers rounded to this type, as bytes.
    pub fn bytes(self, values: &[f64]) -> Vec<u8> {
        let mut bytes = vec![0; values.len() * self.size()];
        self.store(values, &mut bytes);
        bytes
    }

    #[inline(always)]
    fn load(self, bytes: &[u8], values: &mut [f64]) {
        match self {
            Self::F16 => load(bytes, values, |bytes| f16::from_le_bytes(bytes).to_f64()),
            Self::Bf16 => load(bytes, values, |bytes| bf16::from_le_bytes(bytes).to_f64()),
            Self::F32 => load(bytes, values, |bytes| f32::from_le_bytes(bytes).into()),
            Self::F64 => load(bytes, values, f64::from_le_bytes),
        }
    }
}

#[inline(always)]
fn store<const N: usize>(values: &[f64], bytes: &mut [u8], convert: impl Fn(f64) -> [u8; N]) {
    let (places, rest) = bytes.as_chunks_mut::<N>();
    assert!(places.len() == values.len() && rest.is_empty(), "a place for each number");
    places.iter_mut().zip(values).for_each(|(place, value)| *place = convert(*value));
}

#[inline(always)]
fn load<const N: usize>(bytes: &[u8], values: &mut [f64], convert: impl Fn([u8; N]) -> f64) {
    let (numbers, _) = bytes.as_chunks::<N>();
    values.iter_mut().zip(numbers).for_each(|(value, bytes)| *value = convert(*bytes));
}

/// The largest of the numbers' bits; 0 if there are no numbers.
fn largest<const N: usize, T: Ord + Default + Send>(
    bytes: &[u8],
    bits: impl Fn([u8; N]) -> T + Sync,
) -> T {
    let largest = |part: &[[u8; N]]| part.iter().map(|bytes| bits(*bytes)).max();
    let parts = bytes.as_chunks().0.par_chunks(1 << 16);
    parts.filter_map(largest).max().unwrap_or_default()
}

/// Numbers of one type.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    /// The type that they are stored in.
    pub float: Float,
    stored: Stored<'a>,
}

#[derive(Clone, Debug)]
enum Stored<'a> {
    /// As they lie in the file, little end first.
    Bytes(Cow<'a, [u8]>),
    /// One number many times.
    Fill { value: f64, count: usize },
}

impl<'a> Values<'a> {
    /// Numbers stored one after the other, little end first.
    pub fn from_bytes(float: Float, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { float, stored: Stored::Bytes(bytes.into()) }
    }

    /// One number `count` times.
    pub fn fill(float: Float, value: f64, count: usize) -> Self {
        Self { float, stored: Stored::Fill { value, count } }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.stored {
            Stored::Bytes(bytes) => bytes.len() / self.float.size(),
            Stored::Fill { count, .. } => *count,
        }
    }

    /// Reads those of a range.
    ///
    /// # Panics
    /// If the range goes beyond the end, or `into` has another length.
    #[inline(always)]
    pub fn read(&self, range: Range<usize>, into: &mut [f64]) {
        assert_eq!(range.len(), into.len());
        match &self.stored {
            Stored::Bytes(bytes) => {
                let size = self.float.size();
                self.float.load(&bytes[range.start * size..range.end * size], into);
            }
            Stored::Fill { value, count } => {
                assert!(range.end <= *count);
                into.fill(*value);
            }
        }
    }

    /// The largest absolute value. Without their signs, finite floats have the order of their bits
    /// as integers, so no number is converted.
    pub fn largest(&self) -> f64 {
        let bytes = match &self.stored {
            Stored::Fill { value, .. } => return value.abs(),
            Stored::Bytes(bytes) => bytes,
        };
        let bits16 = || largest(bytes, |bytes| u16::from_le_bytes(bytes) & (u16::MAX >> 1));
        let bits32 = || largest(bytes, |bytes| u32::from_le_bytes(bytes) & (u32::MAX >> 1));
        let bits64 = || largest(bytes, |bytes| u64::from_le_bytes(bytes) & (u64::MAX >> 1));
        match self.float {
            Float::F16 => f16::from_bits(bits16()).to_f64(),
            Float::Bf16 => bf16::from_bits(bits16()).to_f64(),
            Float::F32 => f32::from_bits(bits32()).into(),
            Float::F64 => f64::from_bits(bits64()),
        }
    }

    /// All of them.
    pub fn to_vec(&self) -> Vec<f64> {
        let mut values = vec![0.0; self.len()];
        self.read(0..values.len(), &mut values);
        values
    }

    /// The same numbers, each rounded to another type.
    pub fn cast(&self, float: Float) -> Self {
        if float == self.float {
            return self.clone();
        }
        if let Stored::Fill { value, count } = self.stored {
            return Self::fill(float, float.round(value), count);
        }
        Self::from_bytes(float, float.bytes(&self.to_vec()))
    }
}
