//! Replicas that train over ranks against one process on the joined batch.

use std::sync::Arc;
use std::thread;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use cellnorm_burn::cellnorm::momentum::{OneValue, StatisticsFrom};
use cellnorm_burn::cellnorm::shape::Excluded;
use cellnorm_burn::ranks::{Alone, Communicator, Threads, convert_sync_batch_norm, sum_gradients};
use cellnorm_burn::{BatchNorm, BatchNormConfig, recalibrate};

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
        let block = || Block {
            norm: BatchNormConfig::new(6).init(device),
            linear: LinearConfig::new(6, 6).init(device),
        };
        Self { first: LinearConfig::new(4, 6).init(device), blocks: vec![block(), block()] }
            .map(&mut Numbered(0))
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.blocks.iter().fold(self.first.forward(x), |x, block| {
            block.linear.forward(block.norm.forward(x).tanh())
        })
    }
}

/// The same numbers in every thread: a seed would be the whole process's.
struct Numbered(usize);

impl ModuleMapper for Numbered {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|old| {
            let count = old.shape().num_elements();
            let values: Vec<f32> =
                (self.0..self.0 + count).map(|i| 0.5 + 0.4 * (7.0 * i as f32).sin()).collect();
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
fn train(
    batches: &[Vec<f32>],
    part: std::ops::Range<usize>,
    over: Option<Arc<dyn Communicator>>,
) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let mut network = Network::new(&device);
    if let Some(over) = &over {
        network = convert_sync_batch_norm(network, over.clone());
    }
    let mut optimizer = SgdConfig::new().init();
    for batch in batches {
        let samples = batch.len() / 4;
        let x = Tensor::<1>::from_floats(&batch[4 * part.start..4 * part.end], &device)
            .reshape([part.len(), 4]);
        let gradients =
            GradientsParams::from_grads(loss(&network, x, samples).backward(), &network);
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
    let batch =
        |start: usize| (start..start + 28).map(|i| 1.0 + 2.0 * (3.0 * i as f32).sin()).collect();
    let batches: Vec<Vec<f32>> = (0..4).map(|i| batch(28 * i)).collect();
    let alone = train(&batches, 0..7, None);
    for ends in [vec![0, 4, 7], vec![0, 1, 6, 7]] {
        let replicas = on_ranks(ends.len() - 1, |over| {
            let part = ends[over.rank()]..ends[over.rank() + 1];
            train(&batches, part, Some(Arc::new(over)))
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
fn a_layer_over_ranks_is_the_layer_on_the_joined_batch(excluded: Option<Excluded>) {
    let masked = excluded.is_some();
    let plain = Device::flex();
    let numbered = |of: &dyn Fn(f32) -> f32| {
        let values: Vec<f32> = (0..90).map(|i| of(i as f32)).collect();
        Tensor::<1>::from_floats(values.as_slice(), &plain).reshape([6, 3, 5])
    };
    // what is masked may hold anything, unless it is normalized as well
    let odd = if excluded == Some(Excluded::Normalized) { 1.0 } else { f32::NAN };
    let valid = |i: f32| !masked || (11.0 * i).sin() > -0.4 && !(15.0..30.0).contains(&i);
    let x = numbered(&|i| if valid(i) { 50.0 + 3.0 * (7.0 * i).sin() } else { odd });
    let (dy, mask) = (numbered(&|i| (5.0 * i).cos()), numbered(&|i| f32::from(valid(i))));
    let step = |rows: std::ops::Range<usize>, over: Option<Arc<dyn Communicator>>| {
        let device = Device::flex().autodiff();
        let config = BatchNormConfig::new(3).with_excluded(excluded.unwrap_or_default());
        let mut layer = config.init(&device);
        if let Some(over) = over {
            layer = convert_sync_batch_norm(layer, over);
        }
        let part = |of: &Tensor<3>| {
            Tensor::<3>::from_data(of.clone().slice(rows.clone()).into_data(), &device)
        };
        let x = part(&x).require_grad();
        let y = if masked {
            layer.forward_masked(x.clone(), part(&mask).greater_elem(0.5))
        } else {
            layer.forward(x.clone())
        };
        let gradients = (y.clone() * part(&dy)).sum().backward();
        let of_parameter = |of: &Option<Param<Tensor<1>>>| {
            numbers(of.as_ref().unwrap().val().grad(&gradients).unwrap())
        };
        let shares = [of_parameter(&layer.gamma), of_parameter(&layer.beta)].concat();
        let running =
            [&layer.running_mean, &layer.running_var].map(|of| numbers(of.value_sync())).concat();
        [numbers(y), numbers(x.grad(&gradients).unwrap()), running, shares]
    };
    let plain = step(0..6, None);
    let alone = step(0..6, Some(Arc::new(Alone)));
    let (step, ends) = (&step, [0, 2, 2, 6]);
    let parts =
        on_ranks(3, |over| step(ends[over.rank()]..ends[over.rank() + 1], Some(Arc::new(over))));
    let worst = |ours: Vec<f32>, expected: &[f32]| {
        assert_eq!(ours.len(), expected.len());
        let most = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        ours.iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs() / most)
            .fold(0.0, |worst, d| if d <= worst { worst } else { d })
    };
    let joined = |of: usize| parts.iter().flat_map(|part| part[of].clone()).collect();
    let summed: Vec<f32> = (0..6).map(|i| parts.iter().map(|part| part[3][i]).sum()).collect();
    // the plain layer adds up in f32 what lies side by side: several samples, which is another
    // rounding
    for ([y, dx, running, shares], bar) in
        [(&alone, 0.5 * f32::EPSILON), (&plain, 2.0 * f32::EPSILON)]
    {
        assert!(worst(joined(0), y) <= bar, "masked {excluded:?}");
        assert!(worst(joined(1), dx) <= bar, "masked {excluded:?}");
        assert!(worst(summed.clone(), shares) <= 2.0 * f32::EPSILON, "masked {excluded:?}");
        for [_, _, ours, _] in &parts {
            assert_eq!(ours, &parts[0][2]);
            assert!(worst(ours.clone(), running) <= bar);
        }
    }
}

#[test]
fn over_ranks_a_layer_is_the_one_of_the_joined_batch() {
    for excluded in [None, Some(Excluded::Zero), Some(Excluded::Normalized)] {
        a_layer_over_ranks_is_the_layer_on_the_joined_batch(excluded);
    }
}

/// Running statistics that normalize and still move: toward those of all ranks' valid values, of
/// which one has no samples.
#[test]
fn running_statistics_move_toward_those_of_all_ranks() {
    for masked in [true, false] {
        let found = on_ranks(3, |over| {
            let device = Device::flex().autodiff();
            let values: &[f32] = [&[1.0, 3.0, 100.0][..], &[8.0, 100.0, 100.0], &[]][over.rank()];
            let samples = if masked { values.len() } else { values.len().min(2 - over.rank()) };
            let x = Tensor::<2>::from_data(
                TensorData::new(values[..samples].to_vec(), [samples, 1]),
                &device,
            );
            let mut layer =
                convert_sync_batch_norm(BatchNormConfig::new(1).init(&device), Arc::new(over));
            layer.mode.statistics = StatisticsFrom::Running;
            let y = if masked {
                layer.forward_masked(x.clone(), x.lower_elem(50.0))
            } else {
                layer.forward(x)
            };
            (numbers(y), numbers(layer.running_mean.value_sync()))
        });
        assert!((found[0].0[1] - 3.0).abs() < 1e-4 && (found[1].0[0] - 8.0).abs() < 1e-4);
        assert!(found[2].0.is_empty());
        assert!(found.iter().all(|(_, mean)| *mean == [0.4]), "{found:?}"); // a tenth of the mean of 1, 3, 8
    }
}

/// As on arrays: with those from before the step.
#[test]
fn running_statistics_normalize_before_they_move() {
    let device = Device::flex().autodiff();
    let mut layer = BatchNormConfig::new(1).init(&device);
    layer.mode.statistics = StatisticsFrom::Running;
    let y = layer.forward(Tensor::<1>::from_floats([1.0, 3.0], &device).reshape([2, 1]));
    assert!((numbers(y)[1] - 3.0).abs() < 1e-4);
    assert_eq!(numbers(layer.running_mean.value_sync()), [0.2]);
}

/// A parameter that is in two places, larger than one piece; of half precision; and one that only
/// one rank has a gradient of.
#[derive(Module, Debug)]
struct Tied {
    first: Param<Tensor<1>>,
    same: Param<Tensor<1>>,
    half: Param<Tensor<1>>,
    double: Param<Tensor<1>>,
    of_one: Param<Tensor<1>>,
    of_none: Param<Tensor<1>>,
}

#[test]
fn gradients_of_any_parameter_are_summed_once() {
    const LEN: usize = 70_001;
    let found = on_ranks(3, |over| {
        let device = Device::flex().autodiff();
        let of = |len: usize, dtype: DType| {
            let ones = Tensor::<1>::ones([len], (&device, dtype));
            Param::from_tensor(ones.require_grad())
        };
        let first = of(LEN, DType::F32);
        let module = Tied {
            same: first.clone(),
            first,
            half: of(3, DType::BF16),
            double: of(LEN, DType::F64),
            of_one: of(2, DType::F32),
            of_none: of(2, DType::F32),
        };
        let rank = over.rank() as f64 + 1.0;
        let places = Tensor::<1, Int>::arange(0..LEN as i64, &device).float();
        let mut loss = (module.first.val() * places.clone() * rank).sum();
        loss = loss + (module.half.val() * (0.25 * rank)).sum().cast(DType::F32);
        loss = loss + (module.double.val() * places.cast(DType::F64) * rank).sum().cast(DType::F32);
        if over.rank() == 1 {
            loss = loss + module.of_one.val().sum();
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        let sums = sum_gradients(&module, gradients, &over).unwrap();
        assert!(sums.get::<1>(module.of_none.id).is_none());
        let of = |param: &Param<Tensor<1>>| sums.get::<1>(param.id).unwrap().into_data();
        [&module.first, &module.half, &module.double, &module.of_one].map(of)
    });
    for [first, half, double, of_one] in found {
        // the ranks weigh 1 + 2 + 3
        assert!(first.iter::<f64>().eq((0..LEN).map(|i| 6.0 * i as f64)));
        assert_eq!(
            (half.dtype(), half.iter::<f64>().collect::<Vec<_>>()),
            (DType::BF16, vec![1.5; 3])
        );
        assert!(
            double.dtype() == DType::F64
                && double.iter::<f64>().eq((0..LEN).map(|i| 6.0 * i as f64))
        );
        assert_eq!(of_one.iter::<f64>().collect::<Vec<_>>(), [1.0; 2]);
    }
}

/// Linked layers report what all ranks have seen, so that each finds the statistics of all batches.
#[test]
fn recalibration_is_over_all_ranks() {
    let rows = |batch: usize, from: usize, to: usize, device: &Device| {
        let values: Vec<f32> =
            (4 * from..4 * to).map(|i| batch as f32 + (3.0 * i as f32).sin()).collect();
        Tensor::<1>::from_floats(values.as_slice(), device).reshape([to - from, 4])
    };
    let running = |network: &Network| {
        let of = |block: &Block| {
            [&block.norm.running_mean, &block.norm.running_var].map(|of| numbers(of.value_sync()))
        };
        network.blocks.iter().flat_map(of).flatten().collect::<Vec<f32>>()
    };
    let device = Device::flex().autodiff();
    let alone = Network::new(&device);
    let batches: Vec<Tensor<2>> = (0..3).map(|batch| rows(batch, 0, 8, &device)).collect();
    recalibrate(&alone, batches, Network::forward).unwrap();
    let ends = [0, 3, 8];
    let found = on_ranks(2, |over| {
        let device = Device::flex().autodiff();
        let rank = over.rank();
        let network = convert_sync_batch_norm(Network::new(&device), Arc::new(over));
        let batches: Vec<Tensor<2>> =
            (0..3).map(|batch| rows(batch, ends[rank], ends[rank + 1], &device)).collect();
        recalibrate(&network, batches, Network::forward).unwrap();
        running(&network)
    });
    assert_eq!(found[0], found[1]);
    for (ours, expected) in found[0].iter().zip(running(&alone)) {
        assert!((ours - expected).abs() < 1e-6 * expected.abs().max(1.0), "{ours} and {expected}");
    }
}

/// Runs a rank on a thread of its own for each communicator.
fn on_ranks<R: Send>(size: usize, rank: impl Fn(Threads) -> R + Sync) -> Vec<R> {
    let rank = &rank;
    thread::scope(|scope| {
        let threads: Vec<_> =
            Threads::split(size).into_iter().map(|over| scope.spawn(move || rank(over))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn in_inference_nothing_is_exchanged() {
    let [one, other] = <[Threads; 2]>::try_from(Threads::split(2)).unwrap();
    drop(other);
    let device = Device::flex();
    let layer = convert_sync_batch_norm(BatchNormConfig::new(2).init(&device), Arc::new(one));
    let y = layer.forward(Tensor::<2>::ones([3, 2], &device));
    assert!(numbers(y).iter().all(|y| (y - 1.0).abs() < 1e-4));
    // without running statistics, either: those of x are the rank's own
    let [one, _gone] = Threads::split(2).try_into().unwrap();
    let config = BatchNormConfig::new(2).with_running_statistics(false);
    let layer = convert_sync_batch_norm(config.init(&device), Arc::new(one));
    let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 6.0]], &device.clone().inner());
    let y = numbers(layer.valid().forward(x));
    assert!(y.iter().all(|y| (y.abs() - 1.0).abs() < 1e-4), "{y:?}");
}

/// Only one of two ranks goes backward, which would otherwise wait for the other.
#[test]
fn running_statistics_that_normalized_exchange_nothing_backward() {
    for statistics in [StatisticsFrom::Batch, StatisticsFrom::Running] {
        let gradients = on_ranks(2, |over| {
            let (rank, over) = (over.rank(), Arc::new(over));
            let device = Device::flex().autodiff();
            let config = BatchNormConfig::new(2).with_one_value(OneValue::UseRunning);
            let mut layer = convert_sync_batch_norm(config.init(&device), over.clone());
            layer.mode.statistics = statistics;
            let x = Tensor::<2>::full([1 - rank, 2], 3.0, &device).require_grad();
            let y = layer.forward(x.clone());
            let dx = (rank == 0).then(|| numbers(x.grad(&y.sum().backward()).unwrap()));
            // both stay until the end: a rank that is gone would end the other
            over.sum(&mut [0.0]).unwrap();
            dx
        });
        let dx = gradients[0].as_ref().unwrap();
        assert!(dx.iter().all(|dx| (dx - 1.0).abs() < 1e-4), "{statistics:?}: {dx:?}");
    }
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
    let found = on_ranks(2, |over| {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats(values[over.rank()], &device).reshape([2, 1]);
        let layer = convert_sync_batch_norm(BatchNormConfig::new(1).init(&device), Arc::new(over));
        let (_, mean, variance) = layer.forward_with_statistics(x);
        [mean, variance].map(|of| of.into_data().iter::<f32>().collect::<Vec<f32>>())
    });
    assert_eq!(found, [[vec![4.0], vec![5.0]], [vec![4.0], vec![5.0]]]);
}
