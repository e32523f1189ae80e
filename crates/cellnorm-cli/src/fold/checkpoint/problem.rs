//! What stands in the way of folding a checkpoint, and of taking a graph for one.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

/// Everything that is said of checkpoints, or of what they do not have.
#[derive(Debug, Error, Diagnostic)]
pub enum Problem {
    /// A flag that the kind of file has no use for.
    #[error("{flag} says nothing about {}", path.display())]
    #[diagnostic(help("{flag} is for {what}"))]
    Flag {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the flag is for.
        what: &'static str,
    },

    /// A checkpoint is to be folded, and nothing says what belongs together.
    #[error("{} does not say which normalization belongs to which layer", path.display())]
    #[diagnostic(help(
        "name a file that does with --pairs; cellnorm fold {} --dry-run prints one to edit", path.display()
    ))]
    NoPairs {
        /// The checkpoint.
        path: PathBuf,
    },

    /// A pairing file that cannot be used.
    #[error("{} {problem}", path.display())]
    #[diagnostic(help(
        "it must be JSON such as {{\"pairs\": [{{\"layer\": \"conv1\", \"norm\": \"bn1\", \
         \"kind\": \"conv\"}}]}}; the kind is conv, conv-transposed or linear; a pair may have \
         groups, side (behind, ahead), unpadded (true) and epsilon"
    ))]
    Pairs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// A pair without ε.
    #[error("nothing says the epsilon of {norm}")]
    #[diagnostic(help(
        "a checkpoint does not store it: look at the model's code and give it with --epsilon, or \
         as \"epsilon\" of the pair"
    ))]
    NoEpsilon {
        /// The normalization.
        norm: String,
    },

    /// The proof failed; nothing was written.
    #[error("the folded layers differ {worst:.1} times as much as rounding explains")]
    #[diagnostic(help("nothing was written; --force writes it all the same"))]
    TooFar {
        /// The largest difference, as a share of what rounding explains.
        worst: f64,
    },
}
