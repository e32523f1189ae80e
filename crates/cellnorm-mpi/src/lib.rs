//! Cellnorm's [ranks](cellnorm::ranks) as processes of MPI: on one machine, over several hosts,
//! under Slurm.
//!
//! With the feature `mpi` there is `Mpi`, a [`Communicator`](cellnorm::ranks::Communicator);
//! without it, this crate is empty and needs no MPI. The engine is whichever MPI the machine has,
//! through the crate `mpi`; on Debian `apt-get install libopenmpi-dev openmpi-bin libclang-dev`.
//! `docs/ranks.md` in the repository says how to run it.
#![cfg_attr(feature = "mpi", doc = "```no_run")]
#![cfg_attr(not(feature = "mpi"), doc = "```ignore")]
//! use cellnorm::BatchNormConfig;
//! use cellnorm::ranks::Communicator;
//! use cellnorm_mpi::Mpi;
//! let over = Mpi::start()?;
//! let part = ndarray::Array4::<f32>::ones((8, 64, 7, 7)); // this rank's samples
//! let (y, saved) = BatchNormConfig::new(64).init()?.forward_over(part.view(), None, &over)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]

#[cfg(feature = "mpi")]
mod world;

#[cfg(test)]
#[path = "../../module_order.rs"]
mod module_order;

#[cfg(feature = "mpi")]
pub use world::{Mpi, Unavailable};

/// How many processes the launcher of this one has started, as it says in the environment; None
/// where there is no launcher.
///
/// Open MPI, MPICH, Intel MPI and Slurm are known. A program that was built without MPI can refuse
/// to run many times over.
///
/// ```
/// assert_eq!(cellnorm_mpi::launched(), None);
/// ```
pub fn launched() -> Option<usize> {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS"]
        .into_iter()
        .find_map(number)
}
