//! The normalizations as a table, and below it each problem with its meaning, its remedy and its
//! places.

use std::collections::BTreeMap;
use std::path::Path;

use cellnorm::inspect::{Health, Range};
use comfy_table::CellAlignment;

use super::rows::Row;
use crate::fold::advice;
use crate::format::{self, join, paragraphs, sparse_table, thousands};

pub fn report(path: &Path, rows: &[Row], width: usize) -> String {
    if rows.is_empty() {
        return format!("{}: no normalization in it\n", path.display());
    }
    let reasons = rows.iter().filter_map(|row| row.fold.as_ref()?.advice);
    paragraphs([
        heading(path, rows),
        meanings(rows),
        listed(rows, width),
        paragraphs(PROBLEMS.iter().map(|problem| warning(problem, rows))),
        advice(reasons),
    ])
}

fn heading(path: &Path, rows: &[Row]) -> String {
    let count = |count: fn(&Row) -> usize| thousands(rows.iter().map(count).sum::<usize>());
    format!(
        "{}: {} normalizations, {} channels; {} dead, {} exploding, {} with a variance below 0, \
         {} not finite\n",
        path.display(),
        thousands(rows.len()),
        count(|row| row.health.channels),
        count(|row| row.health.dead()),
        count(|row| row.health.exploding.len()),
        count(|row| row.health.negative_variance.len()),
        count(|row| row.health.not_finite.len())
    )
}

/// The meaning of each kind, once.
fn meanings(rows: &[Row]) -> String {
    let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    rows.iter().for_each(|row| *kinds.entry((&row.kind, &row.meaning)).or_default() += 1);
    kinds
        .iter()
        .map(|((kind, meaning), count)| format!("{} × {kind}: {meaning}\n", thousands(*count)))
        .collect()
}

/// Columns that hold numbers.
const NUMBERS: [usize; 6] = [2, 3, 4, 5, 6, 7];

fn listed(rows: &[Row], width: usize) -> String {
    let heads = ["normalization", "kind", "ε", "channels", "γ", "β", "mean", "variance", "folds"];
    let cells: Vec<[String; 9]> = rows.iter().map(cells).collect();
    let (mut table, columns, ..) = sparse_table(heads, &cells, usize::MAX - 1, width);
    for (at, column) in columns.iter().zip(table.column_iter_mut()) {
        if NUMBERS.contains(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format::trimmed(&table)
}

fn cells(row: &Row) -> [String; 9] {
    let health = &row.health;
    let inside = row.inside.last().map(|node| format!(" (in {node})")).unwrap_or_default();
    let channels = if row.numbers.is_some() { health.channels.to_string() } else { String::new() };
    [
        format!("{}{inside}", row.name),
        row.kind.clone(),
        row.epsilon.map(number).unwrap_or_default(),
        channels,
        range(health.gamma),
        range(health.beta),
        range(health.mean),
        range(health.variance),
        row.fold.as_ref().map(|fold| fold.words.clone()).unwrap_or_default(),
    ]
}

fn range(range: Option<Range>) -> String {
    range
        .map(|Range { least, largest }| format!("{} … {}", number(least), number(largest)))
        .unwrap_or_default()
}

/// A number with three figures.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !size.is_finite() => value.to_string(),
        1e-2..1e1 => trimmed(format!("{value:.3}")),
        1e1..1e2 => trimmed(format!("{value:.1}")),
        1e2..1e5 => format!("{value:.0}"),
        _ => {
            let text = format!("{value:.2e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{exponent}", trimmed(digits.to_owned()))
        }
    }
}

fn trimmed(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

struct Problem {
    /// Its meaning and remedy.
    words: &'static str,
    channels: fn(&Health) -> &[usize],
}

const PROBLEMS: [Problem; 5] = [
    Problem {
        words: "NaN or infinity among the numbers of these channels: every output that depends on \
                them is NaN, too. Go back to a checkpoint before training broke",
        channels: |health| &health.not_finite,
    },
    Problem {
        words: "The variance of these channels is negative, which no variance can be: its root is \
                NaN. Check how the model was converted, or gather the statistics again",
        channels: |health| &health.negative_variance,
    },
    Problem {
        words: "These channels multiply their input by more than 1,000 (|γ|/√(variance + \
                ε)), and rounding errors with it. Gather the statistics again on real data, or \
                use a larger ε and train on",
        channels: |health| &health.exploding,
    },
    Problem {
        words: "The variance of these channels is next to 0 (their deviation at most 1e-4 of the \
                layer's largest): their input never changed. Check whether the layer before is \
                dead there; it can be pruned",
        channels: |health| &health.dead_variance,
    },
    Problem {
        words: "γ of these channels is next to 0 (at most 1e-4 of the layer's largest): their \
                output is β, whatever the input. They can be pruned; if there are many, decay γ \
                less in training",
        channels: |health| &health.dead_gamma,
    },
];

/// Layers that are named for a problem; more are counted.
const MOST_LAYERS: usize = 12;

/// Channels that are named for a layer.
const MOST_CHANNELS: usize = 8;

/// The layers and channels that have a problem; empty where none has it.
fn warning(problem: &Problem, rows: &[Row]) -> String {
    let affected: Vec<(&Row, &[usize])> = rows
        .iter()
        .map(|row| (row, (problem.channels)(&row.health)))
        .filter(|(_, channels)| !channels.is_empty())
        .collect();
    if affected.is_empty() {
        return String::new();
    }
    let mut text = format!("{}:\n", problem.words);
    for (row, channels) in affected.iter().take(MOST_LAYERS) {
        let shown = join(channels.iter().take(MOST_CHANNELS), ", ");
        let more = if channels.len() > MOST_CHANNELS { ", …" } else { "" };
        text += &format!(
            "  {}: {} of {} ({shown}{more})\n",
            row.name,
            channels.len(),
            row.health.channels
        );
    }
    if let Some(more) = affected.len().checked_sub(MOST_LAYERS).filter(|more| *more > 0) {
        text += &format!("  and {more} more layers; --json names them\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_three_figures() {
        let numbers = [0.0, 1e-5, 1.0, -0.25, 0.0123, 31.44, -1234.5, 1.5e7, f64::INFINITY];
        assert_eq!(
            numbers.map(number),
            ["0", "1e-5", "1", "-0.25", "0.012", "31.4", "-1234", "1.5e7", "inf"]
        );
    }
}
