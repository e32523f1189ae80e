//! The most memory that a training step of each layer holds at once, against Burn's own layer.
//!
//! Run it with `cargo bench --workspace --bench peak_memory`. x, its weights in the loss and the
//! parameters are there before and do not count; y, all that the layer saves, dy and dx do, and so
//! do outputs that wait to be used again. A tensor is one copy of x. Bytes are counted where they
//! are allocated, so every run shows the same numbers, but for what threads add.

mod counting;

use burn::nn;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm_burn as ours;
use counting::peak_bytes;

const SHAPE: [usize; 4] = [32, 64, 56, 56];

fn main() {
    let device = Device::flex().autodiff();
    let shape = SHAPE.map(|len| len.to_string()).join("×");
    println!("peak memory of a training step, f32, {shape}: MiB, and as copies of x");
    println!(
        "{:<10} {:>9} {:>8} {:>9} {:>8} {:>7}",
        "layer", "Burn MiB", "tensors", "ours MiB", "tensors", "ratio"
    );
    let own = ours::BatchNormConfig::new(64).init(&device);
    let peer = nn::BatchNormConfig::new(64).init(&device);
    compare("batch", |x| own.forward(x), |x| peer.forward(x), &device);
    let own = ours::GroupNormConfig::new(4, 64).init(&device);
    let peer = nn::GroupNormConfig::new(4, 64).init(&device);
    compare("group", |x| own.forward(x), |x| peer.forward(x), &device);
    let own = ours::InstanceNormConfig::new(64).init(&device);
    let peer = nn::InstanceNormConfig::new(64).init(&device);
    compare("instance", |x| own.forward(x), |x| peer.forward(x), &device);
    let own = ours::LocalResponseNormConfig::new(5).init();
    let peer = nn::LocalResponseNormConfig::new(5).init();
    compare("local-resp", |x| own.forward(x), |x| peer.forward(x), &device);
}

fn compare(
    name: &str,
    own: impl Fn(Tensor<4>) -> Tensor<4>,
    peer: impl Fn(Tensor<4>) -> Tensor<4>,
    device: &Device,
) {
    let x = Tensor::<4>::random(SHAPE, Distribution::Normal(0.5, 2.0), device).require_grad();
    let weights = Tensor::<4>::random(SHAPE, Distribution::Default, device);
    let step = |layer: &dyn Fn(Tensor<4>) -> Tensor<4>| {
        let y = layer(x.clone());
        let gradients = (y * weights.clone()).sum().backward();
        std::hint::black_box(x.grad(&gradients));
    };
    let (theirs, ours) = (peak_bytes(|| step(&peer)), peak_bytes(|| step(&own)));
    let of_x = (4 * SHAPE.iter().product::<usize>()) as f64;
    let (mib, tensors) =
        (|bytes: usize| bytes as f64 / 1048576.0, |bytes: usize| bytes as f64 / of_x);
    println!(
        "{name:<10} {:>9.1} {:>8.1} {:>9.1} {:>8.1} {:>6.1}x",
        mib(theirs),
        tensors(theirs),
        mib(ours),
        tensors(ours),
        theirs as f64 / ours as f64
    );
}
