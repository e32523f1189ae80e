//! Training one network, and measuring it as it learns.

use std::time::{Duration, Instant};

use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

use crate::data::idx::CLASSES;
use crate::data::{Batch, Dataset, Split};
use crate::error::Error;
use crate::network::{Moments, Network};
use crate::norm::Norm;
use crate::progress::Progress;
use crate::results::{
    Adam, ChannelStatistics, Config, Epoch, Parameters, Run, RunTiming, Statistics, Trace,
};
use crate::stopwatch::Lap;

/// The optimizer, with the constants of its paper.
pub const ADAM: Adam = Adam {
    learning_rate: 1e-3,
    beta_1: 0.9,
    beta_2: 0.999,
    epsilon: 1e-8,
};

/// Images tested at once: enough to keep the processor busy.
const TEST_BATCH: usize = 250;

/// Channels whose statistics are followed.
const FOLLOWED_CHANNELS: usize = 3;

/// Values kept of anything followed step by step.
const TRACE_VALUES: usize = 1000;

/// Trains a network with `norm`, testing it after each epoch.
pub fn train(
    norm: Norm,
    batch_size: usize,
    config: &Config,
    data: &Dataset,
    progress: &Progress,
) -> Result<Run, Error> {
    let device = Device::flex().autodiff();
    device.seed(config.seed);
    let network = Network::new(norm, &device);
    let (network_parameters, norm_parameters) = network.count_parameters();
    let steps = config.epochs * data.train.len().div_ceil(batch_size);
    let mut trainer = Trainer {
        network,
        optimizer: AdamConfig::new()
            .with_beta_1(ADAM.beta_1)
            .with_beta_2(ADAM.beta_2)
            .with_epsilon(ADAM.epsilon)
            .init(),
        loss: CrossEntropyLossConfig::new().init(&device),
        record: Record::new(steps),
    };
    let mut order = Order::new(data.train.len(), config.seed);
    let mut epochs = Vec::new();
    let mut epoch_seconds = Vec::new();
    for epoch in 1..=config.epochs {
        let start = Instant::now();
        let mut train = Score::default();
        for indices in order.next_epoch().chunks(batch_size) {
            train.add(&trainer.step(data.train.batch(indices, &device))?);
            progress.step();
        }
        epoch_seconds.push(start.elapsed().as_secs_f64());
        let test = test(&trainer.network, &data.test)?;
        let epoch = Epoch {
            epoch,
            train_loss: train.mean_loss(),
            train_accuracy: train.accuracy(),
            test_loss: test.mean_loss(),
            test_accuracy: test.accuracy(),
        };
        progress.epoch(norm, batch_size, &epoch);
        epochs.push(epoch);
    }
    let record = trainer.record;
    Ok(Run {
        normalization: norm,
        batch_size,
        parameters: Parameters {
            network: network_parameters,
            normalization: norm_parameters,
        },
        epochs,
        timing: RunTiming {
            training_seconds: epoch_seconds.iter().sum(),
            epoch_seconds,
            step_ms: median_ms(record.steps),
            normalization_forward_ms: median_ms(record.laps.iter().map(|lap| lap.forward)),
            normalization_backward_ms: median_ms(record.laps.iter().map(|lap| lap.backward)),
        },
        training_loss: Trace {
            every: record.every,
            values: means(&record.losses, record.every),
        },
        statistics: (norm == Norm::Batch).then_some(Statistics {
            every: record.every,
            channels: record.channels,
        }),
    })
}

/// The order in which the images are seen: a new permutation each epoch, all from one seed.
struct Order {
    indices: Vec<usize>,
    rng: Xoshiro256PlusPlus,
}

impl Order {
    fn new(images: usize, seed: u64) -> Self {
        Self {
            indices: (0..images).collect(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    fn next_epoch(&mut self) -> &[usize] {
        self.indices.shuffle(&mut self.rng);
        &self.indices
    }
}

/// What is noted at each step.
struct Record {
    every: usize,
    losses: Vec<f32>,
    steps: Vec<Duration>,
    laps: Vec<Lap>,
    channels: Vec<ChannelStatistics>,
}

impl Record {
    fn new(steps: usize) -> Self {
        Self {
            every: steps.div_ceil(TRACE_VALUES),
            losses: Vec::with_capacity(steps),
            steps: Vec::with_capacity(steps),
            laps: Vec::with_capacity(steps),
            channels: vec![ChannelStatistics::default(); FOLLOWED_CHANNELS],
        }
    }

    /// Notes the statistics of the first channels, now and then.
    fn follow(&mut self, batch: Moments, running: Moments) -> Result<(), Error> {
        if !self.losses.len().is_multiple_of(self.every) {
            return Ok(());
        }
        let [batch_mean, batch_variance, running_mean, running_variance] =
            [batch.mean, batch.variance, running.mean, running.variance]
                .map(|tensor| tensor.try_into_vec_as::<f32>());
        let (batch_mean, batch_variance) = (batch_mean?, batch_variance?);
        let (running_mean, running_variance) = (running_mean?, running_variance?);
        for (c, channel) in self.channels.iter_mut().enumerate() {
            channel.batch_mean.push(batch_mean[c]);
            channel.batch_variance.push(batch_variance[c]);
            channel.running_mean.push(running_mean[c]);
            channel.running_variance.push(running_variance[c]);
        }
        Ok(())
    }
}

struct Trainer {
    network: Network,
    optimizer: ModuleOptimizer,
    loss: CrossEntropyLoss,
    record: Record,
}

impl Trainer {
    /// Learns from one batch, and tells how well it was classified before.
    fn step(&mut self, batch: Batch) -> Result<Score, Error> {
        let start = Instant::now();
        let forward = self.network.forward_timed(batch.x);
        let loss = self
            .loss
            .forward(forward.logits.clone(), batch.labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        // The optimizer consumes the network, and a clone shares its tensors.
        self.network = self
            .optimizer
            .step(ADAM.learning_rate, self.network.clone(), gradients);
        self.record.steps.push(start.elapsed());

        self.record.laps.extend(forward.stopwatch.read());
        if let (Some(batch), Some(running)) = (forward.moments, self.network.running_moments()) {
            self.record.follow(batch, running)?;
        }
        let score = Score::of(forward.logits, batch.labels, loss)?;
        self.record.losses.push(score.mean_loss() as f32);
        Ok(score)
    }
}

/// Loss and accuracy over some images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Score {
    images: usize,
    right: usize,
    loss: f64,
}

impl Score {
    fn of(
        logits: Tensor<2>,
        labels: Tensor<1, burn::tensor::Int>,
        loss: Tensor<1>,
    ) -> Result<Self, Error> {
        let logits = logits.try_into_vec_as::<f32>()?;
        let labels = labels.try_into_vec_as::<i64>()?;
        let images = labels.len();
        let loss = loss.try_into_vec_as::<f32>()?[0];
        let right = logits
            .chunks(CLASSES)
            .zip(labels)
            .filter(|(scores, label)| largest(scores) as i64 == *label)
            .count();
        Ok(Self {
            images,
            right,
            loss: f64::from(loss) * images as f64,
        })
    }

    fn add(&mut self, other: &Self) {
        self.images += other.images;
        self.right += other.right;
        self.loss += other.loss;
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    fn accuracy(&self) -> f64 {
        self.right as f64 / self.images as f64
    }
}

/// Tests without dropout and with running statistics.
fn test(network: &Network, split: &Split) -> Result<Score, Error> {
    let device = Device::flex();
    let network = burn::module::Module::valid(network);
    let loss = CrossEntropyLossConfig::new().init(&device);
    let indices: Vec<usize> = (0..split.len()).collect();
    let mut score = Score::default();
    for indices in indices.chunks(TEST_BATCH) {
        let Batch { x, labels } = split.batch(indices, &device);
        let logits = network.forward(x);
        let loss = loss.forward(logits.clone(), labels.clone());
        score.add(&Score::of(logits, labels, loss)?);
    }
    Ok(score)
}

/// The first of the largest values.
fn largest(scores: &[f32]) -> usize {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = i;
        }
    }
    best
}

/// The mean of each `every` values, the last of what remains.
fn means(values: &[f32], every: usize) -> Vec<f32> {
    values
        .chunks(every)
        .map(|chunk| chunk.iter().sum::<f32>() / chunk.len() as f32)
        .collect()
}

/// The median in milliseconds, which a pause of the machine does not move.
fn median_ms(durations: impl IntoIterator<Item = Duration>) -> f64 {
    let mut sorted: Vec<Duration> = durations.into_iter().collect();
    sorted.sort_unstable();
    sorted
        .get(sorted.len() / 2)
        .map_or(0.0, |middle| middle.as_secs_f64() * 1e3)
}
