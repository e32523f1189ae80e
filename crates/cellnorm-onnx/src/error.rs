//! Errors of a model's file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Bytes that are no ONNX model, and why.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Everything that ends the work on a model early.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file could not be written. What was in its place is as it was.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is no usable ONNX model.
    #[error("not a usable ONNX model: {0}")]
    Malformed(Malformed),
    /// The result would be larger than a protocol buffer can be.
    #[error(
        "the folded model has {bytes} bytes, and a protocol buffer at most 2147483647; store its \
         weights as external data first"
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// An input that the model does not have.
    #[error("the model has no input {name:?}; it has {}", inputs.join(", "))]
    NoInput {
        /// The name asked for.
        name: String,
        /// The inputs that it has.
        inputs: Vec<String>,
    },
    /// Several inputs, none of them named.
    #[error("the model has {} inputs; name one of them: {}", inputs.len(), inputs.join(", "))]
    WhichInput {
        /// Their names.
        inputs: Vec<String>,
    },
    /// A layer's numbers that cannot be folded.
    #[error(transparent)]
    Fold(#[from] cellnorm::Error),
}

impl From<Malformed> for Error {
    // not as a source: its words are part of this error's already
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}
