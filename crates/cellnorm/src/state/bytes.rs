//! Values as bytes, in any of the types.

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use super::{DType, Tensor};
use crate::error::Error;

/// The largest range of whole numbers that f64 holds without gaps.
const WHOLE: f64 = (1_u64 << 53) as f64;

impl DType {
    /// Bytes a value.
    pub(super) fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// The value that these bytes, as many as [`size`](Self::size), say in little-endian order.
    pub(super) fn value(self, bytes: &[u8]) -> f64 {
        macro_rules! read {
            ($t:ty) => {
                <$t>::from_le_bytes(bytes.try_into().expect("as many bytes as the type has"))
            };
        }
        match self {
            Self::F16 => read!(f16).to_f64(),
            Self::Bf16 => read!(bf16).to_f64(),
            Self::F32 => read!(f32).into(),
            Self::F64 => read!(f64),
            Self::U8 => bytes[0].into(),
            Self::I32 => read!(i32).into(),
            Self::I64 => read!(i64) as f64,
        }
    }

    /// Whether the value can be stored: rounded, but neither as infinity nor cut.
    fn holds(self, value: f64) -> bool {
        let whole = |least: f64, most: f64| value.fract() == 0.0 && (least..=most).contains(&value);
        match self {
            Self::F16 => f16::from_f64(value).is_finite() == value.is_finite(),
            Self::Bf16 => bf16::from_f64(value).is_finite() == value.is_finite(),
            Self::F32 => (value as f32).is_finite() == value.is_finite(),
            Self::F64 => true,
            Self::U8 => whole(0.0, 255.0),
            Self::I32 => whole(i32::MIN.into(), i32::MAX.into()),
            Self::I64 => whole(-WHOLE, WHOLE),
        }
    }
}

/// The tensor that these little-endian bytes, in row-major order, say.
pub(super) fn from_bytes(
    name: &str,
    dtype: DType,
    shape: &[usize],
    bytes: &[u8],
) -> Result<Tensor, Error> {
    let refuse = |problem| Err(Error::tensor(name, problem));
    let count = shape.iter().try_fold(1_usize, |count, len| count.checked_mul(*len));
    if count.and_then(|count| count.checked_mul(dtype.size())) != Some(bytes.len()) {
        let len = bytes.len();
        return refuse(format!("has {len} bytes, which is not {shape:?} values of {dtype:?}"));
    }
    let values = bytes.chunks_exact(dtype.size()).map(|bytes| dtype.value(bytes)).collect();
    // of the bytes: as f64, 2^53 + 1 is 2^53
    let whole = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    if dtype == DType::I64
        && let Some(value) =
            bytes.chunks_exact(8).map(whole).find(|v| v.unsigned_abs() > WHOLE as u64)
    {
        return refuse(format!(
            "holds {value}, beyond the whole numbers up to 2^53 that f64 holds"
        ));
    }
    let values = ArrayD::from_shape_vec(IxDyn(shape), values);
    Ok(Tensor::new(values.map_err(|error| Error::tensor(name, error))?, dtype))
}

impl Tensor {
    /// The values as little-endian bytes in row-major order.
    pub(super) fn to_bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(self.values.len() * self.dtype.size());
        for value in &self.values {
            if !self.dtype.holds(*value) {
                let dtype = self.dtype;
                let problem =
                    format!("holds {value}, which {dtype:?} cannot store; choose a wider type");
                return Err(Error::tensor(name, problem));
            }
            match self.dtype {
                DType::F16 => bytes.extend(f16::from_f64(*value).to_le_bytes()),
                DType::Bf16 => bytes.extend(bf16::from_f64(*value).to_le_bytes()),
                DType::F32 => bytes.extend((*value as f32).to_le_bytes()),
                DType::F64 => bytes.extend(value.to_le_bytes()),
                DType::U8 => bytes.push(*value as u8),
                DType::I32 => bytes.extend((*value as i32).to_le_bytes()),
                DType::I64 => bytes.extend((*value as i64).to_le_bytes()),
            }
        }
        Ok(bytes)
    }
}
