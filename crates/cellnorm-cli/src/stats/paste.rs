//! Lines to paste into a program.

use cellnorm::data::Summary;
use cellnorm_data::state::Statistics;

use super::args::PasteTarget;
use crate::format::join;

/// The lines for a framework; numbers between 0 and 1 where the data are integers.
pub fn lines(statistics: &Statistics, framework: PasteTarget) -> String {
    let summaries = statistics.summaries();
    let unusable = (0..summaries.len())
        .filter(|channel| summaries[*channel].is_none_or(|summary| summary.is_constant()));
    let unusable = join(unusable, ", ");
    if !unusable.is_empty() {
        eprintln!(
            "warning: no deviation to divide by in channel {unusable}; put in what suits you"
        );
    }
    if !statistics.failures.is_empty() {
        eprintln!(
            "warning: files could not be read: {}; without --paste they are named",
            statistics.failures.len()
        );
    }
    let full = statistics.full_scale();
    let list = |number: fn(&Summary) -> f64, power: i32| {
        let each = summaries.iter().map(|summary| {
            summary.as_ref().map_or(f64::NAN, |summary| number(summary) / full.powi(power))
        });
        join(each.map(|value| format!("{value:?}")), ", ")
    };
    let mean = list(|summary| summary.mean, 1);
    let deviation = list(|summary| summary.deviation, 1);
    let variance = list(|summary| summary.deviation * summary.deviation, 2);
    let count = summaries.len();
    match framework {
        PasteTarget::Torch => format!("transforms.Normalize(mean=[{mean}], std=[{deviation}])\n"),
        PasteTarget::Keras => format!(
            "keras.layers.Normalization(axis=-1, mean=[{mean}], variance=[{variance}])  # of \
             values between 0 and 1\n"
        ),
        PasteTarget::Burn => format!(
            "let normalize = NormalizeConfig::new(vec![{mean}], \
             vec![{deviation}]).init(&device)?;\n"
        ),
        PasteTarget::Candle => format!(
            "let mean = Tensor::new(&[{mean}f32], &device)?.reshape((1, {count}, 1, 1))?;\nlet \
             std = Tensor::new(&[{deviation}f32], &device)?.reshape((1, {count}, 1, 1))?;\nlet x \
             = x.broadcast_sub(&mean)?.broadcast_div(&std)?;\n"
        ),
        PasteTarget::Onnx => format!(
            "cellnorm fold model.onnx -o folded.onnx --mean {} --std {}\n",
            mean.replace(' ', ""),
            deviation.replace(' ', "")
        ),
    }
}
