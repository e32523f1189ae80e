//! The network that every normalization is tried in.
//!
//! A 3×3 convolution to 10 channels, the normalization right behind it, then two dense layers:
//! 128 ReLU with dropout, and 10 classes.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, Identity, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use cellnorm_burn::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig, LayerNorm,
    LayerNormConfig, RmsNorm, RmsNormConfig,
};

use crate::data::idx::{CLASSES, SIDE};
use crate::norm::Norm;
use cellnorm_burn::stopwatch::Stopwatch;

/// Channels of the convolution.
pub const CHANNELS: usize = 10;
/// Groups of Group Normalization.
pub const GROUPS: usize = 5;
/// Units of the hidden dense layer.
pub const HIDDEN: usize = 128;
/// Chance of a hidden unit to be dropped in training.
pub const DROPOUT: f64 = 0.2;

const KERNEL: usize = 3;
const FEATURES: usize = CHANNELS * (SIDE - KERNEL + 1) * (SIDE - KERNEL + 1);

/// The layer that is compared.
#[derive(Module, Debug)]
enum NormLayer {
    None(Identity),
    Batch(BatchNorm),
    Layer(LayerNorm),
    Instance(InstanceNorm),
    Group(GroupNorm),
    Rms(RmsNorm),
}

/// Mean and variance of each channel of a batch.
pub struct Moments {
    /// Means.
    pub mean: Tensor<1>,
    /// Variances.
    pub variance: Tensor<1>,
}

impl NormLayer {
    fn new(norm: Norm, device: &Device) -> Self {
        match norm {
            Norm::None => Self::None(Identity::new()),
            Norm::Batch => Self::Batch(BatchNormConfig::new(CHANNELS).init(device)),
            Norm::Layer => Self::Layer(LayerNormConfig::per_channel(CHANNELS).init(device)),
            Norm::Instance => Self::Instance(InstanceNormConfig::new(CHANNELS).init(device)),
            Norm::Group => Self::Group(GroupNormConfig::new(GROUPS, CHANNELS).init(device)),
            Norm::Rms => Self::Rms(RmsNormConfig::per_channel(CHANNELS).init(device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::None(layer) => layer.forward(x),
            Self::Batch(layer) => layer.forward(x),
            Self::Layer(layer) => layer.forward(x),
            Self::Instance(layer) => layer.forward(x),
            Self::Group(layer) => layer.forward(x),
            Self::Rms(layer) => layer.forward(x),
        }
    }

    /// The same in training, where Batch Normalization also tells the moments of the batch.
    fn forward_with_moments(&self, x: Tensor<4>) -> (Tensor<4>, Option<Moments>) {
        match self {
            Self::Batch(layer) => {
                let (y, mean, variance) = layer.forward_with_statistics(x);
                (y, Some(Moments { mean, variance }))
            }
            _ => (self.forward(x), None),
        }
    }
}

/// The whole network.
#[derive(Module, Debug)]
pub struct Network {
    conv: Conv2d,
    norm: NormLayer,
    hidden: Linear,
    dropout: Dropout,
    output: Linear,
}

/// What a training step needs of the forward pass.
pub struct Forward {
    /// Scores of the classes, `[N, 10]`.
    pub logits: Tensor<2>,
    /// Moments of the batch, if the normalization took them.
    pub moments: Option<Moments>,
    /// Times of the normalization, complete after the backward pass.
    pub stopwatch: Stopwatch,
}

impl Network {
    /// A network with `norm`, whose weights come from the seed of `device`.
    ///
    /// No normalization draws random numbers, so equal seeds give equal weights around it.
    pub fn new(norm: Norm, device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([1, CHANNELS], [KERNEL, KERNEL]).init(device),
            norm: NormLayer::new(norm, device),
            hidden: LinearConfig::new(FEATURES, HIDDEN).init(device),
            dropout: DropoutConfig::new(DROPOUT).init(),
            output: LinearConfig::new(HIDDEN, CLASSES).init(device),
        }
    }

    /// Scores of the classes for `x`, `[N, 1, 28, 28]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.classify(self.norm.forward(self.conv.forward(x)))
    }

    /// The same, with the normalization under the stopwatch.
    pub fn forward_timed(&self, x: Tensor<4>) -> Forward {
        let x = self.conv.forward(x);
        let (y, moments, stopwatch) = Stopwatch::run(x, |x| self.norm.forward_with_moments(x));
        Forward { logits: self.classify(y), moments, stopwatch }
    }

    fn classify(&self, x: Tensor<4>) -> Tensor<2> {
        let hidden = relu(self.hidden.forward(x.flatten(1, 3)));
        self.output.forward(self.dropout.forward(hidden))
    }

    /// The running mean and variance of Batch Normalization, the last update included.
    pub fn running_moments(&self) -> Option<Moments> {
        match &self.norm {
            NormLayer::Batch(layer) => {
                Some(Moments { mean: layer.running_mean.value_sync(), variance: layer.running_var.value_sync() })
            }
            _ => None,
        }
    }

    /// Trainable parameters of the network and, of these, of the normalization.
    ///
    /// Burn draws the initial weights when they are first looked at; counting looks at them in
    /// the order of the layers, before dropout takes random numbers of its own.
    pub fn count_parameters(&self) -> (usize, usize) {
        (count(self), count(&self.norm))
    }
}

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
    use super::*;

    /// One test for all that draws weights: the seed belongs to the whole process.
    #[test]
    fn every_normalization_has_the_same_weights_around_it() {
        let device = Device::flex().autodiff();
        let weights = Norm::ALL.map(|norm| {
            device.seed(5);
            let network = Network::new(norm, &device);
            let (all, of_norm) = network.count_parameters();
            assert_eq!(all - of_norm, 866_798, "running statistics are not trained");
            assert_eq!(of_norm == 0, norm == Norm::None);
            [
                network.conv.weight.val().into_data(),
                network.hidden.weight.val().into_data(),
                network.output.weight.val().into_data(),
            ]
        });
        for other in &weights[1..] {
            assert_eq!(other, &weights[0]);
        }
    }
}
