//! A training step of each layer, forward and backward, against Burn's own layer on the same
//! device.
//!
//! Run it with `cargo bench --workspace --bench against_burn`. Blocks of steps alternate in one
//! run, because the machine's speed drifts; the ratio is the median of the blocks' ratios. What is
//! timed is the layer's share of the step, fresh buffers included. Bytes are the least a step must
//! move (x read and y written forward; x and dy read, dx written backward), and the copy beside
//! them moves as many bytes through the same number of threads.

use std::hint::black_box;
use std::time::Instant;

use burn::nn;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm_burn as ours;
use cellnorm_burn::stopwatch::{Lap, Stopwatch};
use rayon::prelude::*;

const PAIRS: usize = 9;
/// Steps of one library before it is the other's turn: a training loop does not change libraries at
/// every step.
const STEPS: usize = 5;

fn main() {
    let device = Device::flex().autodiff();
    println!(
        "forward + backward, f32, {} threads, medians of {PAIRS} alternating blocks of {STEPS} \
         steps",
        rayon::current_num_threads()
    );
    println!(
        "{:<10} {:<14} {:>9} {:>9} {:>7} {:>7} {:>14}",
        "layer", "shape", "Burn ms", "ours ms", "ratio", "GB/s", "share of copy"
    );
    for shape in [[64, 16, 112, 112], [32, 64, 56, 56]] {
        let channels = shape[1];
        let (own, peer) = (
            ours::BatchNormConfig::new(channels).init(&device),
            nn::BatchNormConfig::new(channels).init(&device),
        );
        compare("batch", shape, |x| own.forward(x), |x| peer.forward(x), &device);
        let (own, peer) = (
            ours::GroupNormConfig::new(4, channels).init(&device),
            nn::GroupNormConfig::new(4, channels).init(&device),
        );
        compare("group", shape, |x| own.forward(x), |x| peer.forward(x), &device);
        let (own, peer) = (
            ours::InstanceNormConfig::new(channels).init(&device),
            nn::InstanceNormConfig::new(channels).init(&device),
        );
        compare("instance", shape, |x| own.forward(x), |x| peer.forward(x), &device);
    }
    let shape = [8, 512, 768];
    let (own, peer) = (
        ours::LayerNormConfig::new(768).init(&device),
        nn::LayerNormConfig::new(768).init(&device),
    );
    compare("layer", shape, |x| own.forward(x), |x| peer.forward(x), &device);
    let (own, peer) =
        (ours::RmsNormConfig::new(768).init(&device), nn::RmsNormConfig::new(768).init(&device));
    compare("rms", shape, |x| own.forward(x), |x| peer.forward(x), &device);
}

fn compare<const D: usize>(
    name: &str,
    shape: [usize; D],
    own: impl Fn(Tensor<D>) -> Tensor<D>,
    peer: impl Fn(Tensor<D>) -> Tensor<D>,
    device: &Device,
) {
    let x = Tensor::<D>::random(shape, Distribution::Normal(0.5, 2.0), device).require_grad();
    assert_same(&x, &own, &peer);
    let bytes = 5 * 4 * shape.iter().product::<usize>();
    let mut copier = Copier::new(bytes / 2);
    let (mut ours, mut theirs, mut ratios, mut copies) = (vec![], vec![], vec![], vec![]);
    for _ in 0..PAIRS {
        let peer_time = lap(&x, &peer);
        let own_time = lap(&x, &own);
        theirs.push(peer_time);
        ours.push(own_time);
        ratios.push(peer_time / own_time);
        copies.push(copier.seconds());
    }
    let (theirs, ours, ratio, copy) =
        (median(theirs), median(ours), median(ratios), median(copies));
    let shape = shape.map(|len| len.to_string()).join("×");
    println!(
        "{name:<10} {shape:<14} {:>9.2} {:>9.2} {ratio:>6.1}x {:>7.1} {:>13.0}%",
        theirs * 1e3,
        ours * 1e3,
        bytes as f64 / ours / 1e9,
        100.0 * copy / ours,
    );
}

/// Before a layer is timed, its output and gradient must be those of the other.
fn assert_same<const D: usize>(
    x: &Tensor<D>,
    own: impl Fn(Tensor<D>) -> Tensor<D>,
    peer: impl Fn(Tensor<D>) -> Tensor<D>,
) {
    let (a, b) = (own(x.clone()), peer(x.clone()));
    let error = (a.clone() - b.clone()).abs().max().into_scalar::<f32>();
    assert!(error < 1e-3, "outputs differ by {error}");
    let gradient = |y: Tensor<D>| {
        x.grad(&(y.clone() * y.sin()).sum().backward()).expect("x requires a gradient")
    };
    let error = (gradient(a) - gradient(b)).abs().max().into_scalar::<f32>();
    assert!(error < 1e-3, "gradients differ by {error}");
}

/// Seconds that the layer takes in a training step, the mean of a block: the forward call, and its
/// part of the backward pass.
fn lap<const D: usize>(x: &Tensor<D>, layer: impl Fn(Tensor<D>) -> Tensor<D>) -> f64 {
    let step = |_| {
        let (y, (), stopwatch) = Stopwatch::run(x.clone(), |x| (layer(x), ()));
        black_box(x.grad(&y.backward()));
        let Lap { forward, backward } = stopwatch.read().expect("the gradient passed the layer");
        (forward + backward).as_secs_f64()
    };
    (0..STEPS).map(step).sum::<f64>() / STEPS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Copies between two warm buffers: `bytes` read and `bytes` written.
struct Copier {
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Copier {
    fn new(bytes: usize) -> Self {
        Self { from: vec![1; bytes], to: vec![0; bytes] }
    }

    fn seconds(&mut self) -> f64 {
        let start = Instant::now();
        let part = self.from.len().div_ceil(rayon::current_num_threads());
        self.to
            .par_chunks_mut(part)
            .zip(self.from.par_chunks(part))
            .for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&self.to);
        start.elapsed().as_secs_f64()
    }
}
