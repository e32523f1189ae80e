//! A small transformer learns to write like a public-domain text, with candle-nn's normalization
//! and with ours.
//!
//! `cargo run --release -p cellnorm-candle --example char_transformer [CHART.svg [TEXT]]`
//!
//! Both start from the same weights and see the same batches. It shows which variables got a
//! gradient, and draws the loss curves.

mod chart;
mod model;

use std::error::Error;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use cellnorm_candle::debug::unreached;
use model::{MakeNorm, Sizes, Transformer};
use plotters::style::RGBColor;

const STEPS: usize = 300;
const BATCH: usize = 12;
const LEARNING_RATE: f64 = 6e-3;

const NORMS: [(&str, RGBColor, MakeNorm); 2] = [
    ("candle-nn", RGBColor(0xb3, 0x4a, 0x2e), |width, vb| {
        Ok(Box::new(candle_nn::layer_norm(width, 1e-5, vb)?))
    }),
    ("cellnorm-candle", RGBColor(0x1f, 0x5f, 0xa8), |width, vb| {
        Ok(Box::new(cellnorm_candle::layer_norm(width, 1e-5, vb)?))
    }),
];

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let chart = arguments.next().unwrap_or_else(|| "char_transformer.svg".into());
    let text = match arguments.next() {
        Some(path) => std::fs::read_to_string(path)?,
        None => include_str!("jargon.txt").to_owned(),
    };
    let (symbols, alphabet) = numbered(&text);
    let sizes = Sizes { symbols: alphabet, length: 64, width: 64, heads: 4, blocks: 2 };
    println!(
        "{} characters, {alphabet} different; {STEPS} steps of {BATCH} × {}",
        symbols.len(),
        sizes.length
    );

    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let models = NORMS.map(|(_, _, norm)| Transformer::new(sizes, norm, vb.clone()));
    let start = values(&variables)?;
    let mut runs = vec![];
    for ((name, color, _), model) in NORMS.into_iter().zip(models) {
        let model = model?;
        for (name, value) in &start {
            variables.data().lock().expect("no thread panicked")[name].set(value)?;
        }
        let missing = unreached(&model.loss(&batch(&symbols, 0, sizes.length)?)?, &variables)?;
        let begin = Instant::now();
        let losses = train(&model, &variables, &symbols, sizes.length)?;
        let end = losses[STEPS - 20..].iter().sum::<f32>() / 20.0;
        println!(
            "{name}: {} of {} variables get a gradient; loss {:.2} → {end:.2} in {:.0} s",
            start.len() - missing.len(),
            start.len(),
            losses[0],
            begin.elapsed().as_secs_f64()
        );
        runs.push((name, color, losses, missing));
    }

    println!(
        "\n{:<24}{}",
        "gradient of",
        runs.iter().map(|run| format!("{:<18}", run.0)).collect::<String>()
    );
    for (name, _) in &start {
        let got = runs
            .iter()
            .map(|run| format!("{:<18}", if run.3.contains(name) { "none" } else { "yes" }));
        println!("{name:<24}{}", got.collect::<String>());
    }
    let curves: Vec<_> =
        runs.iter().map(|(name, color, losses, _)| (*name, *color, &losses[..])).collect();
    chart::draw(&chart, &curves)?;
    println!("\nloss curves: {chart}");
    Ok(())
}

/// Each character as its number in the alphabet, and how many there are.
fn numbered(text: &str) -> (Vec<u32>, usize) {
    let mut alphabet: Vec<char> = text.chars().collect();
    alphabet.sort_unstable();
    alphabet.dedup();
    let number = |c| alphabet.binary_search(&c).expect("a character of the text") as u32;
    (text.chars().map(number).collect(), alphabet.len())
}

/// The names and values of all variables, sorted.
fn values(variables: &VarMap) -> Result<Vec<(String, Tensor)>> {
    let data = variables.data().lock().expect("no thread panicked");
    let mut all = data
        .iter()
        .map(|(name, var)| Ok((name.clone(), var.copy()?)))
        .collect::<Result<Vec<_>>>()?;
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// The batch of a step: rows from places that the step alone decides.
fn batch(symbols: &[u32], step: usize, length: usize) -> Result<Tensor> {
    let places = symbols.len() - length - 1;
    let row = |row: usize| {
        let at = (step * BATCH + row) * 7919 % places;
        &symbols[at..at + length + 1]
    };
    Tensor::from_vec((0..BATCH).flat_map(row).copied().collect(), (BATCH, length + 1), &Device::Cpu)
}

/// The loss at each step.
fn train(
    model: &Transformer,
    variables: &VarMap,
    symbols: &[u32],
    length: usize,
) -> Result<Vec<f32>> {
    let mut optimizer =
        AdamW::new(variables.all_vars(), ParamsAdamW { lr: LEARNING_RATE, ..Default::default() })?;
    let step = |step| {
        let loss = model.loss(&batch(symbols, step, length)?)?;
        optimizer.backward_step(&loss)?;
        loss.to_scalar::<f32>()
    };
    (0..STEPS).map(step).collect()
}
