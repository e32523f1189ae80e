//! ResNet-18 for images of CIFAR's size, with batch normalization.
//!
//! Source: K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, 2015.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};

use super::norms::BatchNorm;
use super::{Learner, images, numbers};
use crate::inputs::{self, COLORS};
use crate::network::resnet18::{DEPTH, WIDTHS};
use crate::network::{CLASSES, Norms};

#[derive(Module, Debug)]
pub struct Resnet18 {
    stem: Convolution,
    blocks: Vec<Block>,
    head: Linear,
    loss: CrossEntropyLoss,
}

impl Resnet18 {
    pub fn new(norms: Norms, device: &Device) -> Self {
        let mut width = WIDTHS[0];
        let stem = Convolution::new([COLORS, width], 3, 1, norms, device);
        let mut blocks = vec![];
        for (stage, out) in WIDTHS.into_iter().enumerate() {
            for block in 0..DEPTH {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Block::new([width, out], stride, norms, device));
                width = out;
            }
        }
        let head = LinearConfig::new(width, CLASSES).init(device);
        Self { stem, blocks, head, loss: CrossEntropyLossConfig::new().init(device) }
    }
}

impl Learner for Resnet18 {
    type Batch = (Tensor<4>, Tensor<1, Int>);

    fn batch(device: &Device) -> Self::Batch {
        let (x, classes) = inputs::resnet18();
        let count = classes.len();
        (images(x, device), numbers(classes, [count], device))
    }

    fn loss(&self, (x, classes): &Self::Batch) -> Tensor<1> {
        let x = relu(self.stem.forward(x.clone()));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let features = x.mean_dims(&[2, 3]).flatten::<2>(1, 3);
        self.loss.forward(self.head.forward(features), classes.clone())
    }
}

/// relu(x + norm(conv(relu(norm(conv(x)))))), where x itself is convolved if its shape changes.
#[derive(Module, Debug)]
struct Block {
    first: Convolution,
    second: Convolution,
    shortcut: Option<Convolution>,
}

impl Block {
    fn new([width, out]: [usize; 2], stride: usize, norms: Norms, device: &Device) -> Self {
        Self {
            first: Convolution::new([width, out], 3, stride, norms, device),
            second: Convolution::new([out, out], 3, 1, norms, device),
            shortcut: (width != out)
                .then(|| Convolution::new([width, out], 1, stride, norms, device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.second.forward(relu(self.first.forward(x.clone())));
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x),
            None => x,
        };
        relu(x + y)
    }
}

/// A convolution and the normalization behind it.
#[derive(Module, Debug)]
struct Convolution {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Convolution {
    fn new(
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        norms: Norms,
        device: &Device,
    ) -> Self {
        let pad = kernel / 2;
        let conv = Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(false);
        Self { conv: conv.init(device), norm: BatchNorm::new(norms, channels[1], device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}
