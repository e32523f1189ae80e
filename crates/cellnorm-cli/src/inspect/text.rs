//! The normalizations as a table, with what is wrong below it.

use std::collections::BTreeMap;
use std::path::Path;

use cellnorm::inspect::Range;
use comfy_table::{CellAlignment, ContentArrangement};

use super::{Row, warnings};
use crate::numbers::thousands;
use crate::table;

/// The whole report.
pub fn report(path: &Path, rows: &[Row], width: usize) -> String {
    if rows.is_empty() {
        return format!("{}: no normalization in it\n", path.display());
    }
    let parts = [
        heading(path, rows),
        meanings(rows),
        listed(rows, width),
        warnings::of(rows),
        advice(rows),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn heading(path: &Path, rows: &[Row]) -> String {
    let count = |of: fn(&Row) -> usize| thousands(rows.iter().map(of).sum());
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

/// What each kind does, once.
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
    let columns: Vec<usize> =
        (0..heads.len()).filter(|at| cells.iter().any(|row| !row[*at].is_empty())).collect();
    let mut table = table::plain();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width as u16);
    table.set_header(columns.iter().map(|at| heads[*at]));
    for row in &cells {
        table.add_row(columns.iter().map(|at| &row[*at]));
    }
    for (at, column) in columns.iter().zip(table.column_iter_mut()) {
        if NUMBERS.contains(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table::trimmed(&table)
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

/// What each reason to stay means, once.
fn advice(rows: &[Row]) -> String {
    let reasons: BTreeMap<&str, &str> =
        rows.iter().filter_map(|row| row.fold.as_ref()?.advice).collect();
    reasons.iter().map(|(code, advice)| format!("{code}: {advice}.\n")).collect()
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
