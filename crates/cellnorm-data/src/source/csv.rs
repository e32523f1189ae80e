//! CSV and TSV: a row is a sample, a column a feature. Empty cells and NaN are missing values.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord};

use super::numbers::{Block, Numbers};
use super::{Source, level};
use crate::settings::Settings;

/// A table as text.
struct Table {
    path: PathBuf,
    delimiter: u8,
    has_header: bool,
    columns: Vec<usize>,
    /// Each row has at least one byte and a line end, but for the last.
    most_rows: u64,
}

/// Opens a table.
pub fn open(path: &Path, settings: &Settings) -> Result<Box<dyn Source>, String> {
    let is_tabs = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
    let delimiter = if is_tabs { b'\t' } else { b',' };
    let mut first = StringRecord::new();
    let mut reader = reader(path, delimiter, false)?;
    if !reader.read_record(&mut first).map_err(|error| error.to_string())? {
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
                let named = if has_header {
                    first.iter().position(|cell| cell.trim() == name)
                } else {
                    None
                };
                let numbered = || name.parse::<usize>().ok().filter(|place| *place < first.len());
                let known = first.iter().collect::<Vec<_>>().join(", ");
                named
                    .or_else(numbered)
                    .ok_or_else(|| format!("it has no column {name:?}; there are: {known}"))
            })
            .collect::<Result<_, _>>()?,
    };
    let bytes =
        File::open(path).and_then(|file| file.metadata()).map_err(|error| error.to_string())?.len();
    Ok(Box::new(Table {
        path: path.to_owned(),
        delimiter,
        has_header,
        columns,
        most_rows: bytes / 2 + 1,
    }))
}

fn reader(path: &Path, delimiter: u8, has_headers: bool) -> Result<csv::Reader<File>, String> {
    let mut builder = ReaderBuilder::new();
    let opened = builder.delimiter(delimiter).has_headers(has_headers).from_path(path);
    opened.map_err(|error| error.to_string())
}

/// The number of a cell; what is missing is NaN.
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

    fn read(
        &self,
        _: &Range<u64>,
        give: &mut dyn FnMut(u64, &Block) -> Result<(), String>,
    ) -> Result<(), String> {
        let width = self.columns.len();
        let at_once = 1_usize << level(width);
        let mut reader = reader(&self.path, self.delimiter, self.has_header)?;
        let mut record = StringRecord::new();
        let (mut start, mut numbers) = (0, Vec::with_capacity(at_once * width));
        let mut pass_on = |start: &mut u64, numbers: &mut Vec<f64>| {
            // what is left at the end is no power of two of rows
            let rows = (numbers.len() / width) as u64;
            let mut rest = std::mem::take(numbers);
            for (place, level) in super::dyadic(*start..*start + rows, level(width)) {
                let later = rest.split_off((1 << level) * width);
                let block = Block {
                    shape: vec![width],
                    channel_axis: Some(0),
                    numbers: Numbers::F64(rest),
                    valid: None,
                };
                give(place, &block)?;
                rest = later;
            }
            *start += rows;
            Ok::<(), String>(())
        };
        while reader.read_record(&mut record).map_err(|error| error.to_string())? {
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
                pass_on(&mut start, &mut numbers)?;
            }
        }
        pass_on(&mut start, &mut numbers)
    }

    fn samples(&self) -> Option<u64> {
        None
    }
}
