//! Burn's and Candle's own layers beside Cellnorm: reads cases from stdin, writes a line of JSON
//! for each to stdout.
//!
//! `rust_peers PEER THREADS BUDGET` times them; `rust_peers PEER THREADS FOLDER` runs the peer
//! alone on the f32 numbers of the files x, dy, gamma and beta there, and writes y and dx beside
//! them.

mod alternate;
mod burn_layers;
mod candle_layers;
mod inputs;
mod reference;

use std::io::BufRead;
use std::path::Path;

use cellnorm::rule::Statistics;
use cellnorm_peers::case::{Case, Layout};
use cellnorm_peers::streams::{self, Stores};

use alternate::{alternate, repeated, seconds};
use inputs::{Inputs, Step, Task};

/// A case made ready by a peer: a run, whose results are dropped, and a run that gives y, and dx in
/// training.
pub struct Prepared {
    run: Box<dyn Fn()>,
    results: Box<dyn Fn() -> Vec<Vec<f32>>>,
}

/// The error that results may have and still be timed.
const LIMIT: f64 = 1e-3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [peer, threads, budget] = &arguments[..] else { panic!("rust_peers PEER THREADS BUDGET") };
    let threads = threads.parse().expect("a number of threads");
    let (folder, budget) = (Path::new(budget), budget.parse::<f64>());
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("the first pool");
    let version = version(if peer == "burn" { "burn" } else { "candle-nn" });
    println!("{{\"peer\": \"{peer}\", \"version\": \"{version}\"}}");
    for line in std::io::stdin().lock().lines() {
        let key = line.expect("text");
        let fields = Task::parse(&key).and_then(|task| match budget {
            Ok(budget) => measure(peer, &task, budget),
            Err(_) => results(peer, &task, folder),
        });
        let fields = fields.unwrap_or_else(|why| format!("\"skipped\": \"{why}\""));
        println!("{{\"key\": \"{key}\", \"peer\": \"{peer}\", {fields}}}");
    }
}

/// The version of a crate that this was built with.
fn version(name: &str) -> &'static str {
    let lock = include_str!("../../../Cargo.lock");
    let after =
        lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or_default()
}

/// The peer's results for the numbers in the folder.
fn results(peer: &str, task: &Task, folder: &Path) -> Result<String, String> {
    let inputs = Inputs::read(task, folder).map_err(|error| error.to_string())?;
    let prepared = prepare(peer, task, &inputs)?;
    for (name, values) in ["y", "dx"].iter().zip((prepared.results)()) {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(name), bytes).map_err(|error| error.to_string())?;
    }
    Ok("\"done\": true".into())
}

fn prepare(peer: &str, task: &Task, inputs: &Inputs) -> Result<Prepared, String> {
    if task.layout == Layout::Last || task.dtype != "f32" {
        return Err(format!("{peer} does not have it"));
    }
    let prepare = if peer == "burn" { burn_layers::prepare } else { candle_layers::prepare };
    prepare(task, inputs).ok_or_else(|| format!("{peer} does not have it"))
}

fn measure(peer: &str, task: &Task, budget: f64) -> Result<String, String> {
    let inputs = Inputs::new(task);
    let prepared = prepare(peer, task, &inputs)?;
    let case = Case::new(task.norm, task.layout, &task.shape, inputs::EPSILON)
        .ok_or("Cellnorm has no plan for it")?;
    let case = case.with_parameters(Some(inputs.gamma.clone()), inputs.beta.clone());
    let fixed = Statistics { mean: inputs.mean.clone(), variance: inputs.variance.clone() };
    let (mut y, mut dx) = (inputs::Aligned::new(case.len), inputs::Aligned::new(case.len));
    let (x, dy) = (inputs.x.slice(), inputs.dy.slice());
    let (y, dx) = (y.slice_mut(), dx.slice_mut());
    let own = |y: &mut [f32], dx: &mut [f32]| match task.step {
        Step::Forward => drop(std::hint::black_box(case.forward(x, y))),
        Step::Training => drop(std::hint::black_box(case.train(x, dy, y, dx))),
        Step::Inference => case.infer(x, y, &fixed),
    };
    own(y, dx);
    let expected = reference::results(task, &inputs);
    let of_ours = [&*y, &*dx]
        .into_iter()
        .zip(&expected)
        .map(|(a, b)| reference::error(a, b))
        .fold(0.0, f64::max);
    let theirs = (prepared.results)();
    let of_theirs =
        theirs.iter().zip(&expected).map(|(a, b)| reference::error(a, b)).fold(0.0, f64::max);
    drop((theirs, expected));
    if of_ours.max(of_theirs) > LIMIT || of_theirs.is_nan() {
        return Err(format!("wrong results: ours {of_ours:.1e}, {peer} {of_theirs:.1e}"));
    }
    let (mut to, mut sum) = (inputs::Aligned::new(case.len), inputs::Aligned::new(case.len));
    let mut stream = |stores: Stores| {
        streams::copy(x, to.slice_mut(), stores);
        if task.step == Step::Training {
            streams::add(x, dy, sum.slice_mut(), stores);
        }
    };
    let timing = alternate(
        |times| repeated(times, || own(y, dx)),
        |times| repeated(times, &prepared.run),
        |times| repeated(times, || stream(Stores::Streamed)),
        budget,
    );
    stream(Stores::Plain);
    let plain = (0..3).map(|_| seconds(|| stream(Stores::Plain))).fold(f64::INFINITY, f64::min);
    Ok(format!(
        "{timing}, \"plain_ms\": {}, \"ours_errors\": {{\"y\": {of_ours}}}, \"peer_errors\": {{\"y\": {of_theirs}}}",
        plain * 1e3
    ))
}
