//! The share of synchronized batch normalization in a training step over 2 ranks: a convolution,
//! the normalization, ReLU; backward, the sum of the gradients, and a step of SGD.
//!
//! `cargo bench -p cellnorm-cli --features mpi --bench ranks`. Steps with and without shared
//! statistics take turns; times are medians of the slowest rank, and an exchange is measured by
//! itself.

use std::sync::Arc;
use std::time::Instant;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm::Error;
use cellnorm::ranks::{Communicator, exchange};
use cellnorm_burn::ranks::{convert_sync_batch_norm, sum_gradients};
use cellnorm_burn::{BatchNorm, BatchNormConfig};
use cellnorm_mpi::Mpi;
use two_ranks::median;

#[path = "../../cellnorm-mpi/benches/two_ranks/mod.rs"]
mod two_ranks;

const TIMES: usize = 41;

#[derive(Module, Debug)]
struct Block {
    conv: Conv2d,
    norm: BatchNorm,
}

fn main() {
    let Some(mpi) = two_ranks::start().map(Arc::new) else { return };
    if mpi.rank() == 0 {
        println!("{} ranks, 1 thread each", mpi.size());
        println!(
            "{:>8} {:>16} {:>11} {:>12} {:>16} {:>7} {:>13}",
            "channels",
            "x on each rank",
            "step ms",
            "with sync ms",
            "2 exchanges µs",
            "share",
            "gradients ms"
        );
    }
    step(&mpi, [16, 64, 28, 28], Conv2dConfig::new([64, 64], [3, 3]));
    step(&mpi, [16, 512, 7, 7], Conv2dConfig::new([512, 2048], [1, 1]));
}

fn step(mpi: &Arc<Mpi>, shape: [usize; 4], conv: Conv2dConfig) {
    let channels = conv.channels[1];
    let device = Device::flex().autodiff();
    device.seed(1);
    let block =
        || Block { conv: conv.init(&device), norm: BatchNormConfig::new(channels).init(&device) };
    let mut blocks = [block(), convert_sync_batch_norm(block(), mpi.clone())];
    let x = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let mut optimizer = SgdConfig::new().init();
    let (mut steps, mut sums) = ([vec![], vec![]], vec![]);
    for _ in 0..TIMES {
        for (block, times) in blocks.iter_mut().zip(&mut steps) {
            let start = Instant::now();
            let y = relu(block.norm.forward(block.conv.forward(x.clone())));
            let gradients = GradientsParams::from_grads(y.mean().backward(), block);
            let sum = Instant::now();
            let gradients = sum_gradients(block, gradients, &**mpi).expect("all ranks");
            sums.push(sum.elapsed().as_secs_f64());
            *block = optimizer.step(1e-3, block.clone(), gradients);
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let exchanges = (0..TIMES).map(|_| {
        let start = Instant::now();
        for _ in 0..2 {
            exchange::<Error>(&**mpi, "a table", Ok(vec![1.0; 3 * channels])).expect("all ranks");
        }
        start.elapsed().as_secs_f64()
    });
    let exchanges = median(mpi, exchanges.collect());
    let [alone, sync] = steps.map(|times| median(mpi, times));
    let sums = median(mpi, sums);
    if mpi.rank() == 0 {
        let shape = shape.map(|len| len.to_string()).join("×");
        println!(
            "{channels:>8} {shape:>16} {:>11.2} {:>12.2} {:>16.1} {:>5.2} % {:>13.2}",
            alone * 1e3,
            sync * 1e3,
            exchanges * 1e6,
            100.0 * exchanges / sync,
            sums * 1e3
        );
    }
}
