//! A network that several processes or threads train together: each has a replica of it and a part
//! of every batch.
//!
//! [`convert_sync_batch_norm`] lets the batch normalizations of a replica share statistics with
//! those of the others, and [`sum_gradients`] adds up what the replicas have learned, so that all
//! take the same step. A [`Communicator`] carries both: threads, or MPI (`cellnorm-mpi`). Replicas
//! that start alike stay alike, bit for bit.
//!
//! The loss of a replica is its share of the whole batch's, Σ over its samples / the samples of all
//! ranks. Then gradients are summed and no weights are needed, whatever the parts' sizes.

mod gradients;
mod link;

pub use cellnorm::ranks::{Alone, Communicator, Threads};
pub use gradients::sum_gradients;
pub use link::{Link, convert_sync_batch_norm};
