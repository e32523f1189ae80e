//! A small ConvNeXt, with layer normalization over the channels of each position.
//!
//! Source: Z. Liu and others, *A ConvNet for the 2020s*, 2022.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Int, Tensor};

use super::norms::LayerNorm;
use super::{Learner, images, numbers};
use crate::inputs::{self, COLORS};
use crate::network::convnext::{DEPTHS, EXPANSION, KERNEL, PATCH, WIDTHS};
use crate::network::{CLASSES, Norms};

#[derive(Module, Debug)]
pub struct Convnext {
    stem: Conv2d,
    stem_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    head: Linear,
    loss: CrossEntropyLoss,
}

impl Convnext {
    pub fn new(norms: Norms, device: &Device) -> Self {
        let last = WIDTHS[WIDTHS.len() - 1];
        Self {
            stem: patches([COLORS, WIDTHS[0]], PATCH, device),
            stem_norm: LayerNorm::new(norms, WIDTHS[0], device),
            stages: (0..WIDTHS.len()).map(|stage| Stage::new(stage, norms, device)).collect(),
            norm: LayerNorm::new(norms, last, device),
            head: LinearConfig::new(last, CLASSES).init(device),
            loss: CrossEntropyLossConfig::new().init(device),
        }
    }
}

impl Learner for Convnext {
    type Batch = (Tensor<4>, Tensor<1, Int>);

    fn batch(device: &Device) -> Self::Batch {
        let (x, classes) = inputs::convnext();
        let count = classes.len();
        (images(x, device), numbers(classes, [count], device))
    }

    fn loss(&self, (x, classes): &Self::Batch) -> Tensor<1> {
        let x = over_channels(&self.stem_norm, self.stem.forward(x.clone()));
        let x = self.stages.iter().fold(x, |x, stage| stage.forward(x));
        let features = self.norm.forward(x.mean_dims(&[2, 3]).flatten::<2>(1, 3));
        self.loss.forward(self.head.forward(features), classes.clone())
    }
}

/// Blocks; in all stages but the first, half as many positions each way before them.
#[derive(Module, Debug)]
struct Stage {
    entry: Option<Entry>,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(stage: usize, norms: Norms, device: &Device) -> Self {
        let entry = (stage > 0).then(|| Entry {
            norm: LayerNorm::new(norms, WIDTHS[stage - 1], device),
            conv: patches([WIDTHS[stage - 1], WIDTHS[stage]], 2, device),
        });
        Self {
            entry,
            blocks: (0..DEPTHS[stage]).map(|_| Block::new(WIDTHS[stage], norms, device)).collect(),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = match &self.entry {
            Some(Entry { norm, conv }) => conv.forward(over_channels(norm, x)),
            None => x,
        };
        self.blocks.iter().fold(x, |x, block| block.forward(x))
    }
}

#[derive(Module, Debug)]
struct Entry {
    norm: LayerNorm,
    conv: Conv2d,
}

/// x + perceptron(norm(convolution of each channel)), channels last from the normalization on.
#[derive(Module, Debug)]
struct Block {
    conv: Conv2d,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(width: usize, norms: Norms, device: &Device) -> Self {
        let conv = Conv2dConfig::new([width, width], [KERNEL, KERNEL])
            .with_padding(PaddingConfig2d::Same)
            .with_groups(width);
        Self {
            conv: conv.init(device),
            norm: LayerNorm::new(norms, width, device),
            up: LinearConfig::new(width, EXPANSION * width).init(device),
            down: LinearConfig::new(EXPANSION * width, width).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.norm.forward(self.conv.forward(x.clone()).permute([0, 2, 3, 1]));
        let y = self.down.forward(gelu(self.up.forward(y)));
        x + y.permute([0, 3, 1, 2])
    }
}

/// A convolution whose windows do not overlap.
fn patches(channels: [usize; 2], side: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [side, side]).with_stride([side, side]).init(device)
}

fn over_channels(norm: &LayerNorm, x: Tensor<4>) -> Tensor<4> {
    norm.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2])
}
