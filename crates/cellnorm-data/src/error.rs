//! What can be wrong with a data set, its files and its statistics.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What went wrong, and with which file.
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
        /// What is wrong.
        problem: String,
    },
    /// There is nothing to read.
    #[error("{what}")]
    Nothing {
        /// Where nothing was found, and what would have been.
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
    OfRank {
        /// Its number.
        rank: usize,
        /// Why not.
        problem: String,
    },
    /// What the settings ask for cannot be done.
    #[error("{problem}")]
    Settings {
        /// What is wrong with them.
        problem: String,
    },
    /// What the arithmetic says.
    #[error(transparent)]
    Core(#[from] cellnorm::Error),
}

impl Error {
    /// A file that is not what it should be.
    pub fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::File { path: path.into(), problem: problem.into() }
    }
}
