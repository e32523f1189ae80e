//! The results of a comparison, in the shape of `results.json`. Times are in objects named
//! `timing`; everything else depends on the flags and the seed alone.

use serde::{Deserialize, Deserializer, Serialize};

use super::args::Task;
use crate::data::DatasetInfo;
use crate::network::{Adam, Sizes};
use crate::norm::Norm;

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

/// One training, or the average of several with the extremes of their last test accuracies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Origin {
    One { seed: u64 },
    Average { seeds: usize, lowest_test_accuracy: f64, highest_test_accuracy: f64 },
}

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

/// The means of all numbers of `runs`, which have one batch size and normalization. Statistics are
/// left out: their means belong to no training.
pub fn average(runs: &[Training]) -> Training {
    let first = &runs[0];
    let mean =
        |value: &dyn Fn(&Training) -> f64| runs.iter().map(value).sum::<f64>() / runs.len() as f64;
    let accuracies = || runs.iter().map(|run| run.last().test_accuracy);
    let epochs = || 0..first.epochs.len();
    let epoch = |i: usize| Epoch {
        epoch: first.epochs[i].epoch,
        train_loss: mean(&|run| run.epochs[i].train_loss),
        train_accuracy: mean(&|run| run.epochs[i].train_accuracy),
        test_loss: mean(&|run| run.epochs[i].test_loss),
        test_accuracy: mean(&|run| run.epochs[i].test_accuracy),
    };
    let Trace { every, values } = &first.training_loss;
    let loss = |i: usize| mean(&|run| run.training_loss.values[i].into()) as f32;
    Training {
        normalization: first.normalization,
        batch_size: first.batch_size,
        origin: Origin::Average {
            seeds: runs.len(),
            lowest_test_accuracy: accuracies().fold(f64::INFINITY, f64::min),
            highest_test_accuracy: accuracies().fold(0.0, f64::max),
        },
        parameters: first.parameters,
        epochs: epochs().map(epoch).collect(),
        training_loss: Trace { every: *every, values: (0..values.len()).map(loss).collect() },
        statistics: None,
        timing: TrainingTiming {
            training_seconds: mean(&|run| run.timing.training_seconds),
            epoch_seconds: epochs().map(|i| mean(&|run| run.timing.epoch_seconds[i])).collect(),
            step_ms: mean(&|run| run.timing.step_ms),
            normalization_forward_ms: mean(&|run| run.timing.normalization_forward_ms),
            normalization_backward_ms: mean(&|run| run.timing.normalization_backward_ms),
            normalization_share: mean(&|run| run.timing.normalization_share),
        },
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// A training of one epoch with this test accuracy.
    pub fn run(seed: u64, accuracy: f64) -> Training {
        let run = json!({
            "normalization": "layer",
            "batch_size": 8,
            "seed": seed,
            "parameters": { "network": 7, "normalization": 2 },
            "epochs": [{
                "epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "test_loss": 4.0 * accuracy,
                "test_accuracy": accuracy,
            }],
            "training_loss": { "every": 3, "values": [2.0, seed as f32] },
            "timing": {
                "training_seconds": accuracy, "epoch_seconds": [accuracy], "step_ms": 1.0,
                "normalization_forward_ms": 2.0, "normalization_backward_ms": 3.0,
                "normalization_share": accuracy,
            },
        });
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn every_number_is_a_mean_and_the_extremes_are_kept() {
        let all = average(&[run(1, 0.75), run(2, 0.25), run(3, 0.5)]);
        assert_eq!((all.last().test_accuracy, all.last().test_loss), (0.5, 2.0));
        assert_eq!(all.training_loss.values, [2.0, 2.0]);
        assert_eq!((all.training_loss.every, all.timing.training_seconds), (3, 0.5));
        assert_eq!(all.timing.normalization_share, 0.5);
        let seeds =
            Origin::Average { seeds: 3, lowest_test_accuracy: 0.25, highest_test_accuracy: 0.75 };
        assert_eq!(all.origin, seeds);
    }
}
