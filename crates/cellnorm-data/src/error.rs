//! Errors of a data set, its files and its statistics.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error, and the file that it is about.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// There is nothing to read.
    #[error("{what}")]
    Nothing {
        /// Which files were sought, and where.
        what: String,
    },
    /// Statistics that do not belong together.
    #[error("these statistics cannot be merged: {problem}")]
    Merge {
        /// Why not.
        problem: String,
    },
    /// Statistics of one rank that do not belong to those of the others.
    #[error(
        "the statistics of rank {rank} cannot be joined with those of the others: {problem}; all \
         ranks must read the same files, by the same names"
    )]
    Rank {
        /// Its number.
        rank: usize,
        /// Why not.
        problem: String,
    },
    /// The settings ask for something that cannot be done.
    #[error("{problem}")]
    Settings {
        /// The problem with them.
        problem: String,
    },
    /// The arithmetic failed.
    #[error(transparent)]
    Core(#[from] cellnorm::Error),
}

/// An error as text, for the problem of a file.
pub(crate) fn text(error: impl Display) -> String {
    error.to_string()
}

impl Error {
    /// A file that is not what it should be.
    pub fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: problem.into() }
    }
}
