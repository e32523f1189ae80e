//! The average of trainings that differ in the seed alone.

use super::results::{Epoch, Origin, Trace, Training, TrainingTiming};

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
mod tests {
    use serde_json::json;

    use super::*;

    fn run(seed: u64, accuracy: f64) -> Training {
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
