//! The statistics as a table, and what is remarkable about them.

use std::fmt::Write;

use cellnorm::data::{Channel, Summary};
use cellnorm_data::state::Statistics;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width};

use crate::numbers::thousands;
use crate::table;

/// Rows of a table; what is more is counted.
const MOST_ROWS: usize = 32;

/// Failures that are named.
const MOST_FAILURES: usize = 20;

/// The whole report.
pub fn report(statistics: &Statistics, others: usize, width: usize) -> String {
    let summaries = statistics.summaries();
    let parts = [
        heading(statistics, others),
        listed(&summaries, statistics, width),
        notes(&summaries, statistics),
        failures(statistics),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn heading(statistics: &Statistics, others: usize) -> String {
    let dataset = &statistics.dataset;
    let files = if dataset.files == 1 {
        "1 file".into()
    } else {
        format!("{} files", thousands(dataset.files))
    };
    let split = dataset.split.as_ref().map(|split| format!(", split {split}")).unwrap_or_default();
    let done: u64 = statistics.done.iter().map(|[start, end]| end - start).sum();
    let part = match statistics.is_complete() {
        true => String::new(),
        false => format!(
            "; {} of {} parts",
            thousands(done as usize),
            thousands(statistics.parts as usize)
        ),
    };
    let others = if others == 0 {
        String::new()
    } else {
        format!("; {} of other kinds passed over", thousands(others))
    };
    let scale = match statistics.full_scale() {
        1.0 => String::new(),
        full => format!("; numbers divided by {full}"),
    };
    format!("{files}{split}{part}{others}{scale}\n")
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
    let count = |count: u64| if count == 0 { String::new() } else { thousands(count as usize) };
    let row = |(channel, (summary, of)): (usize, (&Option<Summary>, &Channel))| -> [String; 10] {
        let Some(summary) = summary else {
            let [nan, infinite] = of.left_out();
            let mut row = [const { String::new() }; 10];
            (row[0], row[1], row[8], row[9]) =
                (channel.to_string(), "none".into(), count(nan), count(infinite));
            return row;
        };
        [
            channel.to_string(),
            thousands(summary.count as usize),
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
    let columns: Vec<usize> =
        (0..heads.len()).filter(|at| rows.iter().any(|row| !row[*at].is_empty())).collect();
    let mut table = table::plain();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width as u16);
    table.set_header(columns.iter().map(|at| heads[*at]));
    let shown = if rows.len() > MOST_ROWS + 1 { MOST_ROWS } else { rows.len() };
    for row in &rows[..shown] {
        table.add_row(columns.iter().map(|at| &row[*at]));
    }
    for (column, at) in table.column_iter_mut().zip(&columns) {
        column.set_cell_alignment(CellAlignment::Right);
        // a heading may go on in another line after a word, the digits of a number must not
        let cells = rows[..shown].iter().map(|row| row[*at].as_str());
        let widest = cells
            .chain(heads[*at].split_whitespace())
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0);
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(widest as u16 + 2)));
    }
    let more = match rows.len() - shown {
        0 => String::new(),
        more => format!("and {} more; --json names them\n", thousands(more)),
    };
    format!("{}{more}", table::trimmed(&table))
}

fn short(value: f64) -> String {
    if value == value.round() && value.abs() < 1e9 { format!("{value:.0}") } else { number(value) }
}

/// What one should know of these numbers.
fn notes(summaries: &[Option<Summary>], statistics: &Statistics) -> String {
    let mut text = String::new();
    let all = || {
        summaries.iter().enumerate().filter_map(|(channel, summary)| Some((channel, (*summary)?)))
    };
    let constant: Vec<String> = all()
        .filter(|(_, one)| one.is_constant())
        .map(|(channel, _)| channel.to_string())
        .collect();
    // Writing to a String cannot fail.
    if !constant.is_empty() {
        let _ = writeln!(
            text,
            "All values of channel {} are equal: there is no deviation to divide by. Leave it \
             out, or take 1.",
            constant.join(", ")
        );
    }
    let apart = all()
        .filter_map(|(_, one)| Some(one.deviation / one.by_sample?.mean_of_deviations))
        .fold(1.0, f64::max);
    if apart.is_finite() && apart > 1.02 {
        let _ = writeln!(
            text,
            "std is of all values together. The mean of the samples' own deviations is up to \
             {:.0} % smaller, as it leaves out how far the samples lie apart; some published \
             numbers, ImageNet's 0.229, 0.224, 0.225 among them, are such means.",
            100.0 * (1.0 - 1.0 / apart)
        );
    }
    if let Some(split @ ("test" | "validation")) = statistics.dataset.split.as_deref() {
        let _ = writeln!(
            text,
            "These are data of the {split} split: a model that is normalized with them has seen \
             what it will be judged by. Take the training data's statistics for all splits."
        );
    }
    text
}

/// What could not be read.
pub fn failures(statistics: &Statistics) -> String {
    let failures = &statistics.failures;
    if failures.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "Not among them, as {} could not be read:\n",
        if failures.len() == 1 {
            "it".into()
        } else {
            format!("these {}", thousands(failures.len()))
        }
    );
    for failure in failures.iter().take(MOST_FAILURES) {
        let _ = writeln!(text, "  {}: {}", failure.name, failure.problem);
    }
    if failures.len() > MOST_FAILURES {
        let _ = writeln!(
            text,
            "  and {} more; --json names them",
            thousands(failures.len() - MOST_FAILURES)
        );
    }
    text
}
