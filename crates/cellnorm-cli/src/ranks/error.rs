//! What ranks cannot do.

use miette::Diagnostic;
use thiserror::Error;

/// Why several processes do not share the work.
#[derive(Debug, Error, Diagnostic)]
pub enum RanksError {
    /// Several processes were started, and MPI does not join them.
    #[error("{problem}")]
    #[diagnostic(help("docs/ranks.md says how to start several processes"))]
    Mpi {
        /// Why.
        problem: String,
    },

    /// A batch that is too small for all ranks to have a part of it.
    #[error("batches of {size} cannot be shared by {ranks} ranks: each needs at least one sample")]
    #[diagnostic(help("--batch-sizes is the size for all ranks together"))]
    BatchOfRanks {
        /// The batch size.
        size: usize,
        /// The number of ranks.
        ranks: usize,
    },

    /// Synchronized statistics for each time step.
    #[error(
        "--sync is for images: the networks of sequences have statistics for each time step, \
         which ranks do not share"
    )]
    #[diagnostic(help("leave --sync out"))]
    SyncOfSequences,

    /// A command that ranks cannot share.
    #[error("several processes were started, and this command runs on one")]
    #[diagnostic(help(
        "compare and stats share their work under mpirun; start the others without it"
    ))]
    OneRank,

    /// A shard of a shard.
    #[error(
        "--shard is for processes that are started one by one; under mpirun each rank has a shard \
         of its own"
    )]
    #[diagnostic(help("leave --shard out"))]
    ShardOfRank,

    /// A list that only one rank can read.
    #[error("- reads the paths from standard input, which only one of several processes has")]
    #[diagnostic(help("name the paths, or a folder, as arguments"))]
    InputOfRanks,
}
