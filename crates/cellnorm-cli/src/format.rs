//! Numbers, lists and tables as people read them in a terminal.

use std::fmt::Display;

use comfy_table::{ContentArrangement, LineStyle, Table, presets};
use indicatif::HumanCount;

/// Indices that are named; further ones are not.
const MOST_INDICES: usize = 8;

/// Groups the digits by three.
pub fn thousands(number: impl TryInto<u64>) -> String {
    HumanCount(number.try_into().unwrap_or(u64::MAX)).to_string()
}

/// "1 file", "2 files".
pub fn counted(number: impl TryInto<u64>, noun: &str) -> String {
    let number = thousands(number);
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// "channel with index 2", "channels with indices 0, 2", the first ones if there are many.
pub fn indices(noun: &str, indices: &[usize]) -> String {
    let (plural, word) = if indices.len() == 1 { ("", "index") } else { ("s", "indices") };
    let more = if indices.len() > MOST_INDICES { ", …" } else { "" };
    format!("{noun}{plural} with {word} {}{more}", join(indices.iter().take(MOST_INDICES), ", "))
}

/// Bytes with three figures.
pub fn bytes(number: usize) -> String {
    let units = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 999.5 {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {}", units[unit])
}

/// The items with a separator between them.
pub fn join(items: impl IntoIterator<Item: Display>, separator: &str) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(separator)
}

/// The parts that are not empty, with a blank line between them.
pub fn paragraphs(parts: impl IntoIterator<Item = String>) -> String {
    join(parts.into_iter().filter(|part| !part.is_empty()), "\n")
}

/// An empty table with a line under its heading alone, wrapped to `width` columns if given.
pub fn table(width: Option<usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
    if let Some(width) = width {
        let width = u16::try_from(width).unwrap_or(u16::MAX);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

/// A table of at most `most` rows, without the columns that are empty in every row; the indices of
/// its columns, the number of its rows, and a line that counts the rows that are left out.
pub fn sparse_table<const N: usize>(
    heads: [&str; N],
    rows: &[[String; N]],
    most: usize,
    width: usize,
) -> (Table, Vec<usize>, usize, String) {
    let columns: Vec<usize> =
        (0..N).filter(|column| rows.iter().any(|row| !row[*column].is_empty())).collect();
    let shown = if rows.len() > most + 1 { most } else { rows.len() };
    let mut table = table(Some(width));
    table.set_header(columns.iter().map(|column| heads[*column]));
    table.add_rows(rows[..shown].iter().map(|row| columns.iter().map(|column| &row[*column])));
    (table, columns, shown, remainder(rows.len() - shown))
}

/// The line that counts the rows that are left out, if there are any.
pub fn remainder(rows: usize) -> String {
    match rows {
        0 => String::new(),
        rows => format!("and {} more; --json names them\n", thousands(rows)),
    }
}

/// The lines of a table without spaces at their ends.
pub fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        let numbers = [0, 999, 1000, 4000, 60_000, 1_234_567].map(thousands);
        assert_eq!(numbers, ["0", "999", "1,000", "4,000", "60,000", "1,234,567"]);
    }

    #[test]
    fn one_is_singular() {
        let texts = [0, 1, 2, 1001].map(|number| counted(number, "normalization"));
        let expected =
            ["0 normalizations", "1 normalization", "2 normalizations", "1,001 normalizations"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn bytes_have_three_figures() {
        let numbers = [0, 999, 1000, 12_544, 999_600, 3_211_264, usize::MAX].map(bytes);
        assert_eq!(
            numbers,
            ["0 B", "999 B", "1.00 KB", "12.5 KB", "1.00 MB", "3.21 MB", "18.4 EB"]
        );
    }
}
