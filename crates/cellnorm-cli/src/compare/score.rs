//! How well a network classifies.

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Int, Tensor, TensorReadError};
use cellnorm::ranks::Communicator;

use crate::data::{Batch, Samples};
use crate::network::Network;

/// Samples tested at once: enough to keep the processor busy.
const TEST_BATCH: usize = 250;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    samples: usize,
    right: usize,
    loss: f64,
}

impl Score {
    /// The score of one batch, whose mean loss is `loss`.
    pub fn new(
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

    pub fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.right += other.right;
        self.loss += other.loss;
    }

    /// The score over the samples of all ranks.
    pub fn sum_ranks(self, ranks: &dyn Communicator) -> Result<Self, cellnorm::Error> {
        let mut table = [self.samples as f64, self.right as f64, self.loss];
        ranks.sum(&mut table)?;
        let [samples, right, loss] = table;
        Ok(Self { samples: samples as usize, right: right as usize, loss })
    }

    pub fn mean_loss(&self) -> f64 {
        self.loss / self.samples as f64
    }

    /// Share of samples classified right.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.samples as f64
    }
}

/// Tests without dropout and with running statistics.
pub fn test<N: Network>(network: &N, split: &N::Samples) -> Result<Score, TensorReadError> {
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
