//! BERT, as MiniLM has it, and the mean over tokens that makes a sentence's embedding.

use std::error::Error;
use std::path::Path;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{Embedding, Linear, Module, VarBuilder, embedding, linear, ops};
use cellnorm_candle::{LayerNorm, layer_norm};
use serde::Deserialize;

#[derive(Deserialize)]
struct Config {
    hidden_size: usize,
    intermediate_size: usize,
    layer_norm_eps: f64,
    max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    type_vocab_size: usize,
    vocab_size: usize,
}

pub struct Encoder {
    words: Embedding,
    places: Tensor,
    kinds: Tensor,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl Encoder {
    pub fn load(
        folder: &Path,
        device: &Device,
    ) -> std::result::Result<Self, Box<dyn Error + Send + Sync>> {
        let config: Config =
            serde_json::from_str(&std::fs::read_to_string(folder.join("config.json"))?)?;
        let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), device)?;
        Ok(Self::new(&config, VarBuilder::from_tensors(tensors, DType::F32, device))?)
    }

    fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let (width, of) = (config.hidden_size, vb.pp("embeddings"));
        let table = |count, name| {
            Ok::<_, candle_core::Error>(embedding(count, width, of.pp(name))?.embeddings().clone())
        };
        let block = |i| Block::new(config, vb.pp(format!("encoder.layer.{i}")));
        Ok(Self {
            words: embedding(config.vocab_size, width, of.pp("word_embeddings"))?,
            places: table(config.max_position_embeddings, "position_embeddings")?,
            kinds: table(config.type_vocab_size, "token_type_embeddings")?,
            norm: layer_norm(width, config.layer_norm_eps, of.pp("LayerNorm"))?,
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_>>()?,
        })
    }

    /// The mean of the tokens' states, of length 1.
    pub fn embed(&self, tokens: &[u32]) -> Result<Tensor> {
        let x = self.words.forward(&Tensor::new(tokens, self.places.device())?)?;
        let x =
            (x + self.places.narrow(0, 0, tokens.len())?)?.broadcast_add(&self.kinds.get(0)?)?;
        let x =
            self.blocks.iter().try_fold(self.norm.forward(&x)?, |x, block| block.forward(&x))?;
        let mean = x.mean(0)?;
        mean.broadcast_div(&mean.sqr()?.sum_all()?.sqrt()?)
    }
}

/// norm(x + attention(x)), then norm(x + perceptron(x)).
struct Block {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    norm: LayerNorm,
}

impl Block {
    fn new(config: &Config, vb: VarBuilder) -> Result<Self> {
        let (width, inner, epsilon) =
            (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let of = vb.pp("attention.self");
        Ok(Self {
            heads: config.num_attention_heads,
            query: linear(width, width, of.pp("query"))?,
            key: linear(width, width, of.pp("key"))?,
            value: linear(width, width, of.pp("value"))?,
            out: linear(width, width, vb.pp("attention.output.dense"))?,
            attention_norm: layer_norm(width, epsilon, vb.pp("attention.output.LayerNorm"))?,
            up: linear(width, inner, vb.pp("intermediate.dense"))?,
            down: linear(inner, width, vb.pp("output.dense"))?,
            norm: layer_norm(width, epsilon, vb.pp("output.LayerNorm"))?,
        })
    }

    /// x is [tokens, width].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let size = width / self.heads;
        let split = |of: &Linear| {
            of.forward(x)?.reshape((tokens, self.heads, size))?.transpose(0, 1)?.contiguous()
        };
        let scores = (split(&self.query)?.matmul(&split(&self.key)?.t()?)? / (size as f64).sqrt())?;
        let context = ops::softmax(&scores, D::Minus1)?.matmul(&split(&self.value)?)?;
        let attended = self.out.forward(&context.transpose(0, 1)?.reshape((tokens, width))?)?;
        let x = self.attention_norm.forward(&(x + attended)?)?;
        let inner = self.up.forward(&x)?.gelu_erf()?;
        self.norm.forward(&(&x + self.down.forward(&inner)?)?)
    }
}
