//! The ranks that a command runs on: one, or those that `mpirun` has started.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use cellnorm::ranks::{Alone, Communicator};
use miette::Diagnostic;
use thiserror::Error;

/// Why several processes do not share the work.
#[derive(Debug, Error, Diagnostic)]
pub enum RanksError {
    /// Several processes were started, and MPI does not join them.
    #[error("{problem}")]
    #[diagnostic(help("docs/ranks.md says how to start several processes"))]
    Mpi { problem: String },
    #[error("batches of {size} cannot be shared by {ranks} ranks: each needs at least one sample")]
    #[diagnostic(help("--batch-sizes is the size for all ranks together"))]
    SmallBatch { size: usize, ranks: usize },
    #[error(
        "--sync is for images: the networks of sequences have statistics for each time step, \
         which ranks do not share"
    )]
    #[diagnostic(help("leave --sync out"))]
    SequenceSync,
    #[error("several processes were started, and this command runs on one")]
    #[diagnostic(help(
        "compare and stats share their work under mpirun; start the others without it"
    ))]
    OneRank,
    #[error(
        "--shard is for processes that are started one by one; under mpirun each rank has a shard \
         of its own"
    )]
    #[diagnostic(help("leave --shard out"))]
    ShardFlag,
    #[error("- reads the paths from standard input, which only one of several processes has")]
    #[diagnostic(help("name the paths, or a folder, as arguments"))]
    StandardInput,
}

#[cfg(not(feature = "mpi"))]
type World = Alone;
#[cfg(feature = "mpi")]
type World = cellnorm_mpi::Mpi;

/// All ranks of this run; None without a launcher.
pub struct Ranks(Option<Arc<World>>);

impl Ranks {
    /// Joins the others where a launcher has started this program.
    pub fn start() -> Result<Self, RanksError> {
        let Some(launched) = cellnorm_mpi::launched() else { return Ok(Self(None)) };
        Self::join(launched).map_err(|problem| RanksError::Mpi { problem })
    }

    #[cfg(feature = "mpi")]
    fn join(launched: usize) -> Result<Self, String> {
        let world = World::start().map_err(|unavailable| unavailable.to_string())?;
        match world.size() {
            size if size == launched => Ok(Self(Some(Arc::new(world)))),
            size => Err(format!(
                "{launched} processes were started, and MPI joins {size}: this program was built \
                 for another MPI than started it"
            )),
        }
    }

    /// Without MPI, each process would do all of the work.
    #[cfg(not(feature = "mpi"))]
    fn join(launched: usize) -> Result<Self, String> {
        match launched {
            0 | 1 => Ok(Self(None)),
            ranks => Err(format!(
                "{ranks} processes were started, and this program was built without MPI; install \
                 it with --features mpi"
            )),
        }
    }

    /// The communicator that carries tables between them.
    pub fn communicator(&self) -> &dyn Communicator {
        match &self.0 {
            Some(world) => &**world,
            None => &Alone,
        }
    }

    /// The same, for layers that keep it.
    pub fn shared_communicator(&self) -> Arc<dyn Communicator> {
        match &self.0 {
            Some(world) => world.clone(),
            None => Arc::new(Alone),
        }
    }

    pub fn rank(&self) -> usize {
        self.communicator().rank()
    }

    pub fn size(&self) -> usize {
        self.communicator().size()
    }

    /// The threads of each rank, where Open MPI says that several are on one machine.
    pub fn threads(&self) -> Option<usize> {
        let here: usize = std::env::var("OMPI_COMM_WORLD_LOCAL_SIZE").ok()?.parse().ok()?;
        let processors = std::thread::available_parallelism().ok()?.get();
        (here > 1).then(|| (processors / here).max(1))
    }

    /// Whether this is the one that writes and prints.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Prints an error, and ends all ranks. An error that several ranks have is printed by the
    /// first of them, which ends the others meanwhile; an error that `another_rank` has, by that
    /// rank.
    pub fn fail(&self, error: miette::Report, code: u8, another_rank: bool) -> ExitCode {
        sleep(Duration::from_millis(200) * self.rank().min(10) as u32);
        if another_rank {
            sleep(Duration::from_secs(5));
        }
        if !self.is_alone() {
            eprintln!("on rank {} of {}:", self.rank(), self.size());
        }
        eprintln!("{error:?}");
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.0
            && !self.is_alone()
        {
            world.abort(code.into());
        }
        ExitCode::from(code)
    }
}
