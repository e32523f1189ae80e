//! Ranks that are threads of one process: for tests, and for several replicas on one machine.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Communicator;
use crate::error::Error;

/// A rank that is a thread of this process. Example: [`Communicator`].
///
/// A rank that is dropped, as when its thread panics, is gone: the others get an error.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    table: Arc<Table>,
}

/// Where the ranks lay down what they give.
#[derive(Debug)]
struct Table {
    round: Mutex<Round>,
    turned: Condvar,
}

#[derive(Debug)]
struct Round {
    number: u64,
    given: Vec<Option<Vec<f64>>>,
    /// The tables of the round before.
    all: Arc<Vec<f64>>,
    gone: Option<usize>,
}

impl Threads {
    /// So many ranks, each to be moved to a thread.
    pub fn split(size: usize) -> Vec<Self> {
        let round = Round { number: 0, given: vec![None; size], all: Arc::default(), gone: None };
        let table = Arc::new(Table { round: Mutex::new(round), turned: Condvar::new() });
        (0..size).map(|rank| Self { rank, table: table.clone() }).collect()
    }

    fn round(&self) -> MutexGuard<'_, Round> {
        // what is in there is whole between two statements
        self.table.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.round().given.len()
    }

    fn all_gather(&self, own: &[f64]) -> Result<Vec<f64>, Error> {
        let mut round = self.round();
        let number = round.number;
        round.given[self.rank] = Some(own.to_vec());
        if round.given.iter().all(Option::is_some) {
            let all = round.given.iter_mut().filter_map(Option::take).flatten().collect();
            (round.number, round.all) = (number + 1, Arc::new(all));
            self.table.turned.notify_all();
        }
        let waits = |round: &mut Round| round.number == number && round.gone.is_none();
        let round =
            self.table.turned.wait_while(round, waits).unwrap_or_else(PoisonError::into_inner);
        match round.gone {
            Some(rank) if round.number == number => Err(Error::RankGone { rank }),
            _ => Ok(round.all.to_vec()),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.round().gone.get_or_insert(self.rank);
        self.table.turned.notify_all();
    }
}
