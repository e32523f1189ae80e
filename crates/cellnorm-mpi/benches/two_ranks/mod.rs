//! The frame of benchmarks of ranks: a start under `mpirun`, and the time of the slowest
//! rank.

use std::process::Command;

use cellnorm::ranks::Communicator;
use cellnorm_mpi::{Mpi, launched};

/// Joins the ranks that a launcher has started; without one, runs this program on 2 ranks and
/// returns None.
pub fn start() -> Option<Mpi> {
    if launched().is_some() {
        return Some(Mpi::start().expect("MPI"));
    }
    let program = std::env::current_exe().expect("the path of this program");
    let ranks = ["--oversubscribe", "--allow-run-as-root", "--bind-to", "core", "-n", "2"];
    let status =
        Command::new("mpirun").args(ranks).arg(program).env("RAYON_NUM_THREADS", "1").status();
    assert!(status.expect("mpirun, from the package openmpi-bin").success());
    None
}

/// The median of each rank's times, of the slowest rank.
pub fn median(over: &Mpi, mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    over.all_gather(&[times[times.len() / 2]]).expect("all ranks").into_iter().fold(0.0, f64::max)
}
