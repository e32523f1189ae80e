//! Losses, times and statistics, step by step while a network learns.

use std::time::Duration;

use burn::tensor::TensorReadError;
use cellnorm_burn::stopwatch::Lap;

use super::results::{BatchStatistics, ChannelStatistics, Trace, TrainingTiming};
use crate::network::Moments;

/// Channels whose statistics are followed.
const FOLLOWED_CHANNELS: usize = 3;

/// Steps over which they are followed: the running statistics have long caught up then.
const FOLLOWED_STEPS: usize = 500;

/// Values of the loss that are stored; in a longer training each is a mean of several steps.
const TRACE_VALUES: usize = 1000;

#[derive(Default)]
pub struct Record {
    every: usize,
    losses: Vec<f32>,
    steps: Vec<Duration>,
    laps: Vec<Lap>,
    shares: Vec<f64>,
    channels: Vec<ChannelStatistics>,
}

impl Record {
    /// An empty record for a training of so many steps.
    pub fn new(steps: usize) -> Self {
        Self { every: steps.div_ceil(TRACE_VALUES), ..Self::default() }
    }

    /// Adds the mean loss of a step, its time and that of the normalization in it, and the moments
    /// of the batch with the running ones after it.
    pub fn add(
        &mut self,
        loss: f64,
        time: Duration,
        lap: Option<Lap>,
        moments: Option<(Moments, Moments)>,
    ) -> Result<(), TensorReadError> {
        if let Some((batch, running)) = moments
            && self.losses.len() < FOLLOWED_STEPS
        {
            self.follow(batch, running)?;
        }
        self.losses.push(loss as f32);
        self.steps.push(time);
        if let Some(lap) = lap {
            self.laps.push(lap);
            self.shares.push((lap.forward + lap.backward).as_secs_f64() / time.as_secs_f64());
        }
        Ok(())
    }

    fn follow(&mut self, batch: Moments, running: Moments) -> Result<(), TensorReadError> {
        let [batch_mean, batch_variance, running_mean, running_variance] =
            [batch.mean, batch.variance, running.mean, running.variance]
                .map(|tensor| tensor.try_into_vec_as::<f32>());
        let batch = batch_mean?.into_iter().zip(batch_variance?);
        let running = running_mean?.into_iter().zip(running_variance?);
        self.channels.resize_with(FOLLOWED_CHANNELS, ChannelStatistics::default);
        for (channel, (batch, running)) in self.channels.iter_mut().zip(batch.zip(running)) {
            channel.batch_mean.push(batch.0);
            channel.batch_variance.push(batch.1);
            channel.running_mean.push(running.0);
            channel.running_variance.push(running.1);
        }
        Ok(())
    }

    /// The loss over the steps.
    pub fn training_loss(&self) -> Trace {
        Trace { every: self.every, values: means(&self.losses, self.every) }
    }

    /// The medians over the steps, and the times of the epochs.
    pub fn timing(&self, epoch_seconds: Vec<f64>) -> TrainingTiming {
        TrainingTiming {
            training_seconds: epoch_seconds.iter().sum(),
            epoch_seconds,
            step_ms: median(self.steps.iter().copied().map(ms)),
            normalization_forward_ms: median(self.laps.iter().map(|lap| ms(lap.forward))),
            normalization_backward_ms: median(self.laps.iter().map(|lap| ms(lap.backward))),
            normalization_share: median(self.shares.iter().copied()),
        }
    }

    /// The statistics over the steps, if the normalization took any.
    pub fn into_statistics(self) -> Option<BatchStatistics> {
        (!self.channels.is_empty()).then_some(BatchStatistics { channels: self.channels })
    }
}

/// The mean of each `every` values; the remainder at the end has a mean of its own.
fn means(values: &[f32], every: usize) -> Vec<f32> {
    values.chunks(every).map(|chunk| chunk.iter().sum::<f32>() / chunk.len() as f32).collect()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The median, which a pause of the machine does not move.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(numbers: impl ExactSizeIterator<Item = u64>) -> Record {
        let mut record = Record::new(numbers.len());
        for number in numbers {
            let time = Duration::from_millis(number);
            let lap = Lap { forward: 2 * time, backward: 3 * time };
            record.add(number as f64, time, Some(lap), None).unwrap();
        }
        record
    }

    #[test]
    fn long_trainings_are_thinned_to_means() {
        let trace = record((0..2001u32).map(u64::from)).training_loss();
        assert_eq!((trace.every, trace.values.len()), (3, 667));
        assert_eq!(trace.values[..2], [1.0, 4.0]);
    }

    #[test]
    fn times_are_medians() {
        let record = record([900, 1, 2].into_iter());
        let timing = record.timing(vec![0.5, 0.25]);
        assert_eq!(timing.training_seconds, 0.75);
        assert_eq!(timing.step_ms, 2.0);
        assert_eq!(timing.normalization_forward_ms, 4.0);
        assert_eq!(timing.normalization_backward_ms, 6.0);
        // of each step, what its own normalization takes
        assert_eq!(timing.normalization_share, 5.0);
        assert!(record.into_statistics().is_none());
    }
}
