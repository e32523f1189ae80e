//! All processes that the launcher has started.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cellnorm::Error;
use cellnorm::ranks::Communicator;
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::traits::{Communicator as _, CommunicatorCollectives, Root};

/// All processes that the launcher has started, one rank each.
///
/// Calls may come from any thread, one at a time. MPI ends when this is dropped, which must happen on the thread that started it, and
/// on all ranks; a rank that panics ends all of them.
pub struct Mpi {
    universe: Mutex<Universe>,
    rank: usize,
    size: usize,
}

/// MPI could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// It was started before in this process; start it once.
    StartedBefore,
    /// This MPI cannot be called from more than one thread.
    OneThread,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartedBefore => "MPI was started before in this process; start it once and hand it around",
            Self::OneThread => "this MPI was built for one thread alone; it needs MPI_THREAD_SERIALIZED",
        })
    }
}

impl std::error::Error for Unavailable {}

impl Mpi {
    /// Starts MPI. Without a launcher, there is one rank.
    ///
    /// # Errors
    /// If it was started before, or cannot be called from more than one thread.
    pub fn start() -> Result<Self, Unavailable> {
        let (universe, threading) =
            mpi::initialize_with_threading(Threading::Serialized).ok_or(Unavailable::StartedBefore)?;
        if threading < Threading::Serialized {
            return Err(Unavailable::OneThread);
        }
        let world = universe.world();
        let [rank, size] = [world.rank(), world.size()].map(|number| number as usize);
        Ok(Self { universe: Mutex::new(universe), rank, size })
    }

    /// Ends all ranks at once, with this exit code. Say why before.
    pub fn abort(&self, code: i32) -> ! {
        self.universe().world().abort(code)
    }

    fn universe(&self) -> MutexGuard<'_, Universe> {
        self.universe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Mpi {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi {{ rank: {}, size: {} }}", self.rank, self.size)
    }
}

// What MPI itself finds wrong, such as a lost connection, ends all ranks with a message of its own: that is MPI's default.
impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_gather(&self, own: &[f64]) -> Result<Vec<f64>, Error> {
        let mut all = vec![0.0; own.len() * self.size];
        if !own.is_empty() {
            self.universe().world().all_gather_into(own, &mut all);
        }
        Ok(all)
    }

    /// By a tree, whose order depends on the number of ranks; then the first rank's result goes to all.
    fn sum(&self, table: &mut [f64]) -> Result<(), Error> {
        if table.is_empty() {
            return Ok(());
        }
        let universe = self.universe();
        let world = universe.world();
        let first = world.process_at_rank(0);
        if self.rank == 0 {
            let own = table.to_vec();
            first.reduce_into_root(&own, table, SystemOperation::sum());
        } else {
            first.reduce_into(&*table, SystemOperation::sum());
        }
        first.broadcast_into(table);
        Ok(())
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // the others may be waiting, and would wait forever for this one to end MPI
        if std::thread::panicking() {
            self.abort(101);
        }
    }
}
