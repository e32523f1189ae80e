//! A tensor of a checkpoint: values as f64, and the type that they are stored in.

use ndarray::ArrayD;

/// The type that a tensor's values are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Bytes.
    U8,
    /// Integers of 32 bits.
    I32,
    /// Integers of 64 bits; those beyond 2^53 are refused, since f64 does not hold them.
    I64,
}

/// Values as f64, and the type that they are stored in.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The values.
    pub values: ArrayD<f64>,
    /// Their type in the checkpoint.
    pub dtype: DType,
}

impl Tensor {
    /// Values to be stored in this type.
    pub fn new(values: ArrayD<f64>, dtype: DType) -> Self {
        Self { values, dtype }
    }
}
