//! A trained model with and without the statistics of its training data.
//!
//! ```sh
//! cellnorm stats train-images-idx3-ubyte -o train.json
//! cargo run --release -p cellnorm-data --example mnist -- mnist.onnx train.json t10k-images-idx3-ubyte t10k-labels-idx1-ubyte
//! ```
//!
//! The model of Burn's own ONNX example was trained on pixels with mean 0 and deviation 1. Given
//! pixels between 0 and 1 it still runs, and tells far fewer digits: nothing but the score says
//! that the normalization is missing.

use std::error::Error;
use std::path::PathBuf;

use cellnorm_data::apply::Normalization;
use cellnorm_data::files::list;
use cellnorm_data::settings::Settings;
use cellnorm_data::source::{Numbers, open};
use cellnorm_data::state::Statistics;
use cellnorm_onnx::check::{Array, Rten, Runtime, random_feeds};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let [model, statistics, images, labels] = paths.as_slice() else {
        return Err("four files are needed: the model, its statistics, images and labels".into());
    };
    let statistics = Statistics::read(statistics)?;
    let channel =
        statistics.summaries().first().copied().flatten().ok_or("statistics without a channel")?;
    let full = statistics.full_scale();
    let (mean, deviation) = (channel.mean / full, channel.deviation / full);
    let mut answers: Vec<u8> = Vec::new();
    each(labels, &mut |block| {
        let Numbers::U8(all) = block else { return Err("labels are bytes".into()) };
        answers.extend(all);
        Ok(())
    })?;
    let source = cellnorm_onnx::Source::open(model)?;
    let input = random_feeds(&source.model()?, 1)?
        .into_iter()
        .flatten()
        .next()
        .ok_or("a model without inputs")?
        .0;
    let mut session = Rten.load(model, &[])?;
    for (what, mean, deviation) in [("as they are", 0.0, 1.0), ("normalized", mean, deviation)] {
        let normalization = Normalization::new(&[mean], &[deviation])?;
        let (mut place, mut right) = (0, 0);
        each(images, &mut |block| {
            let Numbers::U8(pixels) = block else { return Err("pixels are bytes".into()) };
            for image in pixels.chunks_exact(28 * 28) {
                let block = cellnorm_data::source::Block {
                    shape: vec![28, 28],
                    channel_axis: None,
                    numbers: Numbers::U8(image.to_vec()),
                    valid: None,
                };
                let x = normalization.apply(&block, &Settings::default())?;
                let numbers = x.into_iter().map(f64::from).collect();
                let feed =
                    vec![(input.clone(), Array { shape: vec![1, 1, 28, 28], element: 1, numbers })];
                let outputs = session.run(&feed)?;
                let scores = &outputs.first().ok_or("a model without outputs")?.1.numbers;
                let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
                right += usize::from(best == answers.get(place).copied().map(usize::from));
                place += 1;
            }
            Ok(())
        })?;
        println!(
            "pixels {what:<12} (mean {mean:.4}, std {deviation:.4}): {right} of {place} right"
        );
    }
    Ok(())
}

/// Calls `with` with the numbers of each block of a file.
fn each(
    path: &PathBuf,
    with: &mut dyn FnMut(&Numbers) -> Result<(), String>,
) -> Result<(), Box<dyn Error>> {
    for file in list(std::slice::from_ref(path))?.files {
        let source = open(&file, &Settings::default())?;
        for part in source.parts() {
            source.read(&part, &mut |_, block| with(&block.numbers))?;
        }
    }
    Ok(())
}
