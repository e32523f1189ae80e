//! A training loop of 20 steps of one layer from a cold start, with and without buffers that come
//! back, against Burn's own layer.
//!
//! Run it with `cargo bench --workspace --bench loop20`, or `… -- --json` for numbers to compute
//! with. Every line of the table is a program of its own, so that its first step is the first of
//! all: threads are not awake, and no memory is there yet. A step is the forward call,
//! `y.backward()` (dy is 1), and taking dx.

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use burn::nn;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm_burn::{self as ours, keep_buffers};
use serde_json::{Value, json};

const STEPS: usize = 20;
const IMAGES: [usize; 4] = [64, 16, 112, 112];
const WORDS: [usize; 3] = [8, 512, 768];

const LAYERS: [&str; 3] = ["batch", "group", "layer"];
const VARIANTS: [&str; 3] = ["Burn", "ours, fresh", "ours, reused"];

/// Which line of the table a program of this benchmark is: layer, variant.
const LINE: &str = "CELLNORM_LOOP20_LINE";

fn main() {
    if let Ok(line) = std::env::var(LINE) {
        let (layer, variant) = line.split_once(':').expect("layer:variant");
        let times = run(layer, variant);
        println!("{}", json!(times));
        return;
    }
    let lines =
        LAYERS.iter().flat_map(|layer| VARIANTS.iter().map(move |variant| line(layer, variant)));
    if std::env::args().any(|argument| argument == "--json") {
        println!(
            "{}",
            json!({ "threads": rayon::current_num_threads(), "lines": lines.collect::<Vec<_>>() })
        );
        return;
    }
    println!(
        "{STEPS} training steps from a cold start, f32, {} threads, milliseconds",
        rayon::current_num_threads()
    );
    println!(
        "{:<8} {:<14} {:<14} {:>9} {:>9} {:>9}",
        "layer", "shape", "variant", "first", "median", "total"
    );
    for line in lines {
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| line[key].as_f64().unwrap_or_default();
        println!(
            "{:<8} {:<14} {:<14} {:>9.2} {:>9.2} {:>9.1}",
            text("layer"),
            text("shape"),
            text("variant"),
            number("first_ms"),
            number("median_ms"),
            number("total_ms")
        );
    }
}

/// Runs a line as a program of its own.
fn line(layer: &str, variant: &str) -> Value {
    let program = std::env::current_exe().expect("the path of this program");
    let output =
        Command::new(program).env(LINE, format!("{layer}:{variant}")).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let steps: Vec<f64> = serde_json::from_slice(&output.stdout).expect("times of the steps");
    let shape: &[usize] = if layer == "layer" { &WORDS } else { &IMAGES };
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    let mut rest = steps[1..].to_vec();
    rest.sort_by(f64::total_cmp);
    json!({
        "layer": layer,
        "shape": shape.join("×"),
        "variant": variant,
        "first_ms": steps[0],
        "median_ms": rest[rest.len() / 2],
        "total_ms": steps.iter().sum::<f64>(),
        "steps_ms": steps,
    })
}

/// Milliseconds of each step.
fn run(layer: &str, variant: &str) -> Vec<f64> {
    let device = &Device::flex().autodiff();
    if variant == "ours, fresh" {
        keep_buffers(0);
    }
    let channels = IMAGES[1];
    match (layer, variant) {
        ("batch", "Burn") => {
            let layer = nn::BatchNormConfig::new(channels).init(device);
            steps(IMAGES, |x| layer.forward(x), device)
        }
        ("batch", _) => {
            let layer = ours::BatchNormConfig::new(channels).init(device);
            steps(IMAGES, |x| layer.forward(x), device)
        }
        ("group", "Burn") => {
            let layer = nn::GroupNormConfig::new(4, channels).init(device);
            steps(IMAGES, |x| layer.forward(x), device)
        }
        ("group", _) => {
            let layer = ours::GroupNormConfig::new(4, channels).init(device);
            steps(IMAGES, |x| layer.forward(x), device)
        }
        (_, "Burn") => {
            let layer = nn::LayerNormConfig::new(WORDS[2]).init(device);
            steps(WORDS, |x| layer.forward(x), device)
        }
        _ => {
            let layer = ours::LayerNormConfig::new(WORDS[2]).init(device);
            steps(WORDS, |x| layer.forward(x), device)
        }
    }
}

fn steps<const D: usize>(
    shape: [usize; D],
    layer: impl Fn(Tensor<D>) -> Tensor<D>,
    device: &Device,
) -> Vec<f64> {
    let x = Tensor::<D>::random(shape, Distribution::Normal(0.5, 2.0), device).require_grad();
    let step = |_| {
        let start = Instant::now();
        let gradients = layer(x.clone()).backward();
        black_box(x.grad(&gradients));
        drop(gradients);
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..STEPS).map(step).collect()
}
