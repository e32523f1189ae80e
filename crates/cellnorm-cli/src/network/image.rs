//! The network for images: a 3×3 convolution to 10 channels, the normalization right after it, then
//! two dense layers: 128 ReLU with dropout, and 10 classes.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, Identity, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use cellnorm_burn::*;

use super::{Adam, Forward, Moments, Network, Sizes, count};
use crate::data::idx::{CLASSES, SIDE};
use crate::data::images::Images;
use crate::norm::Norm;
use cellnorm_burn::stopwatch::Stopwatch;

/// Channels of the convolution.
const CHANNELS: usize = 10;
/// Groups of Group Normalization.
const GROUPS: usize = 5;
/// Samples of a part of the batch of ghost batch normalization.
const PART: usize = 8;
/// Channels of a window of local response normalization.
const WINDOW: usize = 5;
/// Units of the hidden dense layer.
const HIDDEN: usize = 128;
/// Chance of a hidden unit to be dropped in training.
const DROPOUT: f64 = 0.2;

const KERNEL: usize = 3;
const FEATURES: usize = CHANNELS * (SIDE - KERNEL + 1) * (SIDE - KERNEL + 1);

macro_rules! layers {
    ($($norm:ident: $layer:ident, $device:ident => $new:expr;)*) => {
        /// The layer that is compared.
        #[derive(Module, Debug)]
        enum NormLayer {
            $($norm($layer)),*
        }

        impl NormLayer {
            const NORMS: &[Norm] = &[$(Norm::$norm),*];

            fn new(norm: Norm, device: &Device) -> Self {
                match norm {
                    $(Norm::$norm => Self::$norm({
                        let $device = device;
                        $new
                    }),)*
                    other => unreachable!("{} is not in NORMS", other.name()),
                }
            }

            fn forward(&self, x: Tensor<4>) -> Tensor<4> {
                match self {
                    $(Self::$norm(layer) => layer.forward(x)),*
                }
            }
        }
    };
}

layers! {
    None: Identity, _device => Identity::new();
    Batch: BatchNorm, device => BatchNormConfig::new(CHANNELS).init(device);
    Layer: LayerNorm, device => LayerNormConfig::per_channel(CHANNELS).init(device);
    Instance: InstanceNorm, device => InstanceNormConfig::new(CHANNELS).init(device);
    Group: GroupNorm, device => GroupNormConfig::new(GROUPS, CHANNELS).init(device);
    Rms: RmsNorm, device => RmsNormConfig::per_channel(CHANNELS).init(device);
    BatchInstance: BatchInstanceNorm, device => BatchInstanceNormConfig::new(CHANNELS).init(device);
    Switchable: SwitchableNorm, device => SwitchableNormConfig::new(CHANNELS).init(device);
    Renorm: BatchRenorm, device => BatchRenormConfig::new(CHANNELS).init(device);
    Ghost: GhostBatchNorm, device => GhostBatchNormConfig::new(CHANNELS, PART).init(device);
    Graph: GraphNorm, device => GraphNormConfig::new(CHANNELS).init(device);
    FilterResponse: FilterResponseNorm, device =>
        FilterResponseNormConfig::new(CHANNELS).init(device);
    MeanVariance: MeanVarianceNorm, device => MeanVarianceNormConfig::new(&[1, 2, 3]).init(device);
    Lp: LpNorm, _device => LpNormConfig::new(vec![1]).init();
    LocalResponse: LocalResponseNorm, _device => LocalResponseNormConfig::new(WINDOW).init();
}

#[derive(Module, Debug)]
pub struct ImageNetwork {
    conv: Conv2d,
    norm: NormLayer,
    hidden: Linear,
    dropout: Dropout,
    output: Linear,
}

impl Network for ImageNetwork {
    type Samples = Images;

    const NORMS: &'static [Norm] = NormLayer::NORMS;

    const SIZES: Sizes =
        Sizes::Image { channels: CHANNELS, groups: GROUPS, hidden: HIDDEN, dropout: DROPOUT };

    const ADAM: Adam = Adam::PAPER;

    fn new(norm: Norm, device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([1, CHANNELS], [KERNEL, KERNEL]).init(device),
            norm: NormLayer::new(norm, device),
            hidden: LinearConfig::new(FEATURES, HIDDEN).init(device),
            dropout: DropoutConfig::new(DROPOUT).init(),
            output: LinearConfig::new(HIDDEN, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.classify(self.norm.forward(self.conv.forward(x)))
    }

    fn forward_timed(&self, x: Tensor<4>) -> Forward {
        let x = self.conv.forward(x);
        let (y, moments, stopwatch) = Stopwatch::run(x, |x| match &self.norm {
            NormLayer::Batch(layer) => {
                let (y, mean, variance) = layer.forward_with_statistics(x);
                (y, Some(Moments { mean, variance }))
            }
            layer => (layer.forward(x), None),
        });
        Forward { logits: self.classify(y), moments, stopwatches: vec![stopwatch] }
    }

    fn running_moments(&self) -> Option<Moments> {
        match &self.norm {
            NormLayer::Batch(layer) => Some(Moments {
                mean: layer.running_mean.value_sync(),
                variance: layer.running_var.value_sync(),
            }),
            _ => None,
        }
    }

    fn count_parameters(&self) -> (usize, usize) {
        (count(self), count(&self.norm))
    }
}

impl ImageNetwork {
    fn classify(&self, x: Tensor<4>) -> Tensor<2> {
        let hidden = relu(self.hidden.forward(x.flatten(1, 3)));
        self.output.forward(self.dropout.forward(hidden))
    }
}

#[cfg(test)]
impl ImageNetwork {
    pub fn weights(&self) -> Vec<burn::tensor::TensorData> {
        [self.hidden.weight.val(), self.output.weight.val()]
            .map(Tensor::into_data)
            .into_iter()
            .chain([self.conv.weight.val().into_data()])
            .collect()
    }
}
