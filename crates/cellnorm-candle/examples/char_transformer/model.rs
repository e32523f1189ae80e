//! A transformer over characters, whose normalizations are whoever's are asked for.

use candle_core::{D, Result, Tensor};
use candle_nn::{Embedding, Linear, Module, VarBuilder, embedding, linear, loss, ops};

/// Makes a normalization over the last axis, of this length.
pub type MakeNorm = fn(usize, VarBuilder) -> Result<Box<dyn Module>>;

#[derive(Clone, Copy)]
pub struct Sizes {
    pub symbols: usize,
    pub length: usize,
    pub width: usize,
    pub heads: usize,
    pub blocks: usize,
}

pub struct Transformer {
    symbols: Embedding,
    places: Tensor,
    blocks: Vec<Block>,
    norm: Box<dyn Module>,
    head: Linear,
}

impl Transformer {
    pub fn new(sizes: Sizes, norm: MakeNorm, vb: VarBuilder) -> Result<Self> {
        let Sizes { symbols, length, width, .. } = sizes;
        Ok(Self {
            symbols: embedding(symbols, width, vb.pp("symbols"))?,
            places: embedding(length, width, vb.pp("places"))?.embeddings().clone(),
            blocks: (0..sizes.blocks)
                .map(|i| Block::new(sizes, norm, vb.pp(format!("block{i}"))))
                .collect::<Result<_>>()?,
            norm: norm(width, vb.pp("norm"))?,
            head: linear(width, symbols, vb.pp("head"))?,
        })
    }

    /// The mean surprise over the next symbols, in nats: of `length` + 1 symbols in each row, each
    /// but the first is to be foreseen.
    pub fn loss(&self, symbols: &Tensor) -> Result<Tensor> {
        let length = symbols.dim(1)? - 1;
        let mut x =
            self.symbols.forward(&symbols.narrow(1, 0, length)?)?.broadcast_add(&self.places)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let logits = self.head.forward(&self.norm.forward(&x)?)?;
        loss::cross_entropy(&logits.flatten_to(1)?, &symbols.narrow(1, 1, length)?.flatten_all()?)
    }
}

/// x + attention(norm(x)), then x + perceptron(norm(x)).
struct Block {
    heads: usize,
    norms: [Box<dyn Module>; 2],
    qkv: Linear,
    out: Linear,
    up: Linear,
    down: Linear,
    future: Tensor,
}

impl Block {
    fn new(sizes: Sizes, norm: MakeNorm, vb: VarBuilder) -> Result<Self> {
        let Sizes { length, width, heads, .. } = sizes;
        // far below every score, where a place would look at a later one
        let hidden = (0..length * length)
            .map(|i| if i % length > i / length { -1e9 } else { 0f32 })
            .collect();
        Ok(Self {
            heads,
            norms: [norm(width, vb.pp("norm1"))?, norm(width, vb.pp("norm2"))?],
            qkv: linear(width, 3 * width, vb.pp("qkv"))?,
            out: linear(width, width, vb.pp("out"))?,
            up: linear(width, 4 * width, vb.pp("up"))?,
            down: linear(4 * width, width, vb.pp("down"))?,
            future: Tensor::from_vec(hidden, (length, length), vb.device())?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, length, width) = x.dims3()?;
        let size = width / self.heads;
        let qkv = self
            .qkv
            .forward(&self.norms[0].forward(x)?)?
            .reshape((batch, length, 3, self.heads, size))?;
        let part = |i: usize| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let scores = (part(0)?.matmul(&part(1)?.t()?)? / (size as f64).sqrt())?
            .broadcast_add(&self.future)?;
        // not softmax_last_dim, which has no gradient either
        let context = ops::softmax(&scores, D::Minus1)?.matmul(&part(2)?)?;
        let x =
            (x + self.out.forward(&context.transpose(1, 2)?.reshape((batch, length, width))?)?)?;
        let inner = self.up.forward(&self.norms[1].forward(&x)?)?.gelu()?;
        x + self.down.forward(&inner)?
    }
}
