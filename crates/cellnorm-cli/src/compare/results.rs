//! The results of a comparison, in the shape of `results.json`.
//!
//! Times are in objects named `timing`, apart from everything that depends on the flags and the
//! seed alone.

use serde::{Deserialize, Deserializer, Serialize};

use super::task::Task;
use crate::data::DatasetInfo;
use crate::network::{Adam, Sizes};
use crate::norm::Norm;

/// The whole comparison.
#[derive(Debug, Serialize)]
pub struct Results {
    pub config: Config,
    pub dataset: DatasetInfo,
    /// One run for each batch size, normalization and seed.
    pub runs: Vec<Training>,
    /// The runs of each batch size and normalization averaged over the seeds, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub averages: Vec<Training>,
    pub timing: TotalTiming,
}

/// The flags, and the constants that follow from them.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// The command that repeats the comparison.
    pub command: String,
    pub version: &'static str,
    pub task: Task,
    /// Seed of weights, order of samples and dropout.
    pub seed: u64,
    /// How many seeds there are, the first among them.
    pub seeds: u64,
    pub epochs: usize,
    pub norms: Vec<Norm>,
    pub batch_sizes: Vec<usize>,
    /// Processes that share each batch.
    #[serde(skip_serializing_if = "is_one")]
    pub ranks: usize,
    /// Whether they share batch normalization's statistics, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
    pub adam: Adam,
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

/// One network, trained.
#[derive(Debug, Serialize, Deserialize)]
pub struct Training {
    pub normalization: Norm,
    pub batch_size: usize,
    /// Its seed, or those it is the average of.
    #[serde(flatten)]
    pub origin: Origin,
    pub parameters: ParameterCounts,
    pub epochs: Vec<Epoch>,
    pub training_loss: Trace,
    /// Only of Batch Normalization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<BatchStatistics>,
    pub timing: TrainingTiming,
}

/// Whether it is one training or the average of several, with the extremes of the test accuracy
/// after the last epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    One { seed: u64 },
    Average { seeds: usize, lowest_test_accuracy: f64, highest_test_accuracy: f64 },
}

/// Trainable parameters.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ParameterCounts {
    /// Of the whole network.
    pub network: usize,
    /// Of the normalization alone.
    pub normalization: usize,
}

/// Loss and accuracy of one pass over the samples.
///
/// The numbers of training are gathered while the network learns, with its dropout; the numbers of
/// the test are measured after the epoch, without it.
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
    #[serde(deserialize_with = "numbers")]
    pub values: Vec<f32>,
}

/// Statistics of Batch Normalization over the first steps of training.
#[derive(Debug, Serialize, Deserialize)]
pub struct BatchStatistics {
    pub channels: Vec<ChannelStatistics>,
}

/// Statistics of one channel, one value a step: the batch's, whose variance is biased, and the
/// running ones after the step, whose variance is not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelStatistics {
    #[serde(deserialize_with = "numbers")]
    pub batch_mean: Vec<f32>,
    #[serde(deserialize_with = "numbers")]
    pub running_mean: Vec<f32>,
    #[serde(deserialize_with = "numbers")]
    pub batch_variance: Vec<f32>,
    #[serde(deserialize_with = "numbers")]
    pub running_variance: Vec<f32>,
}

/// Times of one training.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainingTiming {
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
    pub threads: usize,
    /// Reading, training and testing.
    pub total_seconds: f64,
}

impl Training {
    /// The last epoch. There is one, since no run has zero epochs.
    pub fn last(&self) -> Epoch {
        self.epochs[self.epochs.len() - 1]
    }
}

impl Results {
    /// A training for each batch size and normalization: an average where there are several seeds.
    pub fn shown(&self) -> &[Training] {
        if self.averages.is_empty() { &self.runs } else { &self.averages }
    }

    /// The elements of [`Self::shown`] that have this batch size.
    pub fn shown_for_size(&self, size: usize) -> Vec<&Training> {
        self.shown().iter().filter(|run| run.batch_size == size).collect()
    }
}
