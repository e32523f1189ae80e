//! Several processes, or threads, that work on parts of one batch or of one data set.
//!
//! Each is a *rank*. Statistics of parts merge ([`Moments::merge`](crate::Moments::merge)), so that
//! ranks exchange small tables and no tensors: forward (count, mean, M2) of each channel, backward
//! Σ dy and Σ dy (x − mean). Each merges all tables in the order of ranks: all hold the same bits.
//!
//! A [`Communicator`] carries the tables. Three are here: [`Alone`] for one rank, [`Threads`] for
//! threads of one process, and in the crate `cellnorm-mpi` MPI. [`exchange`] is what layers call:
//! it makes sure that all ranks ask for the same, so that a rank that fails or does something else
//! ends all of them with an error, and no sum is silently wrong.

mod exchange;

mod threads;

use std::fmt::Debug;

pub use exchange::{exchange, exchange_bytes, merge, report};

pub use threads::Threads;

use crate::error::Error;

/// A communicator carries tables between ranks.
///
/// Calls are collective: every rank makes the same ones in the same order, and waits for all.
///
/// ```
/// use cellnorm::ranks::{Communicator, Threads};
/// let ranks = Threads::split(3);
/// let sums = std::thread::scope(|scope| {
///     let rank = |of: &Threads| {
///         let mut table = [of.rank() as f64, 1.0];
///         of.sum(&mut table).map(|()| table)
///     };
///     let threads: Vec<_> = ranks.iter().map(|of| scope.spawn(move || rank(of))).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>, _>>()
/// })?;
/// assert_eq!(sums, [[3.0, 3.0]; 3]);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub trait Communicator: Debug + Send + Sync {
    /// Which rank this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// The numbers of all ranks one after another, bit for bit; every rank gives equally many.
    ///
    /// # Errors
    /// If another rank is gone.
    fn all_gather(&self, own: &[f64]) -> Result<Vec<f64>, Error>;

    /// The sum over ranks in the place of a table, equally long on all; the same bits on all.
    ///
    /// # Errors
    /// If another rank is gone.
    fn sum(&self, table: &mut [f64]) -> Result<(), Error> {
        let all = self.all_gather(table)?;
        let mut ranks = all.chunks(table.len().max(1));
        table.copy_from_slice(ranks.next().unwrap_or_default());
        for rank in ranks {
            for (sum, value) in table.iter_mut().zip(rank) {
                *sum += value;
            }
        }
        Ok(())
    }
}

/// One rank, which has nobody to wait for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Communicator for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_gather(&self, own: &[f64]) -> Result<Vec<f64>, Error> {
        Ok(own.to_vec())
    }
}
