//! The passes against the memory: each normalization, forward and backward, as a share of what a
//! copy of the same size reaches.
//!
//! `cargo bench -p cellnorm --bench bandwidth [-- [--threads N] [--rounds N] [FILTER]]`
//!
//! Bytes are the least that must move: x read and y written forward, x and dy read and dx written
//! backward. The yardsticks move just these, with stores that stream past the caches, in the same
//! buffers and in the same run: a copy forward, a sum of two buffers backward. Blocks of each
//! alternate, because the speed of a shared machine drifts; shares are medians of the blocks'.

use std::hint::black_box;
use std::time::Instant;

use cellnorm::kernels::Buffers;
use cellnorm::rule::ClosedForm;
use cellnorm::{
    kernels::Parameters,
    rule::Statistics,
    shape::{Axis, Centering, Plan},
};

mod yardstick;

/// The time that one side of a block takes at least.
const BLOCK_SECONDS: f64 = 0.01;
const GROUPS: usize = 32;

struct Case {
    norm: &'static str,
    shape: Vec<usize>,
    layout: &'static str,
    plan: Plan,
    centering: Centering,
}

fn main() {
    let options = Options::parse();
    if let Some(threads) = options.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .expect("no pool is there yet");
    }
    println!(
        "{} threads, {}, f32, medians of {} blocks",
        rayon::current_num_threads(),
        cellnorm::kernels::instruction_set(),
        options.rounds
    );
    let pass = |name: &str| format!("{name:>11} {:>8} {:>7}   ", "of copy", "GB/s");
    let [forward, backward] = ["forward µs", "backward µs"].map(pass);
    println!("{:<9} {:<15} {:<6} {:>7} {forward}{backward}", "norm", "shape", "layout", "MB");
    for case in cases() {
        let name = format!("{} {} {}", case.norm, joined(&case.shape), case.layout);
        if options.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            run(&case, options.rounds);
        }
    }
}

fn run(case: &Case, rounds: usize) {
    let len: usize = case.shape.iter().product();
    let values = |seed: u32| -> Vec<f32> {
        (0..len as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) as f32 / 8e6 - 1.0)
            .collect()
    };
    let (x, dy) = (values(1), values(77));
    let (mut y, mut dx) = (Vec::with_capacity(len), Vec::with_capacity(len));
    let channels = case.plan.channels();
    let gamma: Vec<f64> = (0..channels).map(|i| 1.0 + i as f64 * 1e-3).collect();
    let beta = vec![0.5; channels];
    let has_beta = case.centering == Centering::Mean;
    let parameters = Parameters {
        gamma: Some(&gamma),
        beta: has_beta.then_some(&beta),
        ..Parameters::default()
    };
    let form = ClosedForm { centering: case.centering, epsilon: 1e-5, parameters };
    let mut statistics = Statistics::default();
    let fixed =
        Statistics { mean: vec![0.1; case.plan.sets()], variance: vec![0.4; case.plan.sets()] };
    let inference = case.norm == "inference";
    let mut forward = || {
        if inference {
            case.plan.forward_fixed(Buffers::Into(&x, &mut y), &fixed, form);
        } else {
            statistics = case.plan.forward(Buffers::Into(&x, &mut y), form);
        }
    };
    let mut target = vec![0.0_f32; len];
    let mut copy = || yardstick::copy(&x, &mut target);
    let [f, c] = alternate(rounds, [&mut forward, &mut copy]);
    let mut line = report(len * 8, &f, &c);
    if !inference {
        let mut backward = || {
            let buffers = Buffers::Into(&dy, &mut dx);
            black_box(case.plan.backward(&x, buffers, &statistics, form, false));
        };
        let mut add = || yardstick::add(&x, &dy, &mut target);
        let [b, a] = alternate(rounds, [&mut backward, &mut add]);
        line += &report(len * 12, &b, &a);
    }
    println!(
        "{:<9} {:<15} {:<6} {:>7.1} {line}",
        case.norm,
        joined(&case.shape),
        case.layout,
        len as f64 * 4.0 / 1e6
    );
}

/// Time, share of the yardstick's speed, and bytes over time of one pass.
fn report(bytes: usize, ours: &[f64], yardstick: &[f64]) -> String {
    let shares = ours.iter().zip(yardstick).map(|(ours, yardstick)| yardstick / ours).collect();
    let seconds = median(ours.to_vec());
    format!(
        "{:>11.2} {:>6.0} % {:>7.1}   ",
        seconds * 1e6,
        100.0 * median(shares),
        bytes as f64 / seconds / 1e9
    )
}

/// Seconds a call of each, in alternating blocks.
fn alternate(rounds: usize, mut sides: [&mut dyn FnMut(); 2]) -> [Vec<f64>; 2] {
    let calls = sides.each_mut().map(|side| {
        side();
        let start = Instant::now();
        side();
        (BLOCK_SECONDS / start.elapsed().as_secs_f64()).ceil().clamp(3.0, 1e6) as usize
    });
    let mut seconds = [vec![], vec![]];
    for _ in 0..rounds {
        for (side, of) in sides.iter_mut().zip(0..) {
            side();
            let start = Instant::now();
            for _ in 0..calls[of] {
                side();
            }
            seconds[of].push(start.elapsed().as_secs_f64() / calls[of] as f64);
        }
    }
    seconds
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn joined(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for shape in [[64, 16, 112, 112], [32, 64, 56, 56], [32, 256, 14, 14], [8, 512, 7, 7]] {
        for layout in ["first", "last"] {
            for norm in ["batch", "group", "instance", "inference"] {
                cases.push(image(norm, shape, layout));
            }
        }
    }
    for (norm, centering) in [("layer", Centering::Mean), ("rms", Centering::Zero)] {
        for shape in [&[8, 512, 768][..], &[1, 2048, 4096], &[64, 128, 1024], &[16, 256], &[1, 768]]
        {
            let axes =
                Axis::row_major(shape, |axis| (axis + 1 == shape.len(), axis + 1 == shape.len()));
            let plan = Plan::new(&axes).expect("rows");
            cases.push(Case { norm, shape: shape.to_vec(), layout: "rows", plan, centering });
        }
    }
    cases
}

fn image(norm: &'static str, [n, c, h, w]: [usize; 4], layout: &'static str) -> Case {
    let groups = if c % GROUPS == 0 { GROUPS } else { 4 };
    let memory = if layout == "first" { [n, c, h, w] } else { [n, h, w, c] };
    let channel = if layout == "first" { 1 } else { 3 };
    let axes = Axis::row_major(&memory, |axis| {
        let shared = match norm {
            "batch" | "inference" => axis != channel,
            _ => axis != 0 && axis != channel,
        };
        (shared, axis == channel)
    });
    let axes = axes.into_iter().enumerate().flat_map(|(at, axis)| match norm {
        "group" if at == channel => axis.grouped(groups).to_vec(),
        _ => vec![axis],
    });
    let plan = Plan::new(&axes.collect::<Vec<_>>()).expect("a plan");
    Case { norm, shape: vec![n, c, h, w], layout, plan, centering: Centering::Mean }
}

struct Options {
    threads: Option<usize>,
    rounds: usize,
    filter: Option<String>,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { threads: None, rounds: 9, filter: None };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number =
                || args.next().and_then(|n| n.parse().ok()).expect("a number after the option");
            match arg.as_str() {
                "--threads" => options.threads = Some(number()),
                "--rounds" => options.rounds = number(),
                "--bench" => {}
                filter => options.filter = Some(filter.to_owned()),
            }
        }
        options
    }
}
