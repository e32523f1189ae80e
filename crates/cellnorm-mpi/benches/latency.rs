//! How long an exchange takes, and what share of a layer's forward and backward pass it is.
//!
//! `cargo bench -p cellnorm-mpi --features mpi` measures 2 ranks on this machine; `mpirun …
//! target/release/deps/latency-*` whichever ranks one has. Times are medians, in microseconds, of
//! the slowest rank.

use std::time::Instant;

use cellnorm::ranks::{Alone, Communicator, exchange, merge};
use cellnorm::{BatchNormConfig, Error, Moments};
use cellnorm_mpi::Mpi;
use model::{Machine, table};
use ndarray::Array4;

#[path = "../examples/cost/model.rs"]
mod model;
mod two_ranks;

const TIMES: usize = 301;
const VALUES: Moments = Moments { count: 16.0, mean: 1.0, m2: 3.0 };

fn main() {
    let Some(over) = two_ranks::start() else { return };
    let say = |line: String| {
        if over.rank() == 0 {
            println!("{line}");
        }
    };
    // as any program that has freed a large tensor, it keeps its memory from then on
    drop(std::hint::black_box(vec![1_u8; 16 << 20]));
    // the launcher is busy for a moment, on the same cores
    let start = Instant::now();
    while over
        .all_gather(&[start.elapsed().as_secs_f64()])
        .expect("all ranks")
        .into_iter()
        .fold(0.0, f64::max)
        < 1.0
    {}
    let machine = machine(&over);
    say(format!("{} ranks, microseconds", over.size()));
    say(format!("{:>9} {:>10} {:>10} {:>10}", "channels", "forward", "backward", "predicted"));
    for channels in [16, 64, 84, 256, 512, 2048, 8192] {
        let forward =
            median(&over, || drop(merge::<Error>(&over, "moments", Ok(vec![VALUES; channels]))));
        let backward =
            median(&over, || drop(exchange::<Error>(&over, "sums", Ok(vec![1.0; 3 * channels]))));
        let predicted = machine.exchange(over.size(), channels);
        say(format!("{channels:>9} {forward:>10.1} {backward:>10.1} {predicted:>10.1}"));
    }
    let Machine { latency, bandwidth, handled } = machine;
    say(format!(
        "latency {latency:.2} µs, bandwidth {:.2} GB/s, tables handled at {:.2} GB/s: --example \
         cost -- FILE {latency:.2}:{:.2}:{:.2}",
        bandwidth / 1e3,
        handled / 1e3,
        bandwidth / 1e3,
        handled / 1e3
    ));
    say(format!("\n{:>18}  {:>10} {:>10} {:>7}", "x on each rank", "alone", "over ranks", "share"));
    for shape in [[16, 64, 28, 28], [16, 2048, 7, 7]] {
        let x = Array4::<f32>::from_shape_fn(shape, |(n, c, h, w)| {
            ((n * 7 + c * 3 + h * 5 + w) % 17) as f32
        });
        let layer = BatchNormConfig::new(shape[1]).init().expect("a layer");
        let alone = median(&over, || {
            let mut layer = layer.clone();
            let (y, saved) = layer.forward(x.view()).expect("forward");
            drop(layer.backward(&saved, x.view(), y));
        });
        let joined = median(&over, || {
            let mut layer = layer.clone();
            let (y, saved) = layer.forward_over(x.view(), None, &over).expect("forward");
            drop(layer.backward_over(&saved, x.view(), y, &over));
        });
        let share = 100.0 * (joined - alone).max(0.0) / joined;
        let shape = shape.map(|len| len.to_string()).join("×");
        say(format!("{shape:>18}  {alone:>10.0} {joined:>10.0} {share:>5.0} %"));
    }
}

/// Latency by one number from each rank, bandwidth by how much longer many take, and how fast a
/// rank alone copies and merges a table.
fn machine(over: &Mpi) -> Machine {
    let gather = |numbers: usize| {
        let table = vec![1.0; numbers];
        median(over, || drop(over.all_gather(&table)))
    };
    let (others, many) = (over.size() as f64 - 1.0, 8192);
    let [short, long] = [gather(1), gather(many)];
    let bandwidth = others * 8.0 * (many - 1) as f64 / (long - short);
    let latency = short / f64::from(over.size().next_power_of_two().ilog2());
    let channels = 2048;
    let alone =
        median(over, || drop(merge::<Error>(&Alone, "moments", Ok(vec![VALUES; channels]))));
    Machine { latency, bandwidth, handled: table(channels) / alone }
}

/// The median time of some work.
fn median(over: &Mpi, mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e6
    };
    two_ranks::median(over, (0..TIMES).map(time).collect())
}
