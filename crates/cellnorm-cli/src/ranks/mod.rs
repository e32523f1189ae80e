//! The ranks that a command runs on: one, or those that `mpirun` has started.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use cellnorm::ranks::{Alone, Communicator};

use crate::error::Error;

mod error;

pub use error::RanksError;

#[cfg(not(feature = "mpi"))]
type World = Alone;
#[cfg(feature = "mpi")]
type World = cellnorm_mpi::Mpi;

/// All ranks of this run; None without a launcher.
pub struct Ranks(Option<Arc<World>>);

impl Ranks {
    /// Joins the others where a launcher has started this program.
    #[cfg(feature = "mpi")]
    pub fn start() -> Result<Self, Error> {
        let Some(launched) = cellnorm_mpi::launched() else { return Ok(Self(None)) };
        let world = World::start()
            .map_err(|unavailable| RanksError::Mpi { problem: unavailable.to_string() })?;
        if world.size() != launched {
            let problem = format!(
                "{launched} processes were started, and MPI joins {}: this program was built for \
                 another MPI than started it",
                world.size()
            );
            return Err(RanksError::Mpi { problem }.into());
        }
        Ok(Self(Some(Arc::new(world))))
    }

    /// Without MPI, each process would do all of the work.
    #[cfg(not(feature = "mpi"))]
    pub fn start() -> Result<Self, Error> {
        match cellnorm_mpi::launched() {
            Some(ranks) if ranks > 1 => {
                let problem = format!(
                    "{ranks} processes were started, and this program was built without MPI; \
                     install it with --features mpi"
                );
                Err(RanksError::Mpi { problem }.into())
            }
            _ => Ok(Self(None)),
        }
    }

    /// What carries tables between them.
    pub fn over(&self) -> &dyn Communicator {
        match &self.0 {
            Some(world) => &**world,
            None => &Alone,
        }
    }

    /// The same, for layers that keep it.
    pub fn shared(&self) -> Arc<dyn Communicator> {
        match &self.0 {
            Some(world) => world.clone(),
            None => Arc::new(Alone),
        }
    }

    /// The threads of each rank, where Open MPI says that several are on one machine.
    pub fn threads(&self) -> Option<usize> {
        let here: usize = std::env::var("OMPI_COMM_WORLD_LOCAL_SIZE").ok()?.parse().ok()?;
        let processors = std::thread::available_parallelism().ok()?.get();
        (here > 1).then(|| (processors / here).max(1))
    }

    /// Whether this is the one that writes and prints.
    pub fn is_first(&self) -> bool {
        self.over().rank() == 0
    }

    /// Whether there is only one.
    pub fn is_alone(&self) -> bool {
        self.over().size() == 1
    }

    /// Says what went wrong, and ends all ranks.
    pub fn fail(&self, error: Error) -> ExitCode {
        let code = error.exit_code();
        self.take_turns(&error);
        eprintln!("{:?}", miette::Report::new(error));
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.0
            && !self.is_alone()
        {
            world.abort(code.into());
        }
        ExitCode::from(code)
    }

    /// An error that several ranks have is said by the first of them, which ends the others
    /// meanwhile; one that a rank only heard of, by that rank.
    fn take_turns(&self, error: &Error) {
        let heard = matches!(
            error,
            Error::Refused(cellnorm::Error::RankFailed { .. } | cellnorm::Error::RankGone { .. })
        );
        sleep(Duration::from_millis(200) * self.over().rank().min(10) as u32);
        if heard {
            sleep(Duration::from_secs(5));
        }
        if !self.is_alone() {
            eprintln!("on rank {} of {}:", self.over().rank(), self.over().size());
        }
    }
}
