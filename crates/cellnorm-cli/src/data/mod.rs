//! What the networks learn from.

use burn::tensor::{Device, Int, Tensor};
use serde::Serialize;

mod embedded;
pub mod idx;
pub mod images;
pub mod sequences;

/// Samples with their labels.
pub trait Samples {
    /// Some of them, as a network takes them.
    type Input;

    /// What one sample is, in the plural.
    const NOUN: &'static str;

    /// The number of classes.
    const CLASSES: usize;

    /// The number of samples.
    fn len(&self) -> usize;

    /// The samples named by `indices`.
    fn batch(&self, indices: &[usize], device: &Device) -> Batch<Self::Input>;
}

/// Samples to train on and samples to test on.
pub struct Dataset<S> {
    /// What they are, or the folder they come from.
    pub name: String,
    /// Who made them, where their licence asks to say so.
    pub source: Option<&'static str>,
    /// What was done to each value.
    pub normalization: Option<DataNorm>,
    /// For training.
    pub train: S,
    /// For testing.
    pub test: S,
}

/// (x − mean) / deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DataNorm {
    /// The mean of the values between 0 and 1.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

/// A batch as the network takes it.
pub struct Batch<X> {
    /// The samples.
    pub x: X,
    /// Their labels, `[N]`, in the order in which the network scores the samples.
    pub labels: Tensor<1, Int>,
}
