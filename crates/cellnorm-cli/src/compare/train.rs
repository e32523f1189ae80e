//! Training one network, and testing it as it learns.

use std::io::IsTerminal;
use std::time::Instant;

use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorReadError};
use cellnorm::ranks::Communicator;
use cellnorm_burn::ranks::{convert_sync_batch_norm, sum_gradients};
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;

use super::CompareError;
use super::record::Record;
use super::results::{Config, Epoch, Origin, ParameterCounts, Training};
use crate::data::{Batch, Dataset, Samples};
use crate::network::Network;
use crate::norm::Norm;
use crate::output::bar;
use crate::ranks::Ranks;

/// Trains the network of one case, and tests it after each epoch. Each of several ranks learns from
/// its part of every batch; the first tests.
///
/// All random numbers come from the seed: the weights and then the dropout from that of the
/// device, the order of the samples from one of its own. The normalization takes none of them, so
/// networks of equal batch size start from the same weights, see the same batches and drop the
/// same units.
pub fn train<N: Network>(
    case: Case,
    config: &Config,
    data: &Dataset<N::Samples>,
    progress: &Progress,
    ranks: &Ranks,
) -> Result<Training, CompareError> {
    let Case { norm, batch_size, seed } = case;
    let device = Device::flex().autodiff();
    device.seed(seed);
    let mut network = N::new(norm, &device);
    if config.sync && !ranks.is_alone() {
        network = convert_sync_batch_norm(network, ranks.shared_communicator());
    }
    let (network_parameters, norm_parameters) = network.count_parameters();
    if !ranks.is_alone() {
        // the weights are drawn; samples of different ranks must not lose the same units
        device.seed(seed ^ (ranks.rank() as u64 + 1).rotate_right(16));
    }
    let mut trainer = Trainer {
        network,
        optimizer: AdamConfig::new()
            .with_beta_1(N::ADAM.beta_1)
            .with_beta_2(N::ADAM.beta_2)
            .with_epsilon(N::ADAM.epsilon)
            .init(),
        loss: CrossEntropyLossConfig::new().init(&device),
        record: Record::new(config.epochs * data.train.len().div_ceil(batch_size)),
    };
    let mut order = Order::new(data.train.len(), seed);
    let mut epochs = Vec::new();
    let mut epoch_seconds = Vec::new();
    for epoch in 1..=config.epochs {
        let start = Instant::now();
        let mut train = Score::default();
        for indices in order.next_epoch().chunks(batch_size) {
            let part = rank_part(indices, ranks);
            // a last batch that is too small for all to have a part of it
            if indices.len() >= ranks.size() {
                let share = part.len() as f64 / indices.len() as f64;
                train.add(&trainer.step(data.train.batch(part, &device), share, ranks)?);
            }
            progress.bar.inc(1);
        }
        epoch_seconds.push(start.elapsed().as_secs_f64());
        let test =
            if ranks.is_first() { test(&trainer.network, &data.test)? } else { Score::default() };
        let epoch = Epoch {
            epoch,
            train_loss: train.mean_loss(),
            train_accuracy: train.accuracy(),
            test_loss: test.mean_loss(),
            test_accuracy: test.accuracy(),
        };
        progress.epoch(case, &epoch);
        epochs.push(epoch);
    }
    let record = trainer.record;
    Ok(Training {
        normalization: norm,
        batch_size,
        origin: Origin::One { seed },
        parameters: ParameterCounts { network: network_parameters, normalization: norm_parameters },
        epochs,
        training_loss: record.training_loss(),
        timing: record.timing(epoch_seconds),
        statistics: record.into_statistics(),
    })
}

struct Trainer<N> {
    network: N,
    optimizer: ModuleOptimizer,
    loss: CrossEntropyLoss,
    record: Record,
}

impl<N: Network> Trainer<N> {
    /// Learns from one batch, or this rank's share; returns how well it was classified before.
    fn step(
        &mut self,
        batch: Batch<<N::Samples as Samples>::Input>,
        share: f64,
        ranks: &Ranks,
    ) -> Result<Score, CompareError> {
        let start = Instant::now();
        let forward = self.network.forward_timed(batch.x);
        let loss = self.loss.forward(forward.logits.clone(), batch.labels.clone());
        let part = if ranks.is_alone() { loss.clone() } else { loss.clone() * share };
        let mut gradients = GradientsParams::from_grads(part.backward(), &self.network);
        if !ranks.is_alone() {
            gradients = sum_gradients(&self.network, gradients, ranks.communicator())?;
        }
        // The optimizer consumes the network; the clone shares its tensors.
        let network = self.network.clone();
        self.network = self.optimizer.step(N::ADAM.learning_rate, network, gradients);
        let time = start.elapsed();

        let lap = forward.lap();
        let score =
            Score::new(forward.logits, batch.labels, loss)?.sum_ranks(ranks.communicator())?;
        let moments = forward.moments.zip(self.network.running_moments());
        self.record.add(score.mean_loss(), time, lap, moments)?;
        Ok(score)
    }
}

fn rank_part<'a>(batch: &'a [usize], ranks: &Ranks) -> &'a [usize] {
    let end = |rank: usize| rank * batch.len() / ranks.size();
    &batch[end(ranks.rank())..end(ranks.rank() + 1)]
}

/// The order in which the samples are seen: a new permutation each epoch, all from one seed.
struct Order {
    indices: Vec<usize>,
    rng: Xoshiro256PlusPlus,
}

impl Order {
    fn new(samples: usize, seed: u64) -> Self {
        Self { indices: (0..samples).collect(), rng: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    fn next_epoch(&mut self) -> &[usize] {
        self.indices.shuffle(&mut self.rng);
        &self.indices
    }
}

#[derive(Clone, Copy)]
pub struct Case {
    pub norm: Norm,
    pub batch_size: usize,
    pub seed: u64,
}

/// Shows how far the work has come, on standard error.
pub struct Progress {
    /// Hidden where there is no terminal.
    pub bar: ProgressBar,
    lines: bool,
}

impl Progress {
    /// Progress over `steps` training steps.
    pub fn new(quiet: bool, steps: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let template = "{msg} {wide_bar} {percent:>3} %  {eta:>4} left";
        let bar =
            if quiet || !terminal { ProgressBar::hidden() } else { bar(template, steps as u64) };
        Self { bar, lines: !quiet && !terminal }
    }

    /// A network is about to be trained.
    pub fn start(&self, Case { norm, batch_size, seed }: Case) {
        self.bar.set_message(format!("{:8} batch {batch_size} seed {seed}", norm.name()));
    }

    pub fn epoch(&self, Case { norm, batch_size, seed }: Case, epoch: &Epoch) {
        if self.lines {
            eprintln!(
                "{:8}  batch size {batch_size}  seed {seed}  epoch {}  train loss {:.4}  accuracy \
                 {:.2} %  test loss {:.4}  accuracy {:.2} %",
                norm.name(),
                epoch.epoch,
                epoch.train_loss,
                epoch.train_accuracy * 100.0,
                epoch.test_loss,
                epoch.test_accuracy * 100.0,
            );
        }
    }
}

/// Samples tested at once: enough to keep the processor busy.
const TEST_BATCH: usize = 250;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Score {
    samples: usize,
    right: usize,
    loss: f64,
}

impl Score {
    /// The score of one batch, whose mean loss is `loss`.
    fn new(
        logits: Tensor<2>,
        labels: Tensor<1, Int>,
        loss: Tensor<1>,
    ) -> Result<Self, TensorReadError> {
        let [samples, classes] = logits.dims();
        let logits = logits.try_into_vec_as::<f32>()?;
        let labels = labels.try_into_vec_as::<i64>()?;
        let loss = loss.try_into_vec_as::<f32>()?[0];
        let right = logits
            .chunks(classes)
            .zip(labels)
            .filter(|(scores, label)| largest(scores) as i64 == *label)
            .count();
        Ok(Self { samples, right, loss: f64::from(loss) * samples as f64 })
    }

    fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.right += other.right;
        self.loss += other.loss;
    }

    /// The score over the samples of all ranks.
    fn sum_ranks(self, ranks: &dyn Communicator) -> Result<Self, cellnorm::Error> {
        let mut table = [self.samples as f64, self.right as f64, self.loss];
        ranks.sum(&mut table)?;
        let [samples, right, loss] = table;
        Ok(Self { samples: samples as usize, right: right as usize, loss })
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    /// Share of samples classified right.
    fn accuracy(&self) -> f64 {
        self.right as f64 / self.samples as f64
    }
}

/// Tests without dropout and with running statistics.
fn test<N: Network>(network: &N, split: &N::Samples) -> Result<Score, TensorReadError> {
    let device = Device::flex();
    let network = network.valid();
    let loss = CrossEntropyLossConfig::new().init(&device);
    let indices: Vec<usize> = (0..split.len()).collect();
    let mut score = Score::default();
    for indices in indices.chunks(TEST_BATCH) {
        let Batch { x, labels } = split.batch(indices, &device);
        let logits = network.forward(x);
        let loss = loss.forward(logits.clone(), labels.clone());
        score.add(&Score::new(logits, labels, loss)?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_epoch_sees_every_sample_in_an_order_of_the_seed() {
        let mut order = Order::new(50, 7);
        let first = order.next_epoch().to_vec();
        let second = order.next_epoch().to_vec();
        for epoch in [&first, &second] {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        }
        assert_ne!(first, second);
        assert_eq!(Order::new(50, 7).next_epoch(), first);
        assert_ne!(Order::new(50, 8).next_epoch(), first);
    }

    #[test]
    fn the_order_is_the_same_in_every_version() {
        assert_eq!(Order::new(8, 1).next_epoch(), [4, 2, 5, 1, 6, 0, 3, 7]);
    }

    const CLASSES: usize = 10;

    #[test]
    fn a_score_counts_and_averages_over_samples() {
        let device = Device::flex();
        let score = |scores: Vec<f32>, labels: Vec<i64>, loss: f32| {
            let n = labels.len();
            let logits = Tensor::<1>::from_floats(scores.as_slice(), &device);
            let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &device);
            let loss = Tensor::<1>::from_floats([loss], &device);
            Score::new(logits.reshape([n, CLASSES]), labels, loss).unwrap()
        };
        let mut class_3 = vec![0.0; CLASSES];
        class_3[3] = 0.5;
        let mut both = score(class_3.repeat(3), vec![3, 3, 2], 1.0);
        both.add(&score(class_3, vec![3], 3.0));
        assert_eq!(both.accuracy(), 0.75);
        assert_eq!(both.mean_loss(), 1.5);
    }

    #[test]
    fn of_equal_scores_the_first_counts() {
        assert_eq!(largest(&[1.0, 2.0, 2.0, 0.0]), 1);
    }
}
