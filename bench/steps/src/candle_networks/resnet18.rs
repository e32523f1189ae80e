//! ResNet-18 for images of CIFAR's size, with batch normalization.
//!
//! Source: K. He, X. Zhang, S. Ren, J. Sun, *Deep Residual Learning for Image Recognition*, 2015.

use candle_core::{Device, Result, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, VarBuilder, conv2d_no_bias, linear};

use super::norms::{Norm, batch_norm};
use super::{Loss, images};
use crate::inputs::{self, COLORS};
use crate::network::resnet18::{DEPTH, WIDTHS};
use crate::network::{CLASSES, Norms};

pub fn loss(norms: Norms, vb: VarBuilder) -> Result<Loss> {
    let (x, classes) = inputs::resnet18();
    let (x, classes) = (images(x)?, Tensor::new(classes, &Device::Cpu)?);
    let network = Resnet18::new(norms, vb)?;
    Ok(Box::new(move || cross_entropy(&network.forward(&x)?, &classes)))
}

struct Resnet18 {
    stem: Convolution,
    blocks: Vec<Block>,
    head: Linear,
}

impl Resnet18 {
    fn new(norms: Norms, vb: VarBuilder) -> Result<Self> {
        let mut width = WIDTHS[0];
        let stem = Convolution::new([COLORS, width], 3, 1, norms, vb.pp("stem"))?;
        let mut blocks = vec![];
        for (stage, out) in WIDTHS.into_iter().enumerate() {
            for block in 0..DEPTH {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Block::new(
                    [width, out],
                    stride,
                    norms,
                    vb.pp(format!("stage{stage}.block{block}")),
                )?);
                width = out;
            }
        }
        Ok(Self { stem, blocks, head: linear(width, CLASSES, vb.pp("head"))? })
    }
}

impl Module for Resnet18 {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(x)?.relu()?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x))?;
        self.head.forward(&x.mean((2, 3))?)
    }
}

/// relu(x + norm(conv(relu(norm(conv(x)))))), where x itself is convolved if its shape changes.
struct Block {
    first: Convolution,
    second: Convolution,
    shortcut: Option<Convolution>,
}

impl Block {
    fn new([width, out]: [usize; 2], stride: usize, norms: Norms, vb: VarBuilder) -> Result<Self> {
        let shortcut = || Convolution::new([width, out], 1, stride, norms, vb.pp("shortcut"));
        Ok(Self {
            first: Convolution::new([width, out], 3, stride, norms, vb.pp("first"))?,
            second: Convolution::new([out, out], 3, 1, norms, vb.pp("second"))?,
            shortcut: (width != out).then(shortcut).transpose()?,
        })
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.second.forward(&self.first.forward(x)?.relu()?)?;
        match &self.shortcut {
            Some(shortcut) => (shortcut.forward(x)? + y)?.relu(),
            None => (x + y)?.relu(),
        }
    }
}

/// A convolution and the normalization behind it.
struct Convolution {
    conv: Conv2d,
    norm: Norm,
}

impl Convolution {
    fn new(
        [width, out]: [usize; 2],
        kernel: usize,
        stride: usize,
        norms: Norms,
        vb: VarBuilder,
    ) -> Result<Self> {
        let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
        let conv = conv2d_no_bias(width, out, kernel, config, vb.pp("conv"))?;
        Ok(Self { conv, norm: batch_norm(norms, out, vb.pp("norm"))? })
    }
}

impl Module for Convolution {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        (self.norm)(&self.conv.forward(x)?)
    }
}
