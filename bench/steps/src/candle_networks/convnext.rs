//! A small ConvNeXt, with layer normalization over the channels of each position.
//!
//! Source: Z. Liu and others, *A ConvNet for the 2020s*, 2022.

use candle_core::{Device, Result, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, VarBuilder, conv2d, linear};

use super::norms::{Norm, layer_norm};
use super::{Loss, images};
use crate::inputs::{self, COLORS};
use crate::network::convnext::{DEPTHS, EXPANSION, KERNEL, PATCH, WIDTHS};
use crate::network::{CLASSES, Norms};

pub fn loss(norms: Norms, vb: VarBuilder) -> Result<Loss> {
    let (x, classes) = inputs::convnext();
    let (x, classes) = (images(x)?, Tensor::new(classes, &Device::Cpu)?);
    let network = Convnext::new(norms, vb)?;
    Ok(Box::new(move || cross_entropy(&network.forward(&x)?, &classes)))
}

struct Convnext {
    stem: Conv2d,
    stem_norm: Norm,
    stages: Vec<Stage>,
    norm: Norm,
    head: Linear,
}

impl Convnext {
    fn new(norms: Norms, vb: VarBuilder) -> Result<Self> {
        let last = WIDTHS[WIDTHS.len() - 1];
        let stage = |stage| Stage::new(stage, norms, vb.pp(format!("stage{stage}")));
        Ok(Self {
            stem: patches([COLORS, WIDTHS[0]], PATCH, vb.pp("stem"))?,
            stem_norm: layer_norm(norms, WIDTHS[0], vb.pp("stem_norm"))?,
            stages: (0..WIDTHS.len()).map(stage).collect::<Result<_>>()?,
            norm: layer_norm(norms, last, vb.pp("norm"))?,
            head: linear(last, CLASSES, vb.pp("head"))?,
        })
    }
}

impl Module for Convnext {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = over_channels(&self.stem_norm, &self.stem.forward(x)?)?;
        let x = self.stages.iter().try_fold(x, |x, stage| stage.forward(&x))?;
        self.head.forward(&(self.norm)(&x.mean((2, 3))?)?)
    }
}

/// Blocks; in all stages but the first, half as many positions each way before them.
struct Stage {
    entry: Option<(Norm, Conv2d)>,
    blocks: Vec<Block>,
}

impl Stage {
    fn new(stage: usize, norms: Norms, vb: VarBuilder) -> Result<Self> {
        let entry = || -> Result<_> {
            let norm = layer_norm(norms, WIDTHS[stage - 1], vb.pp("norm"))?;
            Ok((norm, patches([WIDTHS[stage - 1], WIDTHS[stage]], 2, vb.pp("conv"))?))
        };
        let block = |block| Block::new(WIDTHS[stage], norms, vb.pp(format!("block{block}")));
        Ok(Self {
            entry: (stage > 0).then(entry).transpose()?,
            blocks: (0..DEPTHS[stage]).map(block).collect::<Result<_>>()?,
        })
    }
}

impl Module for Stage {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.entry {
            Some((norm, conv)) => conv.forward(&over_channels(norm, x)?)?,
            None => x.clone(),
        };
        self.blocks.iter().try_fold(x, |x, block| block.forward(&x))
    }
}

/// x + perceptron(norm(convolution of each channel)), channels last from the normalization on.
struct Block {
    conv: Conv2d,
    norm: Norm,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(width: usize, norms: Norms, vb: VarBuilder) -> Result<Self> {
        let config = Conv2dConfig { padding: KERNEL / 2, groups: width, ..Default::default() };
        Ok(Self {
            conv: conv2d(width, width, KERNEL, config, vb.pp("conv"))?,
            norm: layer_norm(norms, width, vb.pp("norm"))?,
            up: linear(width, EXPANSION * width, vb.pp("up"))?,
            down: linear(EXPANSION * width, width, vb.pp("down"))?,
        })
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = (self.norm)(&self.conv.forward(x)?.permute((0, 2, 3, 1))?)?;
        let y = self.down.forward(&self.up.forward(&y)?.gelu_erf()?)?;
        x + y.permute((0, 3, 1, 2))?
    }
}

/// A convolution whose windows do not overlap.
fn patches([width, out]: [usize; 2], side: usize, vb: VarBuilder) -> Result<Conv2d> {
    conv2d(width, out, side, Conv2dConfig { stride: side, ..Default::default() }, vb)
}

fn over_channels(norm: &Norm, x: &Tensor) -> Result<Tensor> {
    norm(&x.permute((0, 2, 3, 1))?)?.permute((0, 3, 1, 2))
}
