//! Replicas that train over ranks against one process on the joined batch.

use std::sync::Arc;
use std::thread;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};
use cellnorm_burn::ranks::{Alone, Communicator, Threads, convert_sync_batch_norm, sum_gradients};
use cellnorm_burn::{BatchNorm, BatchNormConfig};

/// A network with normalizations in a part of it.
#[derive(Module, Debug)]
struct Network {
    first: Linear,
    blocks: Vec<Block>,
}

#[derive(Module, Debug)]
struct Block {
    norm: BatchNorm,
    linear: Linear,
}

impl Network {
    fn new(device: &Device) -> Self {
        let block =
            || Block { norm: BatchNormConfig::new(6).init(device), linear: LinearConfig::new(6, 6).init(device) };
        Self { first: LinearConfig::new(4, 6).init(device), blocks: vec![block(), block()] }.map(&mut Numbered(0))
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.blocks.iter().fold(self.first.forward(x), |x, block| block.linear.forward(block.norm.forward(x).tanh()))
    }
}

/// The same numbers in every thread: a seed would be the whole process's.
struct Numbered(usize);

impl ModuleMapper for Numbered {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let count = old.shape().num_elements();
            let values: Vec<f32> = (self.0..self.0 + count).map(|i| 0.5 + 0.4 * (7.0 * i as f32).sin()).collect();
            self.0 += count;
            let new = Tensor::from_data(TensorData::new(values, old.shape()), &old.device());
            if old.is_require_grad() { new.require_grad() } else { new }
        })
    }
}

/// Mean squares of the output, as a share of `samples`.
fn loss(network: &Network, x: Tensor<2>, samples: usize) -> Tensor<1> {
    network.forward(x).square().sum() / samples as f64
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// Trains a few steps on a part of each batch, and returns all parameters and running statistics.
fn train(batches: &[Vec<f32>], part: std::ops::Range<usize>, over: Option<Arc<dyn Communicator>>) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let mut network = Network::new(&device);
    if let Some(over) = &over {
        network = convert_sync_batch_norm(network, over.clone());
    }
    let mut optimizer = SgdConfig::new().init();
    for batch in batches {
        let samples = batch.len() / 4;
        let x = Tensor::<1>::from_floats(&batch[4 * part.start..4 * part.end], &device).reshape([part.len(), 4]);
        let gradients = GradientsParams::from_grads(loss(&network, x, samples).backward(), &network);
        let gradients = match &over {
            Some(over) => sum_gradients(&network, gradients, &**over).unwrap(),
            None => gradients,
        };
        network = optimizer.step(0.05, network, gradients);
    }
    let mut all = vec![numbers(network.first.weight.val())];
    for Block { norm, linear } in network.blocks {
        all.push(numbers(linear.weight.val()));
        all.extend([norm.gamma.unwrap().val(), norm.beta.unwrap().val()].map(numbers));
        all.extend([norm.running_mean.value_sync(), norm.running_var.value_sync()].map(numbers));
    }
    all
}

#[test]
fn replicas_learn_what_one_network_learns() {
    let batch = |start: usize| (start..start + 28).map(|i| 1.0 + 2.0 * (3.0 * i as f32).sin()).collect();
    let batches: Vec<Vec<f32>> = (0..4).map(|i| batch(28 * i)).collect();
    let alone = train(&batches, 0..7, None);
    for ends in [vec![0, 4, 7], vec![0, 1, 6, 7]] {
        let replicas: Vec<Vec<Vec<f32>>> = thread::scope(|scope| {
            let (batches, ends) = (&batches, &ends);
            let rank = |over: Threads| {
                let part = ends[over.rank()]..ends[over.rank() + 1];
                scope.spawn(move || train(batches, part, Some(Arc::new(over))))
            };
            let threads: Vec<_> = Threads::split(ends.len() - 1).into_iter().map(rank).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for replica in &replicas {
            assert_eq!(replica, &replicas[0], "the same bits on every rank");
            for (ours, expected) in replica.iter().flatten().zip(alone.iter().flatten()) {
                assert!((ours - expected).abs() < 2e-6, "{ours} and {expected}");
            }
        }
    }
}

/// y and dx of one layer on parts of a batch, an empty one among them.
#[test]
fn a_layer_over_ranks_is_the_layer_on_the_joined_batch() {
    let plain = Device::flex();
    let numbered = |of: fn(f32) -> f32| {
        let values: Vec<f32> = (0..90).map(|i| of(i as f32)).collect();
        Tensor::<1>::from_floats(values.as_slice(), &plain).reshape([6, 3, 5])
    };
    let (x, dy) = (numbered(|i| 50.0 + 3.0 * (7.0 * i).sin()), numbered(|i| (5.0 * i).cos()));
    let step = |rows: std::ops::Range<usize>, over: Option<Arc<dyn Communicator>>| {
        let device = Device::flex().autodiff();
        let mut layer = BatchNormConfig::new(3).init(&device);
        if let Some(over) = over {
            layer = convert_sync_batch_norm(layer, over);
        }
        let part = |of: &Tensor<3>| Tensor::<3>::from_data(of.clone().slice(rows.clone()).into_data(), &device);
        let x = part(&x).require_grad();
        let y = layer.forward(x.clone());
        let gradients = (y.clone() * part(&dy)).sum().backward();
        [numbers(y), numbers(x.grad(&gradients).unwrap()), numbers(layer.running_var.value_sync())]
    };
    let plain = step(0..6, None);
    let alone = step(0..6, Some(Arc::new(Alone)));
    let (step, ends) = (&step, [0, 2, 2, 6]);
    let parts: Vec<_> = thread::scope(|scope| {
        let rank = |over: Threads| {
            let rows = ends[over.rank()]..ends[over.rank() + 1];
            scope.spawn(move || step(rows, Some(Arc::new(over))))
        };
        let threads: Vec<_> = Threads::split(3).into_iter().map(rank).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let worst = |ours: Vec<f32>, expected: &[f32]| {
        assert_eq!(ours.len(), expected.len());
        let most = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        ours.iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs() / most)
            .fold(0.0, |worst, d| if d <= worst { worst } else { d })
    };
    let joined = |of: usize| parts.iter().flat_map(|part| part[of].clone()).collect();
    // the plain layer adds up in f32 what lies side by side: several samples, which is another rounding
    for ([y, dx, variance], bar) in [(&alone, 0.5 * f32::EPSILON), (&plain, 2.0 * f32::EPSILON)] {
        assert!(worst(joined(0), y) <= bar);
        assert!(worst(joined(1), dx) <= bar);
        for [_, _, ours] in &parts {
            assert_eq!(ours, &parts[0][2]);
            assert!(worst(ours.clone(), variance) <= bar);
        }
    }
}

#[test]
fn in_inference_nothing_is_exchanged() {
    let [one, other] = <[Threads; 2]>::try_from(Threads::split(2)).unwrap();
    drop(other);
    let device = Device::flex();
    let layer = convert_sync_batch_norm(BatchNormConfig::new(2).init(&device), Arc::new(one));
    let y = layer.forward(Tensor::<2>::ones([3, 2], &device));
    assert!(numbers(y).iter().all(|y| (y - 1.0).abs() < 1e-4));
}

#[test]
#[should_panic(expected = "rank 1 is gone")]
fn a_rank_that_is_gone_ends_the_others() {
    let [one, other] = <[Threads; 2]>::try_from(Threads::split(2)).unwrap();
    drop(other);
    let device = Device::flex().autodiff();
    let layer = convert_sync_batch_norm(BatchNormConfig::new(2).init(&device), Arc::new(one));
    layer.forward(Tensor::<2>::ones([3, 2], &device));
}

#[test]
fn statistics_that_are_asked_for_are_those_of_all_ranks() {
    let values = [[1.0, 3.0], [5.0, 7.0]];
    let found: Vec<[Vec<f32>; 2]> = thread::scope(|scope| {
        let rank = |over: Threads| {
            scope.spawn(move || {
                let device = Device::flex().autodiff();
                let x = Tensor::<1>::from_floats(values[over.rank()], &device).reshape([2, 1]);
                let layer = convert_sync_batch_norm(BatchNormConfig::new(1).init(&device), Arc::new(over));
                let (_, mean, variance) = layer.forward_with_statistics(x);
                [mean, variance].map(|of| of.into_data().iter::<f32>().collect())
            })
        };
        let threads: Vec<_> = Threads::split(2).into_iter().map(rank).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(found, [[vec![4.0], vec![5.0]], [vec![4.0], vec![5.0]]]);
}
