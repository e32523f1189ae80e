//! The statistics as a table with remarks, as JSON, and as lines to paste into a program.

use cellnorm::data::{Channel, Summary, Values};
use cellnorm_data::state::Statistics;
use comfy_table::{CellAlignment, ColumnConstraint, Width};
use serde_json::{Value, json};

use super::PasteTarget;
use crate::format::{self, counted, indices, join, paragraphs, remainder, sparse_table, thousands};

/// Rows of a table; further rows are counted.
const MOST_ROWS: usize = 32;

/// Failures that are named.
const MOST_FAILURES: usize = 20;

pub fn text(statistics: &Statistics, others: usize, width: usize) -> String {
    let summaries = statistics.summaries();
    paragraphs([
        heading(statistics, others),
        listed(&summaries, statistics, width),
        notes(&summaries, statistics),
        failures(statistics),
    ])
}

fn heading(statistics: &Statistics, others: usize) -> String {
    let mut text = counted(statistics.dataset.files, "file");
    if let Some(split) = &statistics.dataset.split {
        text += &format!(", split {split}");
    }
    if !statistics.is_complete() {
        let done: u64 = statistics.done.iter().map(|[start, end]| end - start).sum();
        text += &format!("; {} of {}", thousands(done), counted(statistics.parts, "part"));
    }
    if others > 0 {
        text += &format!("; {} of other kinds passed over", thousands(others));
    }
    if statistics.full_scale() != 1.0 {
        text += &format!("; numbers divided by {}", statistics.full_scale());
    }
    text + "\n"
}

/// A number with about ten figures.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(1e-4..1e9).contains(&size) => format!("{value:.9e}"),
        size => format!("{value:.*}", (9.0 - size.log10().floor()).clamp(0.0, 12.0) as usize),
    }
}

fn listed(summaries: &[Option<Summary>], statistics: &Statistics, width: usize) -> String {
    let full = statistics.full_scale();
    let heads = [
        "channel",
        "values",
        "mean",
        "std",
        "std (n − 1)",
        "min",
        "max",
        "mean of samples' std",
        "NaN",
        "infinite",
    ];
    let count = |count: u64| if count == 0 { String::new() } else { thousands(count) };
    let row = |(index, (summary, channel)): (usize, (&Option<Summary>, &Channel))| {
        let Some(summary) = summary else {
            let [nan, infinite] = channel.left_out();
            let mut row = [const { String::new() }; 10];
            (row[0], row[1], row[8], row[9]) =
                (index.to_string(), "none".into(), count(nan), count(infinite));
            return row;
        };
        [
            index.to_string(),
            thousands(summary.count),
            number(summary.mean / full),
            number(summary.deviation / full),
            summary.sample_deviation.map(|deviation| number(deviation / full)).unwrap_or_default(),
            short(summary.min / full),
            short(summary.max / full),
            summary.by_sample.map(|by| number(by.mean_of_deviations / full)).unwrap_or_default(),
            count(summary.nan),
            count(summary.infinite),
        ]
    };
    let channels = statistics.channels.total().unwrap_or_default();
    let rows: Vec<[String; 10]> = summaries.iter().zip(&channels).enumerate().map(row).collect();
    let (mut table, columns, shown, more) = sparse_table(heads, &rows, MOST_ROWS, width);
    for (column, at) in table.column_iter_mut().zip(columns) {
        column.set_cell_alignment(CellAlignment::Right);
        // a heading may go on in another line after a word, the digits of a number must not
        let cells = rows[..shown].iter().map(|row| row[at].as_str());
        let widths = cells.chain(heads[at].split_whitespace()).map(|text| text.chars().count());
        let widest = widths.max().unwrap_or(0) as u16;
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(widest + 2)));
    }
    format!("{}{more}", format::trimmed(&table))
}

fn short(value: f64) -> String {
    if value == value.round() && value.abs() < 1e9 { format!("{value:.0}") } else { number(value) }
}

fn notes(summaries: &[Option<Summary>], statistics: &Statistics) -> String {
    let mut text = String::new();
    let all = || summaries.iter().flatten();
    let is_constant = |channel: &usize| summaries[*channel].is_some_and(|one| one.is_constant());
    let constant: Vec<usize> = (0..summaries.len()).filter(is_constant).collect();
    if !constant.is_empty() {
        let channels = indices("channel", &constant);
        text += &format!(
            "All values of the {channels} are equal: there is no deviation to divide by. Leave it \
             out, or take 1.\n"
        );
    }
    let apart = all()
        .filter_map(|one| Some(one.deviation / one.by_sample?.mean_of_deviations))
        .fold(1.0, f64::max);
    if apart.is_finite() && apart > 1.02 {
        text += &format!(
            "std is of all values together. The mean of the samples' own deviations is up to \
             {:.0} % smaller, as it leaves out how far the samples lie apart; some published \
             numbers, ImageNet's 0.229, 0.224, 0.225 among them, are such means.\n",
            100.0 * (1.0 - 1.0 / apart)
        );
    }
    if let Some(split @ ("test" | "validation")) = statistics.dataset.split.as_deref() {
        text += &format!(
            "These are data of the {split} split: a model that is normalized with them has seen \
             what it will be judged by. Take the training data's statistics for all splits.\n"
        );
    }
    text
}

pub fn failures(statistics: &Statistics) -> String {
    let failures = &statistics.failures;
    let count = match failures.len() {
        0 => return String::new(),
        1 => "it".into(),
        count => format!("these {}", thousands(count)),
    };
    let mut text = format!("Not among them, as {count} could not be read:\n");
    for failure in failures.iter().take(MOST_FAILURES) {
        text += &format!("  {}: {}\n", failure.name, failure.problem);
    }
    if failures.len() > MOST_FAILURES {
        text += &format!("  {}", remainder(failures.len() - MOST_FAILURES));
    }
    text
}

/// The percentiles that are written for integers.
const PERCENTS: [f64; 7] = [1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0];

/// The statistics; `mean` and `std` of numbers between 0 and 1 where the data are integers,
/// `channels` in the units of the data.
pub fn json(statistics: &Statistics) -> Value {
    let full = statistics.full_scale();
    let summaries = statistics.summaries();
    let each = |number: fn(&Summary) -> f64| -> Vec<Option<f64>> {
        summaries.iter().map(|summary| summary.as_ref().map(|one| number(one) / full)).collect()
    };
    let channels: Vec<Value> =
        statistics.channels.total().unwrap_or_default().iter().map(channel).collect();
    json!({
        "mean": each(|summary| summary.mean),
        "std": each(|summary| summary.deviation),
        "full_scale": full,
        "complete": statistics.is_complete(),
        "files": statistics.dataset.files,
        "digest": statistics.dataset.digest,
        "split": statistics.dataset.split,
        "settings": statistics.settings,
        "channels": channels,
        "failures": statistics.failures,
    })
}

fn channel(channel: &Channel) -> Value {
    let Some(summary) = channel.summary() else {
        let [nan, infinite] = channel.left_out();
        return json!({ "count": 0, "nan": nan, "infinite": infinite });
    };
    let mut value = json!({
        "count": summary.count,
        "mean": summary.mean,
        "deviation": summary.deviation,
        "sample_deviation": summary.sample_deviation,
        "min": summary.min,
        "max": summary.max,
        "nan": summary.nan,
        "infinite": summary.infinite,
        "constant": summary.is_constant(),
        "by_sample": summary.by_sample.map(|by| json!({
            "samples": by.samples,
            "mean": by.mean,
            "deviation_of_means": by.deviation_of_means,
            "deviation": by.deviation,
            "mean_of_deviations": by.mean_of_deviations,
        })),
    });
    if let Values::Integers(histogram) = &channel.values {
        let percentiles: serde_json::Map<String, Value> = PERCENTS
            .iter()
            .map(|percent| (percent.to_string(), json!(histogram.percentile(*percent))))
            .collect();
        // sums of 128 bits are no numbers of JSON everywhere
        value["sum"] = json!(histogram.sum().to_string());
        value["sum_of_squares"] = json!(histogram.sum_of_squares().to_string());
        value["percentiles"] = json!(percentiles);
        value["histogram"] = json!(histogram.counts());
    }
    value
}

/// The lines for a framework; numbers between 0 and 1 where the data are integers.
pub fn paste(statistics: &Statistics, framework: PasteTarget) -> String {
    let summaries = statistics.summaries();
    let unusable: Vec<usize> = (0..summaries.len())
        .filter(|channel| summaries[*channel].is_none_or(|summary| summary.is_constant()))
        .collect();
    if !unusable.is_empty() {
        let channels = indices("channel", &unusable);
        eprintln!("warning: no deviation to divide by in the {channels}; put in what suits you");
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
