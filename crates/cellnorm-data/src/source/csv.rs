//! CSV and TSV: a row is a sample, a column a feature. Empty cells and NaN are missing values.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};

use super::{Block, Give, Numbers, Source, give_samples, level};
use crate::{error::text, settings::Settings};

/// A table as text.
struct Table {
    path: PathBuf,
    delimiter: u8,
    has_header: bool,
    columns: Vec<usize>,
    /// Each row has at least one byte and a line end, except the last.
    most_rows: u64,
}

/// Opens a table.
pub fn open(path: &Path, settings: &Settings) -> Result<Box<dyn Source>, String> {
    let is_tabs = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
    let delimiter = if is_tabs { b'\t' } else { b',' };
    let mut first = StringRecord::new();
    let mut reader = reader(path, delimiter, false)?;
    if !reader.read_record(&mut first).map_err(text)? {
        return Err("it is empty".into());
    }
    let is_number = |cell: &str| number(cell).is_some_and(|number| !number.is_nan());
    let has_header =
        !first.iter().any(is_number) && first.iter().any(|cell| number(cell).is_none());
    let columns = match settings.key.as_slice() {
        [] => (0..first.len()).collect(),
        names => names
            .iter()
            .map(|name| {
                let named = first.iter().position(|cell| has_header && cell.trim() == name);
                let numbered = || name.parse::<usize>().ok().filter(|place| *place < first.len());
                named.or_else(numbered).ok_or_else(|| {
                    let known = first.iter().collect::<Vec<_>>().join(", ");
                    format!("it has no column {name:?}; there are: {known}")
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let bytes = fs::metadata(path).map_err(text)?.len();
    let (path, most_rows) = (path.to_owned(), bytes / 2 + 1);
    Ok(Box::new(Table { path, delimiter, has_header, columns, most_rows }))
}

fn reader(path: &Path, delimiter: u8, has_headers: bool) -> Result<csv::Reader<File>, String> {
    let mut builder = ReaderBuilder::new();
    let opened = builder.delimiter(delimiter).has_headers(has_headers).from_path(path);
    opened.map_err(text)
}

/// The number of a cell, NaN if it is missing; `None` if the cell holds something else.
fn number(cell: &str) -> Option<f64> {
    match cell.trim() {
        "" | "NA" | "null" => Some(f64::NAN),
        cell => cell.parse().ok(),
    }
}

impl Source for Table {
    fn parts(&self) -> Vec<Range<u64>> {
        vec![Range { start: 0, end: self.most_rows }]
    }

    fn read(&self, _: &Range<u64>, give: &mut Give<'_>) -> Result<(), String> {
        let width = self.columns.len();
        let at_once = 1_usize << level(width);
        let mut reader = reader(&self.path, self.delimiter, self.has_header)?;
        let mut record = StringRecord::new();
        let (mut start, mut numbers) = (0, Vec::with_capacity(at_once * width));
        let mut give_rows = |numbers: &mut Vec<f64>| {
            let end = start + (numbers.len() / width) as u64;
            let block = Block::new(vec![width], Numbers::F64(std::mem::take(numbers)));
            give_samples(start..end, &Block { channel_axis: Some(0), ..block }, give)?;
            start = end;
            Ok::<(), String>(())
        };
        while reader.read_record(&mut record).map_err(text)? {
            for column in &self.columns {
                let cell = record.get(*column).unwrap_or_default();
                let number = number(cell).ok_or_else(|| {
                    let line = record.position().map_or(0, csv::Position::line);
                    format!(
                        "line {line}, column {} holds {cell:?}, which is no number; choose \
                         columns with --key",
                        column + 1
                    )
                })?;
                numbers.push(number);
            }
            if numbers.len() == at_once * width {
                give_rows(&mut numbers)?;
            }
        }
        give_rows(&mut numbers)
    }

    fn samples(&self) -> Option<u64> {
        None
    }
}
