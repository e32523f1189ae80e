//! How long an exchange takes, and what share of a layer's forward and backward pass it is.
//!
//! `cargo bench -p cellnorm-mpi --features mpi` measures 2 ranks on this machine; `mpirun … target/release/deps/latency-*` whichever
//! ranks one has. Times are medians, in microseconds, of the slowest rank.

use std::process::Command;
use std::time::Instant;

use cellnorm::ranks::{Communicator, exchange};
use cellnorm::{BatchNormConfig, Error};
use cellnorm_mpi::{Mpi, launched};
use ndarray::Array4;

const TIMES: usize = 301;

fn main() {
    if launched().is_none() {
        let program = std::env::current_exe().expect("the path of this program");
        let ranks = ["--oversubscribe", "--allow-run-as-root", "--bind-to", "core", "-n", "2"];
        let status = Command::new("mpirun").args(ranks).arg(program).env("RAYON_NUM_THREADS", "1").status();
        assert!(status.expect("mpirun, from the package openmpi-bin").success());
        return;
    }
    let over = Mpi::start().expect("MPI");
    let say = |line: String| {
        if over.rank() == 0 {
            println!("{line}");
        }
    };
    say(format!("{} ranks, microseconds", over.size()));
    say(format!("{:>9}  {:>10} {:>10}", "channels", "forward", "backward"));
    for channels in [16, 64, 84, 256, 512, 2048, 8192] {
        let [forward, backward] = [3, 3].map(|numbers| {
            median(&over, || drop(exchange::<Error>(&over, "numbers", Ok(vec![1.0; numbers * channels]))))
        });
        say(format!("{channels:>9}  {forward:>10.1} {backward:>10.1}"));
    }
    // of two messages that differ in length, bandwidth is what the difference tells
    let gather = |numbers: usize| {
        let table = vec![1.0; numbers];
        median(&over, || drop(over.all_gather(&table)))
    };
    let (short, long) = (gather(256), gather(65_536));
    let received = (65_536.0 - 256.0) * 8.0 * (over.size() as f64 - 1.0);
    let rounds = f64::from(over.size().next_power_of_two().ilog2());
    let gigabytes = received / (long - short) / 1e3;
    let latency = (short - 2048.0 * (over.size() as f64 - 1.0) / (gigabytes * 1e3)) / rounds;
    say(format!(
        "latency {latency:.2} µs, bandwidth {gigabytes:.2} GB/s: --example cost -- FILE {latency:.2}:{gigabytes:.2}"
    ));
    say(format!("\n{:>18}  {:>10} {:>10} {:>7}", "x on each rank", "alone", "over ranks", "share"));
    for shape in [[16, 64, 28, 28], [16, 2048, 7, 7]] {
        let x = Array4::<f32>::from_shape_fn(shape, |(n, c, h, w)| ((n * 7 + c * 3 + h * 5 + w) % 17) as f32);
        let layer = BatchNormConfig::new(shape[1]).init().expect("a layer");
        let alone = median(&over, || {
            let mut layer = layer.clone();
            let (y, saved) = layer.forward(x.view()).expect("forward");
            drop(layer.backward(&saved, x.view(), y));
        });
        let joined = median(&over, || {
            let mut layer = layer.clone();
            let (y, saved) = layer.forward_over(x.view(), None, &over).expect("forward");
            drop(layer.backward_over(&saved, x.view(), y, None, &over));
        });
        let share = 100.0 * (joined - alone).max(0.0) / joined;
        let shape = shape.map(|len| len.to_string()).join("×");
        say(format!("{shape:>18}  {alone:>10.0} {joined:>10.0} {share:>5.0} %"));
    }
}

/// The median time of the slowest rank.
fn median(over: &Mpi, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    over.all_gather(&[times[TIMES / 2]]).expect("all ranks").into_iter().fold(0.0, f64::max)
}
