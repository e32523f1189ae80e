//! All processes that the launcher has started.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cellnorm::Error;
use cellnorm::ranks::Communicator;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::traits::{Communicator as _, CommunicatorCollectives};

/// All processes that the launcher has started, one rank each.
///
/// Calls may come from any thread, one at a time. MPI ends when this is dropped, which must happen
/// on the thread that started it, and on all ranks; a rank that panics ends all of them.
pub struct Mpi {
    state: Mutex<State>,
    rank: usize,
    size: usize,
}

struct State {
    universe: Universe,
    /// The buffer of a sum, used again by the next.
    whole: Vec<f64>,
    parts: Vec<f64>,
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
            Self::StartedBefore => {
                "MPI was started before in this process; start it once and hand it around"
            }
            Self::OneThread => {
                "this MPI was built for one thread alone; it needs MPI_THREAD_SERIALIZED"
            }
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
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)
            .ok_or(Unavailable::StartedBefore)?;
        if threading < Threading::Serialized {
            return Err(Unavailable::OneThread);
        }
        let world = universe.world();
        let [rank, size] = [world.rank(), world.size()].map(|number| number as usize);
        let state = State { universe, whole: vec![], parts: vec![] };
        Ok(Self { state: Mutex::new(state), rank, size })
    }

    /// Ends all ranks at once, with this exit code. Say why before.
    pub fn abort(&self, code: i32) -> ! {
        self.state().universe.world().abort(code)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Mpi {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi {{ rank: {}, size: {} }}", self.rank, self.size)
    }
}

// An error of MPI itself, such as a lost connection, ends all ranks with MPI's own message:
// that is MPI's default.
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
            self.state().universe.world().all_gather_into(own, &mut all);
        }
        Ok(all)
    }

    /// Each rank adds up its share of the table in the order of ranks, so the bits are those of the
    /// trait's own sum, and depend on no choice of MPI's; it moves two tables and not one from each
    /// rank.
    fn sum(&self, table: &mut [f64]) -> Result<(), Error> {
        if table.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let State { universe, whole, parts } = &mut *state;
        let world = universe.world();
        let share = table.len().div_ceil(self.size);
        whole.clear();
        whole.extend_from_slice(table);
        whole.resize(share * self.size, 0.0);
        parts.resize(whole.len(), 0.0);
        world.all_to_all_into(&whole[..], &mut parts[..]);
        let (sum, others) = parts.split_at_mut(share);
        for part in others.chunks(share) {
            sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
        world.all_gather_into(sum, &mut whole[..]);
        table.copy_from_slice(&whole[..table.len()]);
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
