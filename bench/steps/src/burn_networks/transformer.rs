//! A transformer encoder that normalizes before attention and before the perceptron.
//!
//! Sources: A. Vaswani and others, *Attention Is All You Need*, 2017; R. Xiong and others,
//! *On Layer Normalization in the Transformer Architecture*, 2020.

use burn::module::Module;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Int, Tensor};

use super::norms::LayerNorm;
use super::{Learner, numbers};
use crate::inputs;
use crate::network::transformer::{BATCH, BLOCKS, EXPANSION, HEADS, LENGTH, SYMBOLS, WIDTH};
use crate::network::{CLASSES, Norms};

#[derive(Module, Debug)]
pub struct Encoder {
    symbols: Embedding,
    places: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    loss: CrossEntropyLoss,
}

impl Encoder {
    pub fn new(norms: Norms, device: &Device) -> Self {
        Self {
            symbols: EmbeddingConfig::new(SYMBOLS, WIDTH).init(device),
            places: EmbeddingConfig::new(LENGTH, WIDTH).init(device),
            blocks: (0..BLOCKS).map(|_| Block::new(norms, device)).collect(),
            norm: LayerNorm::new(norms, WIDTH, device),
            head: LinearConfig::new(WIDTH, CLASSES).init(device),
            loss: CrossEntropyLossConfig::new().init(device),
        }
    }
}

impl Learner for Encoder {
    /// Symbols, the numbers of their places, and classes.
    type Batch = (Tensor<2, Int>, Tensor<2, Int>, Tensor<1, Int>);

    fn batch(device: &Device) -> Self::Batch {
        let (symbols, classes) = inputs::transformer();
        let places = (0..LENGTH as u32).collect();
        (
            numbers(symbols, [BATCH, LENGTH], device),
            numbers(places, [1, LENGTH], device),
            numbers(classes, [BATCH], device),
        )
    }

    fn loss(&self, (symbols, places, classes): &Self::Batch) -> Tensor<1> {
        let x = self.symbols.forward(symbols.clone()) + self.places.forward(places.clone());
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let features = self.norm.forward(x).mean_dim(1).flatten::<2>(1, 2);
        self.loss.forward(self.head.forward(features), classes.clone())
    }
}

/// x + attention(norm(x)), then x + perceptron(norm(x)).
#[derive(Module, Debug)]
struct Block {
    norms: [LayerNorm; 2],
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn new(norms: Norms, device: &Device) -> Self {
        let norm = || LayerNorm::new(norms, WIDTH, device);
        Self {
            norms: [norm(), norm()],
            qkv: LinearConfig::new(WIDTH, 3 * WIDTH).init(device),
            out: LinearConfig::new(WIDTH, WIDTH).init(device),
            up: LinearConfig::new(WIDTH, EXPANSION * WIDTH).init(device),
            down: LinearConfig::new(EXPANSION * WIDTH, WIDTH).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attention(self.norms[0].forward(x));
        x.clone() + self.down.forward(gelu(self.up.forward(self.norms[1].forward(x))))
    }

    fn attention(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let size = width / HEADS;
        let parts = self.qkv.forward(x).chunk(3, 2);
        let [q, k, v] = [0, 1, 2]
            .map(|i| parts[i].clone().reshape([batch, length, HEADS, size]).swap_dims(1, 2));
        let scores = q.matmul(k.swap_dims(2, 3)) / (size as f64).sqrt();
        let context = softmax(scores, 3).matmul(v);
        self.out.forward(context.swap_dims(1, 2).reshape([batch, length, width]))
    }
}
