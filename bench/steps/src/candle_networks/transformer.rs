//! A transformer encoder that normalizes before attention and before the perceptron.
//!
//! Sources: A. Vaswani and others, *Attention Is All You Need*, 2017; R. Xiong and others,
//! *On Layer Normalization in the Transformer Architecture*, 2020.

use candle_core::{Device, Result, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::{Embedding, Linear, Module, VarBuilder, embedding, linear, ops};

use super::Loss;
use super::norms::{Norm, layer_norm};
use crate::inputs;
use crate::network::transformer::{BATCH, BLOCKS, EXPANSION, HEADS, LENGTH, SYMBOLS, WIDTH};
use crate::network::{CLASSES, Norms};

pub fn loss(norms: Norms, vb: VarBuilder) -> Result<Loss> {
    let (symbols, classes) = inputs::transformer();
    let symbols = Tensor::from_vec(symbols, (BATCH, LENGTH), &Device::Cpu)?;
    let classes = Tensor::new(classes, &Device::Cpu)?;
    let network = Encoder::new(norms, vb)?;
    Ok(Box::new(move || cross_entropy(&network.forward(&symbols)?, &classes)))
}

struct Encoder {
    symbols: Embedding,
    places: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
}

impl Encoder {
    fn new(norms: Norms, vb: VarBuilder) -> Result<Self> {
        let block = |block| Block::new(norms, vb.pp(format!("block{block}")));
        Ok(Self {
            symbols: embedding(SYMBOLS, WIDTH, vb.pp("symbols"))?,
            places: embedding(LENGTH, WIDTH, vb.pp("places"))?.embeddings().clone(),
            blocks: (0..BLOCKS).map(block).collect::<Result<_>>()?,
            norm: layer_norm(norms, WIDTH, vb.pp("norm"))?,
            head: linear(WIDTH, CLASSES, vb.pp("head"))?,
        })
    }
}

impl Module for Encoder {
    fn forward(&self, symbols: &Tensor) -> Result<Tensor> {
        let x = self.symbols.forward(symbols)?.broadcast_add(&self.places)?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x))?;
        self.head.forward(&(self.norm)(&x)?.mean(1)?)
    }
}

/// x + attention(norm(x)), then x + perceptron(norm(x)).
struct Block {
    norms: [Norm; 2],
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(norms: Norms, vb: VarBuilder) -> Result<Self> {
        Ok(Self {
            norms: [
                layer_norm(norms, WIDTH, vb.pp("norm1"))?,
                layer_norm(norms, WIDTH, vb.pp("norm2"))?,
            ],
            qkv: linear(WIDTH, 3 * WIDTH, vb.pp("qkv"))?,
            out: linear(WIDTH, WIDTH, vb.pp("out"))?,
            up: linear(WIDTH, EXPANSION * WIDTH, vb.pp("up"))?,
            down: linear(EXPANSION * WIDTH, WIDTH, vb.pp("down"))?,
        })
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, length, width) = x.dims3()?;
        let size = width / HEADS;
        let parts = self.qkv.forward(x)?.chunk(3, 2)?;
        let part = |i: usize| {
            parts[i].reshape((batch, length, HEADS, size))?.transpose(1, 2)?.contiguous()
        };
        let scores = (part(0)?.matmul(&part(1)?.t()?)? / (size as f64).sqrt())?;
        // not softmax_last_dim, which has no gradient
        let context = ops::softmax(&scores, 3)?.matmul(&part(2)?)?;
        self.out.forward(&context.transpose(1, 2)?.reshape((batch, length, width))?)
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.attention(&(self.norms[0])(x)?)?)?;
        let y = self.up.forward(&(self.norms[1])(&x)?)?.gelu_erf()?;
        x + self.down.forward(&y)?
    }
}
