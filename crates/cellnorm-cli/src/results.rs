//! What a comparison found, in the shape of `results.json`.
//!
//! Times are kept in objects named `timing`, apart from everything that depends on the flags and
//! the seed alone.

use serde::{Deserialize, Deserializer, Serialize};

use crate::data::DataNorm;
use crate::norm::Norm;
use crate::task::Task;

/// The whole comparison.
#[derive(Debug, Serialize)]
pub struct Results {
    /// What was asked for.
    pub config: Config,
    /// What was learned from.
    pub dataset: DatasetInfo,
    /// One run for each batch size, normalization and seed.
    pub runs: Vec<Run>,
    /// The runs of each batch size and normalization averaged over the seeds, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub averages: Vec<Run>,
    /// Times of the whole.
    pub timing: TotalTiming,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// The command that repeats the comparison.
    pub command: String,
    /// The version of the program.
    pub version: &'static str,
    /// What the networks learn.
    pub task: Task,
    /// Seed of weights, order of samples and dropout.
    pub seed: u64,
    /// How many seeds there are, the first among them.
    pub seeds: u64,
    /// Passes over the training samples.
    pub epochs: usize,
    /// Normalizations compared.
    pub norms: Vec<Norm>,
    /// Batch sizes of training.
    pub batch_sizes: Vec<usize>,
    /// Processes that share each batch.
    #[serde(skip_serializing_if = "is_one")]
    pub ranks: usize,
    /// Whether they share batch normalization's statistics, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
    /// The optimizer.
    pub adam: Adam,
    /// How large the network is.
    #[serde(flatten)]
    pub sizes: Sizes,
}

/// JSON has null for NaN, which a training that diverged leaves.
fn number<'d, D: Deserializer<'d>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn numbers<'d, D: Deserializer<'d>>(from: D) -> Result<Vec<f32>, D::Error> {
    let values: Vec<Option<f32>> = Vec::deserialize(from)?;
    Ok(values.into_iter().map(|value| value.unwrap_or(f32::NAN)).collect())
}

fn is_one(ranks: &usize) -> bool {
    *ranks == 1
}

/// How large a network is.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Sizes {
    /// The network for images.
    Image {
        /// Channels of the convolution.
        channels: usize,
        /// Groups of Group Normalization.
        groups: usize,
        /// Units of the hidden layer.
        hidden: usize,
        /// Chance of a hidden unit to be dropped.
        dropout: f64,
    },
    /// The network for sequences.
    Sequence {
        /// Values of a time step.
        inputs: usize,
        /// Units of the LSTM.
        hidden: usize,
    },
}

/// The constants of Adam.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Adam {
    /// Size of a step.
    pub learning_rate: f64,
    /// Decay of the mean gradient.
    pub beta_1: f32,
    /// Decay of the mean square gradient.
    pub beta_2: f32,
    /// Added to the root of the mean square gradient.
    pub epsilon: f32,
}

impl Adam {
    /// The constants of its paper.
    pub const PAPER: Self = Self { learning_rate: 1e-3, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8 };
}

/// What was learned from.
#[derive(Debug, Serialize)]
pub struct DatasetInfo {
    /// Name or folder.
    pub name: String,
    /// Who made it, where its licence asks to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    /// What was taken from each value and what the rest was divided by, if anything.
    pub normalization: Option<DataNorm>,
    /// What one sample is, in the plural.
    pub samples: &'static str,
    /// Samples trained on.
    pub train_samples: usize,
    /// Samples tested on.
    pub test_samples: usize,
    /// Classes told apart.
    pub classes: usize,
}

/// One network, trained.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    /// Its normalization.
    pub normalization: Norm,
    /// Samples in a batch.
    pub batch_size: usize,
    /// Its seed, or those it is the average of.
    #[serde(flatten)]
    pub origin: Origin,
    /// Its size.
    pub parameters: Parameters,
    /// How well it did, epoch by epoch.
    pub epochs: Vec<Epoch>,
    /// How well it did, step by step.
    pub training_loss: Trace,
    /// How the statistics of Batch Normalization went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
    /// How long it took.
    pub timing: RunTiming,
}

/// Whether a run is one training or the average of several.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    /// One training.
    One {
        /// Its seed.
        seed: u64,
    },
    /// An average.
    Average {
        /// Of how many seeds.
        seeds: usize,
        /// The lowest test accuracy after the last epoch.
        lowest_test_accuracy: f64,
        /// The highest.
        highest_test_accuracy: f64,
    },
}

/// Trainable parameters.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Parameters {
    /// Of the whole network.
    pub network: usize,
    /// Of the normalization alone.
    pub normalization: usize,
}

/// Loss and accuracy of one pass over the samples.
///
/// Those of training are gathered while the network learns, with its dropout; those of the test
/// after the epoch, without.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Number, counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy in training.
    #[serde(deserialize_with = "number")]
    pub train_loss: f64,
    /// Share of training samples classified right.
    #[serde(deserialize_with = "number")]
    pub train_accuracy: f64,
    /// Mean cross-entropy in the test.
    #[serde(deserialize_with = "number")]
    pub test_loss: f64,
    /// Share of test samples classified right.
    #[serde(deserialize_with = "number")]
    pub test_accuracy: f64,
}

/// A number followed over the steps of training.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trace {
    /// Steps between two values; each value is the mean of as many steps.
    pub every: usize,
    /// The values.
    #[serde(deserialize_with = "numbers")]
    pub values: Vec<f32>,
}

/// Statistics of Batch Normalization over the first steps of training.
#[derive(Debug, Serialize, Deserialize)]
pub struct Statistics {
    /// The first channels.
    pub channels: Vec<ChannelStatistics>,
}

/// Statistics of one channel, one value a step. Those of the batch are biased, the running variance
/// is not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelStatistics {
    /// Mean of the batch.
    #[serde(deserialize_with = "numbers")]
    pub batch_mean: Vec<f32>,
    /// Running mean after the step.
    #[serde(deserialize_with = "numbers")]
    pub running_mean: Vec<f32>,
    /// Variance of the batch.
    #[serde(deserialize_with = "numbers")]
    pub batch_variance: Vec<f32>,
    /// Running variance after the step.
    #[serde(deserialize_with = "numbers")]
    pub running_variance: Vec<f32>,
}

/// Times of one run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunTiming {
    /// Training, without tests.
    pub training_seconds: f64,
    /// The same, epoch by epoch.
    pub epoch_seconds: Vec<f64>,
    /// Median time of a training step.
    pub step_ms: f64,
    /// Median time of the normalization in a step, forward. Without a normalization, what the
    /// stopwatch itself takes.
    pub normalization_forward_ms: f64,
    /// Median time of the normalization in a step, backward.
    pub normalization_backward_ms: f64,
    /// Median share of a step that the normalization takes, forward and backward, from 0 to 1.
    pub normalization_share: f64,
}

/// Times of the whole comparison.
#[derive(Debug, Serialize)]
pub struct TotalTiming {
    /// Threads computed with.
    pub threads: usize,
    /// Reading, training and testing.
    pub total_seconds: f64,
}

impl Run {
    /// The last epoch. There is one, since no run has zero epochs.
    pub fn last(&self) -> Epoch {
        self.epochs[self.epochs.len() - 1]
    }
}

impl Results {
    /// One run for each batch size and normalization: an average where there are several seeds.
    pub fn shown(&self) -> &[Run] {
        match self.averages.is_empty() {
            true => &self.runs,
            false => &self.averages,
        }
    }

    /// Those with one batch size.
    pub fn with_batch_size(&self, size: usize) -> Vec<&Run> {
        self.shown().iter().filter(|run| run.batch_size == size).collect()
    }
}
