//! Lines to paste into a program.

use cellnorm::data::Summary;
use cellnorm_data::state::Statistics;

use super::args::Paste;

/// The lines for a framework; numbers between 0 and 1 where the data are integers.
pub fn lines(statistics: &Statistics, framework: Paste) -> String {
    let summaries = statistics.summaries();
    let unusable = |summary: &Option<Summary>| summary.is_none_or(|summary| summary.is_constant());
    let unusable: Vec<String> = (0..summaries.len())
        .filter(|channel| unusable(&summaries[*channel]))
        .map(|channel| channel.to_string())
        .collect();
    if !unusable.is_empty() {
        eprintln!(
            "warning: no deviation to divide by in channel {}; put in what suits you",
            unusable.join(", ")
        );
    }
    if !statistics.failures.is_empty() {
        eprintln!(
            "warning: files could not be read: {}; without --paste they are named",
            statistics.failures.len()
        );
    }
    let full = statistics.full_scale();
    let of = |get: fn(&Summary) -> f64, power: i32| {
        let each = summaries.iter().map(|summary| {
            summary.as_ref().map_or(f64::NAN, |summary| get(summary) / full.powi(power))
        });
        let texts: Vec<String> = each.map(|value| format!("{value:?}")).collect();
        texts.join(", ")
    };
    let mean = of(|summary| summary.mean, 1);
    let deviation = of(|summary| summary.deviation, 1);
    let variance = of(|summary| summary.deviation * summary.deviation, 2);
    let count = summaries.len();
    match framework {
        Paste::Torch => format!("transforms.Normalize(mean=[{mean}], std=[{deviation}])\n"),
        Paste::Keras => {
            format!(
                "keras.layers.Normalization(axis=-1, mean=[{mean}], variance=[{variance}])  # of \
                 values between 0 and 1\n"
            )
        }
        Paste::Burn => {
            format!(
                "let normalize = NormalizeConfig::new(vec![{mean}], \
                 vec![{deviation}]).init(&device)?;\n"
            )
        }
        Paste::Candle => format!(
            "let mean = Tensor::new(&[{mean}f32], &device)?.reshape((1, {count}, 1, 1))?;\nlet \
             std = Tensor::new(&[{deviation}f32], &device)?.reshape((1, {count}, 1, 1))?;\nlet x \
             = x.broadcast_sub(&mean)?.broadcast_div(&std)?;\n"
        ),
        Paste::Onnx => {
            let plain = |text: String| text.replace(' ', "");
            format!(
                "cellnorm fold model.onnx -o folded.onnx --mean {} --std {}\n",
                plain(mean),
                plain(deviation)
            )
        }
    }
}
