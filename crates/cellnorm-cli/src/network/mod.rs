//! The networks that the normalizations are tried in.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use cellnorm_burn::stopwatch::{Lap, Stopwatch};
use serde::Serialize;

use crate::data::Samples;
use crate::norm::Norm;

mod image;
mod sequence;

pub use image::ImageNetwork;
pub use sequence::SequenceNetwork;

/// A network with one of the normalizations in it.
pub trait Network: Module {
    type Samples: Samples;

    const NORMS: &'static [Norm];

    const SIZES: Sizes;

    const ADAM: Adam;

    /// A network with `norm`, whose weights come from the seed of `device`.
    ///
    /// No normalization draws random numbers, so equal seeds give equal weights around it.
    fn new(norm: Norm, device: &Device) -> Self;

    /// Scores of the classes, `[N, classes]`.
    fn forward(&self, x: <Self::Samples as Samples>::Input) -> Tensor<2>;

    /// The same in training, with the normalization under the stopwatch.
    fn forward_timed(&self, x: <Self::Samples as Samples>::Input) -> Forward;

    /// The running mean and variance, the last update included, where there is one of each.
    fn running_moments(&self) -> Option<Moments> {
        None
    }

    /// Trainable parameters of the network and, of these, of the normalization.
    ///
    /// Burn draws the initial weights when they are first looked at; counting looks at them in
    /// the order of the layers, before dropout takes random numbers of its own.
    fn count_parameters(&self) -> (usize, usize);
}

/// How large a network is.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Sizes {
    /// Channels of the convolution, groups of group normalization, units of the hidden layer, and
    /// the chance of a hidden unit to be dropped.
    Image { channels: usize, groups: usize, hidden: usize, dropout: f64 },
    /// Values of a time step, and units of the LSTM.
    Sequence { inputs: usize, hidden: usize },
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Adam {
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

/// The part of the forward pass that a training step needs.
pub struct Forward {
    /// Scores of the classes, `[N, classes]`.
    pub logits: Tensor<2>,
    /// Moments of the batch, if the normalization took them.
    pub moments: Option<Moments>,
    /// Times of each place of the normalization, complete after the backward pass.
    pub stopwatches: Vec<Stopwatch>,
}

/// Mean and variance of each channel of a batch.
pub struct Moments {
    pub mean: Tensor<1>,
    pub variance: Tensor<1>,
}

impl Forward {
    /// The times of the normalization in all its places together.
    pub fn lap(&self) -> Option<Lap> {
        let laps: Option<Vec<Lap>> = self.stopwatches.iter().map(Stopwatch::read).collect();
        let laps = laps?;
        Some(Lap {
            forward: laps.iter().map(|lap| lap.forward).sum(),
            backward: laps.iter().map(|lap| lap.backward).sum(),
        })
    }
}

/// The number of trainable parameters.
fn count(module: &impl Module) -> usize {
    struct Count(usize);

    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.val();
            if tensor.is_require_grad() {
                self.0 += tensor.shape().num_elements();
            }
        }
    }

    let mut count = Count(0);
    module.visit(&mut count);
    count.0
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    /// The weights around each normalization.
    fn weights<N: Network>(
        parameters: usize,
        weights: fn(&N) -> Vec<TensorData>,
    ) -> Vec<Vec<TensorData>> {
        let device = Device::flex().autodiff();
        let of_norm = |&norm| {
            device.seed(5);
            let network = N::new(norm, &device);
            let (all, of_norm) = network.count_parameters();
            assert_eq!(all - of_norm, parameters, "running statistics are not trained");
            let learns =
                !matches!(norm, Norm::None | Norm::MeanVariance | Norm::Lp | Norm::LocalResponse);
            assert_eq!(of_norm > 0, learns);
            weights(&network)
        };
        N::NORMS.iter().map(of_norm).collect()
    }

    /// One test for all that draws weights: the seed belongs to the whole process.
    #[test]
    fn every_normalization_has_the_same_weights_around_it() {
        let images = weights(866_798, ImageNetwork::weights);
        // Of 12 inputs and 64 units: four gates, their b, and the dense layer.
        let parameters = 4 * 64 * (12 + 64) + 4 * 64 + 9 * 65;
        let sequences = weights(parameters, SequenceNetwork::weights);
        for weights in [images, sequences] {
            for other in &weights[1..] {
                assert_eq!(other, &weights[0]);
            }
        }
    }
}
