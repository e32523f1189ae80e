//! The data that the networks learn from.

use std::path::PathBuf;

use burn::tensor::{Device, Int, Tensor};
use cellnorm::data::Floats;
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;

use crate::format::counted;
use crate::input::InputError;

pub mod idx;
pub mod images;
pub mod sequences;

/// Why a folder of images cannot be learned from. Its exit code is 2.
#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum DataError {
    #[error("{} holds no {name}", folder.display())]
    #[diagnostic(help(
        "--data wants a folder with four files, each with or without \
         .gz:\ntrain-images-idx3-ubyte, train-labels-idx1-ubyte,\nt10k-images-idx3-ubyte, \
         t10k-labels-idx1-ubyte"
    ))]
    Missing { folder: PathBuf, name: &'static str },
    #[error("{} is not usable: {problem}", path.display())]
    #[diagnostic(help("{}", problem.help()))]
    Idx { path: PathBuf, problem: idx::IdxError },
    #[error(
        "{} holds {} for the {} of {}", labels_path.display(), counted(*labels, "label"),
        counted(*images, "image"), images_path.display()
    )]
    #[diagnostic(help("each image needs one label: take both files from the same dataset"))]
    Unpaired { images_path: PathBuf, images: usize, labels_path: PathBuf, labels: usize },
    #[diagnostic(transparent)]
    Input(#[from] InputError),
}

pub trait Samples {
    /// Some of them, as a network takes them.
    type Input;

    /// The noun for several samples.
    const NOUN: &'static str;

    const CLASSES: usize;

    const CHANNELS: usize;

    fn len(&self) -> usize;

    /// The values of all samples, those of the channels side by side.
    fn values(&mut self) -> &mut [f32];

    /// The samples named by `indices`.
    fn batch(&self, indices: &[usize], device: &Device) -> Batch<Self::Input>;
}

pub struct Dataset<S> {
    pub info: DatasetInfo,
    pub train: S,
    pub test: S,
}

/// A dataset, as the results of a comparison show it.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetInfo {
    /// Its name, or the folder it comes from.
    pub name: String,
    /// The author, where the licence asks to name them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    pub normalization: Option<DataNorm>,
    /// The noun for its samples, in the plural.
    pub samples: &'static str,
    pub train_samples: usize,
    pub test_samples: usize,
    pub classes: usize,
}

/// (x − mean) / deviation for each channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataNorm {
    pub mean: Vec<f64>,
    pub deviation: Vec<f64>,
}

impl DataNorm {
    /// The mean and the deviation of each channel, for values whose channels lie side by side.
    pub fn measure(values: &[f32], channels: usize) -> Self {
        let moments = |channel: Floats| (channel.moments.mean, channel.moments.variance().sqrt());
        let (mean, deviation) =
            Floats::of_columns(values, channels).into_iter().map(moments).unzip();
        Self { mean, deviation }
    }
}

impl<S: Samples> Dataset<S> {
    fn new(name: String, source: Option<&'static str>, train: S, test: S) -> Self {
        let info = DatasetInfo {
            name,
            source,
            normalization: None,
            samples: S::NOUN,
            train_samples: train.len(),
            test_samples: test.len(),
            classes: S::CLASSES,
        };
        Self { info, train, test }
    }

    /// Normalizes with `norm`, or to mean 0 and deviation 1. A constant channel is not divided.
    pub fn normalized(mut self, norm: Option<DataNorm>) -> Self {
        let norm = norm.unwrap_or_else(|| DataNorm::measure(self.train.values(), S::CHANNELS));
        for values in [self.train.values(), self.test.values()] {
            for sample in values.chunks_exact_mut(S::CHANNELS) {
                for ((value, mean), deviation) in
                    sample.iter_mut().zip(&norm.mean).zip(&norm.deviation)
                {
                    let divisor = if *deviation > 0.0 { *deviation } else { 1.0 };
                    *value = ((f64::from(*value) - mean) / divisor) as f32;
                }
            }
        }
        self.info.normalization = Some(norm);
        self
    }
}

pub struct Batch<X> {
    pub x: X,
    /// Their labels, `[N]`, in the order in which the network scores the samples.
    pub labels: Tensor<1, Int>,
}
