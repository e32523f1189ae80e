//! Real ranks: this program starts itself under `mpirun`, with each number of ranks and with ranks
//! that fail.
//!
//! `cargo test -p cellnorm-mpi --features mpi --test mpi`

use std::io::Read;
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cellnorm::ranks::{Communicator, exchange};
use cellnorm::{BatchNorm, BatchNormConfig, Error};
use cellnorm_mpi::{Mpi, launched};
use ndarray::{Array3, s};

/// The case that the ranks run.
const CASE: &str = "CELLNORM_MPI_CASE";
/// After this long, a rank hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    match std::env::var(CASE).ok().as_deref() {
        None => start(),
        Some("batch") => {
            let over = Mpi::start().expect("MPI");
            batch(&over);
            collectives(&over);
        }
        Some("differ") => differ(&Mpi::start().expect("MPI")),
        Some("panic") => panic_on_one(&Mpi::start().expect("MPI")),
        Some("killed") => killed(&Mpi::start().expect("MPI")),
        Some(other) => panic!("no case is named {other}"),
    }
}

/// Runs each case.
fn start() {
    assert_eq!(launched(), None, "start this test without a launcher");
    for ranks in 1..=4 {
        let Ended { good, said, .. } = mpirun("batch", ranks);
        assert!(good, "{ranks} ranks: {said}");
    }
    let Ended { good, said, .. } = mpirun("differ", 3);
    assert!(
        !good && said.contains("rank 2 at the forward pass of batch normalization of 3 channels"),
        "{said}"
    );
    let Ended { good, said, .. } = mpirun("panic", 3);
    assert!(!good && said.contains("rank 1 gives up"), "{said}");
    let Ended { good, said, .. } = mpirun("killed", 3);
    assert!(!good && said.contains("signal 9"), "{said}");
    println!("test result: ok. 7 runs under mpirun");
}

struct Ended {
    good: bool,
    said: String,
}

/// Runs this program on so many ranks.
fn mpirun(case: &str, ranks: usize) -> Ended {
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new("mpirun")
        .args([
            "--oversubscribe",
            "--allow-run-as-root",
            "--bind-to",
            "none",
            "--mca",
            "mpi_yield_when_idle",
            "1",
        ])
        .args(["-n", &ranks.to_string()])
        .arg(program)
        .env(CASE, case)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mpirun, from the package openmpi-bin");
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if start.elapsed() > PATIENCE => {
                let _ = child.kill();
                panic!("{case} on {ranks} ranks hangs");
            }
            None => sleep(Duration::from_millis(20)),
        }
    };
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    Ended { good: status.success(), said }
}

/// The whole batch, the same on every rank: 7 samples of 2 channels.
fn numbers(of: usize) -> Array3<f32> {
    Array3::from_shape_fn((7, 2, 5), |(n, c, i)| {
        100.0 + ((n * 31 + c * 17 + i * 7 + of) % 13) as f32
    })
}

fn layer() -> BatchNorm {
    let mut layer = BatchNormConfig::new(2).init().expect("a layer");
    layer.gamma = Some(ndarray::arr1(&[0.5, 2.0]).into_dyn());
    layer
}

/// Uneven parts, with no sample at all on rank 1 where there are more than two: as one process on
/// the joined batch, to one unit in the last place of f32: of y, of the term γ · rstd · dy of dx,
/// and of Σ |dy · x̂| for dγ, since dy is about 100 and these terms cancel.
fn batch(over: &Mpi) {
    let (x, dy) = (numbers(0), numbers(3));
    let ends = match over.size() {
        1 => vec![0, 7],
        2 => vec![0, 5, 7],
        3 => vec![0, 3, 3, 7],
        _ => vec![0, 1, 1, 3, 7],
    };
    let own = s![ends[over.rank()]..ends[over.rank() + 1], .., ..];
    let (mut ours, mut alone) = (layer(), layer());
    let (y, saved) = ours.forward_over(x.slice(own), None, over).expect("a forward pass");
    let gradients =
        ours.backward_over(&saved, x.slice(own), dy.slice(own), over).expect("a backward pass");
    let (expected_y, expected) = alone.forward(x.view()).expect("a forward pass");
    let expected = alone.backward(&expected, x.view(), dy.view()).expect("a backward pass");

    let rstd = saved.statistics.variance.iter().map(|variance| (variance + 1e-5).sqrt().recip());
    let largest_dy = f64::from(dy.iter().fold(0.0, |largest: f32, dy| largest.max(dy.abs())));
    let dx_term = 2.0 * rstd.fold(0.0, f64::max) * largest_dy;
    let units = |ours: f64, expected: f64, term: f64| {
        (ours - expected).abs() / (f64::from(f32::EPSILON) * expected.abs().max(term))
    };
    for (ours, expected, term) in [(&y, &expected_y, 1.0), (&gradients.dx, &expected.dx, dx_term)] {
        let worst = ours
            .iter()
            .zip(expected.slice(own))
            .map(|(a, b)| units((*a).into(), (*b).into(), term))
            .fold(0.0, |worst, units| if units <= worst { worst } else { units });
        assert!(worst <= 1.0, "rank {}: {worst} units", over.rank());
    }
    let mut tables = [gradients.dgamma, gradients.dbeta]
        .map(|of| of.expect("trained").into_raw_vec_and_offset().0)
        .concat();
    over.sum(&mut tables).expect("a sum");
    let running = ours.running.as_ref().unwrap();
    tables.extend(running.mean.iter().chain(&running.variance));
    let joined = [expected.dgamma, expected.dbeta]
        .map(|of| of.expect("trained").into_raw_vec_and_offset().0)
        .concat();
    let running = alone.running.as_ref().unwrap();
    let joined = joined.iter().chain(&running.mean).chain(&running.variance);
    // 35 values a channel, and x̂ is about 1
    let terms = [35.0 * largest_dy; 2].into_iter().chain(std::iter::repeat(1.0));
    assert!(tables.iter().zip(joined).zip(terms).all(|((a, b), term)| units(*a, *b, term) <= 1.0));
    let all = exchange::<Error>(over, "the tables", Ok(tables.clone())).expect("all ranks");
    assert!(all.iter().all(|of| *of == tables), "other bits on another rank");
}

/// A sum is that in the order of ranks, to the bit, and long tables come through.
fn collectives(over: &Mpi) {
    for len in [1, 3, 1000] {
        let own = |rank: usize| {
            (0..len).map(move |i| ((1 + rank * len + i) as f64).sin() * 10_f64.powi(rank as i32))
        };
        let mut sum: Vec<f64> = own(over.rank()).collect();
        over.sum(&mut sum).expect("a sum");
        let in_order = |i: usize| {
            (1..over.size()).fold(own(0).nth(i), |sum, rank| Some(sum? + own(rank).nth(i)?))
        };
        assert!(
            (0..len).all(|i| in_order(i).map(f64::to_bits) == Some(sum[i].to_bits())),
            "{len} numbers"
        );
    }
    // as long as several messages
    let long = exchange::<Error>(over, "many numbers", Ok(vec![over.rank() as f64; 100_000]))
        .expect("all ranks");
    assert!(long.iter().enumerate().all(|(rank, of)| of.iter().all(|value| *value == rank as f64)));
}

/// The last rank has a layer of its own.
fn differ(over: &Mpi) {
    let channels = if over.rank() + 1 == over.size() { 3 } else { 2 };
    let x = Array3::<f32>::ones((2, channels, 4));
    let error = BatchNormConfig::new(channels)
        .init()
        .and_then(|mut layer| layer.forward_over(x.view(), None, over))
        .err();
    let Some(error @ Error::RanksDiffer { .. }) = error else { panic!("{error:?}") };
    if over.rank() == 0 {
        eprintln!("{error}");
    } else {
        // the first rank that fails ends all others, before they have said anything
        sleep(PATIENCE);
    }
    exit(2);
}

fn panic_on_one(over: &Mpi) {
    assert_ne!(over.rank(), 1, "rank 1 gives up");
    let _ = layer().forward_over(numbers(0).view(), None, over);
}

fn killed(over: &Mpi) {
    if over.rank() == 1 {
        let _ =
            Command::new("sh").args(["-c", &format!("kill -9 {}", std::process::id())]).status();
        sleep(PATIENCE);
    }
    let _ = layer().forward_over(numbers(0).view(), None, over);
}
