//! Apache Parquet: columns of numbers are features, a column of lists of one length holds a sample
//! each, and so does a column of images as bytes.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::{Block, Give, Numbers, Source, give_samples, image};
use crate::{error::text, settings::Settings};

/// A table in columns.
struct Table {
    path: PathBuf,
    settings: Settings,
    columns: Vec<Column>,
    content: Content,
    /// The rows of each group.
    groups: Vec<Range<u64>>,
}

/// A column that is read.
#[derive(Clone, Copy)]
struct Column {
    place: usize,
    /// The level of definition of a value that is there.
    full: i16,
    /// The meaning of its integers.
    integers: Integers,
    /// The divisor of its integers: 10ˢ for decimals with s digits after the point.
    divisor: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Integers {
    /// Without a sign, of as many bits.
    Unsigned(u32),
    /// With a sign.
    Signed,
}

impl Column {
    fn new(place: usize, column: &ColumnDescriptor) -> Self {
        let integers = match column.converted_type() {
            ConvertedType::UINT_8 => Integers::Unsigned(8),
            ConvertedType::UINT_16 => Integers::Unsigned(16),
            ConvertedType::UINT_32 => Integers::Unsigned(32),
            ConvertedType::UINT_64 => Integers::Unsigned(64),
            _ => Integers::Signed,
        };
        let is_decimal = column.converted_type() == ConvertedType::DECIMAL;
        let divisor = if is_decimal { 10_f64.powi(column.type_scale()) } else { 1.0 };
        Self { place, full: column.max_def_level(), integers, divisor }
    }
}

/// Whether numbers of a column are dates or times, which no network takes as they are.
fn is_time(column: &ColumnDescriptor) -> bool {
    matches!(
        column.logical_type_ref(),
        Some(LogicalType::Date | LogicalType::Time { .. } | LogicalType::Timestamp { .. })
    ) || matches!(
        column.converted_type(),
        ConvertedType::DATE
            | ConvertedType::TIME_MILLIS
            | ConvertedType::TIME_MICROS
            | ConvertedType::TIMESTAMP_MILLIS
            | ConvertedType::TIMESTAMP_MICROS
    )
}

/// The content of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// A number in each row.
    Numbers,
    /// A list of numbers in each row.
    Lists,
    /// An image in each row, with the bytes of an image file.
    Images,
}

impl Content {
    /// The content of a column; `None` if it cannot be read.
    fn from_column(column: &ColumnDescriptor) -> Option<Self> {
        let is_number = !matches!(
            column.physical_type(),
            Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY | Physical::INT96
        ) && !is_time(column);
        let is_text = matches!(
            column.logical_type_ref(),
            Some(LogicalType::String | LogicalType::Json | LogicalType::Enum)
        );
        let is_bytes = column.physical_type() == Physical::BYTE_ARRAY && !is_text;
        match (is_number, column.max_rep_level()) {
            (true, 0) => Some(Self::Numbers),
            (true, 1) => Some(Self::Lists),
            (false, 0) if is_bytes => Some(Self::Images),
            _ => None,
        }
    }
}

/// Opens a table.
pub fn open(path: &Path, settings: &Settings) -> Result<Box<dyn Source>, String> {
    let reader = reader(path)?;
    let metadata = reader.metadata();
    let all = metadata.file_metadata().schema_descr().columns();
    let chosen = chosen(all, &settings.key)?;
    let content = match chosen.as_slice() {
        [] => return Err("it has no column of numbers or images".into()),
        [(_, only)] => *only,
        several if several.iter().all(|(_, content)| *content == Content::Numbers) => {
            Content::Numbers
        }
        _ => return Err("several columns are read only if each has one number in a row".into()),
    };
    let columns = chosen.iter().map(|(place, _)| Column::new(*place, &all[*place])).collect();
    let mut start = 0_u64;
    let groups = metadata.row_groups().iter().map(|group| {
        let rows = start..start + group.num_rows().max(0) as u64;
        start = rows.end;
        rows
    });
    let groups = groups.collect();
    let (path, settings) = (path.to_owned(), settings.clone());
    Ok(Box::new(Table { path, settings, columns, content, groups }))
}

/// The places and contents of the columns that are asked for; without a question the only column of
/// images or lists, or else all columns of numbers.
fn chosen(
    columns: &[Arc<ColumnDescriptor>],
    key: &[String],
) -> Result<Vec<(usize, Content)>, String> {
    let name = |place: usize| columns[place].path().string();
    let readable: Vec<(usize, Content)> = (0..columns.len())
        .filter_map(|place| Some((place, Content::from_column(&columns[place])?)))
        .collect();
    let known = || readable.iter().map(|(place, _)| name(*place)).collect::<Vec<_>>().join(", ");
    if key.is_empty() {
        let (numbers, others): (Vec<_>, Vec<_>) =
            readable.iter().copied().partition(|(_, content)| *content == Content::Numbers);
        return match others.len() {
            0 => Ok(numbers),
            1 => Ok(others),
            _ => Err(format!(
                "it has several columns of images or lists; name one with --key: {}",
                known()
            )),
        };
    }
    // a column within another one, such as a list or an image beside its file's name, has both
    // names
    let is_called = |name: &str, asked: &str| {
        name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let find = |asked: &String| {
        let mut found = readable.iter().filter(|(place, _)| is_called(&name(*place), asked));
        found.next().copied().ok_or_else(|| {
            format!("it has no column {asked:?} of numbers or images; there are: {}", known())
        })
    };
    key.iter().map(find).collect()
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>, String> {
    let file = File::open(path).map_err(text)?;
    SerializedFileReader::new(file)
        .map_err(|error| format!("it is no usable Parquet file: {error}"))
}

/// Rows that are read at once from each column.
const ROWS: usize = 1 << 10;

impl Source for Table {
    fn parts(&self) -> Vec<Range<u64>> {
        self.groups.iter().filter(|rows| !rows.is_empty()).cloned().collect()
    }

    fn read(&self, part: &Range<u64>, give: &mut Give<'_>) -> Result<(), String> {
        let reader = reader(&self.path)?;
        let group =
            self.groups.iter().position(|rows| rows == part).ok_or("a part of another file")?;
        let group = reader.get_row_group(group).map_err(text)?;
        let columns = self.columns.iter().map(|column| group.get_column_reader(column.place));
        let mut columns = columns.collect::<Result<Vec<_>, _>>().map_err(text)?;
        let mut start = part.start;
        while start < part.end {
            let rows = (part.end - start).min(ROWS as u64) as usize;
            if self.content == Content::Images {
                let Some(ColumnReader::ByteArrayColumnReader(column)) = columns.first_mut() else {
                    return Err("its images are no bytes".into());
                };
                let files = cells(column, rows, self.columns[0].full, |file| file.data().to_vec())?;
                for (row, file) in (start..).zip(&files) {
                    // in messages, rows are counted from 1
                    let number = row + 1;
                    let file =
                        file.as_deref().ok_or_else(|| format!("row {number} has no image"))?;
                    let block = image::decode(file, &self.settings);
                    give(row, &block.map_err(|problem| format!("row {number}: {problem}"))?)?;
                }
            } else {
                let columns = columns.iter_mut().zip(&self.columns);
                let parts = columns.map(|(reader, column)| numbers(reader, rows, *column));
                let block = self.block(rows, parts.collect::<Result<_, _>>()?)?;
                give_samples(start..start + rows as u64, &block, give)?;
            }
            start += rows as u64;
        }
        Ok(())
    }

    fn samples(&self) -> Option<u64> {
        Some(self.groups.last().map_or(0, |rows| rows.end))
    }
}

impl Table {
    /// Some rows as samples.
    fn block(&self, rows: usize, mut columns: Vec<Numbers>) -> Result<Block, String> {
        if self.content == Content::Numbers {
            if columns.iter().any(|column| column.len() != rows) {
                return Err("its columns have different lengths".into());
            }
            let columns: Vec<Vec<f64>> = columns.iter().map(Numbers::to_f64).collect();
            let numbers = (0..rows).flat_map(|row| columns.iter().map(move |column| column[row]));
            let block = Block::new(vec![columns.len()], Numbers::F64(numbers.collect()));
            return Ok(Block { channel_axis: Some(0), ..block });
        }
        let all = columns.pop().ok_or("it has no columns")?;
        let shape = self.settings.shape.clone();
        let shape = shape.unwrap_or_else(|| vec![all.len() / rows.max(1)]);
        if all.len() != rows * shape.iter().product::<usize>() {
            return Err(format!(
                "{rows} lists have {} numbers together; they must all have the shape {shape:?}",
                all.len()
            ));
        }
        Ok(Block::new(shape, all))
    }
}

/// Some rows of a column, with `None` for missing values.
fn cells<D: DataType, T>(
    column: &mut ColumnReaderImpl<D>,
    rows: usize,
    full: i16,
    convert: impl Fn(&D::T) -> T,
) -> Result<Vec<Option<T>>, String> {
    let (mut definitions, mut repetitions, mut values): (_, Vec<i16>, _) =
        (Vec::new(), Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let now = column.read_records(
            rows - read,
            Some(&mut definitions),
            Some(&mut repetitions),
            &mut values,
        );
        match now.map_err(|error| format!("it is damaged: {error}"))?.0 {
            0 => return Err("it ends before its rows do".into()),
            now => read += now,
        }
    }
    check_lengths(&repetitions)?;
    if full == 0 {
        return Ok(values.iter().map(|value| Some(convert(value))).collect());
    }
    let mut values = values.iter().map(convert);
    let cells = definitions.iter();
    Ok(cells.map(|level| if *level == full { values.next() } else { None }).collect())
}

/// An error unless all lists of some rows have one length; each goes on where the level of
/// repetition is above 0.
fn check_lengths(repetitions: &[i16]) -> Result<(), String> {
    let starts: Vec<usize> =
        (0..repetitions.len()).filter(|place| repetitions[*place] == 0).collect();
    let length = |row: usize| starts.get(row + 1).unwrap_or(&repetitions.len()) - starts[row];
    match (1..starts.len()).find(|row| length(*row) != length(0)) {
        Some(row) => Err(format!(
            "its lists have different lengths, {} and {} numbers {row} rows later; all must be \
             alike",
            length(0),
            length(row)
        )),
        None => Ok(()),
    }
}

/// The numbers of some rows, with NaN for missing ones.
fn numbers(reader: &mut ColumnReader, rows: usize, column: Column) -> Result<Numbers, String> {
    let Column { full, integers, divisor, .. } = column;
    let cells: Vec<Option<f64>> = match reader {
        ColumnReader::FloatColumnReader(reader) => {
            let cells = cells(reader, rows, full, |value| *value)?;
            return Ok(Numbers::F32(cells.into_iter().map(|x| x.unwrap_or(f32::NAN)).collect()));
        }
        ColumnReader::Int32ColumnReader(reader) if integers == Integers::Unsigned(8) => {
            return Ok(Numbers::U8(narrow(cells(reader, rows, full, |value| *value)?)?));
        }
        ColumnReader::Int32ColumnReader(reader) if integers == Integers::Unsigned(16) => {
            return Ok(Numbers::U16(narrow(cells(reader, rows, full, |value| *value)?)?));
        }
        ColumnReader::Int32ColumnReader(reader) => {
            cells(reader, rows, full, |value| match integers {
                Integers::Unsigned(_) => f64::from(*value as u32),
                Integers::Signed => f64::from(*value) / divisor,
            })?
        }
        ColumnReader::Int64ColumnReader(reader) => {
            cells(reader, rows, full, |value| match integers {
                Integers::Unsigned(_) => *value as u64 as f64,
                Integers::Signed => *value as f64 / divisor,
            })?
        }
        ColumnReader::BoolColumnReader(reader) => {
            cells(reader, rows, full, |value| f64::from(u8::from(*value)))?
        }
        ColumnReader::DoubleColumnReader(reader) => cells(reader, rows, full, |value| *value)?,
        _ => return Err("its column holds no numbers".into()),
    };
    Ok(Numbers::F64(cells.into_iter().map(|cell| cell.unwrap_or(f64::NAN)).collect()))
}

fn narrow<T: TryFrom<i32>>(cells: Vec<Option<i32>>) -> Result<Vec<T>, String> {
    let each = |cell: Option<i32>| {
        T::try_from(cell.ok_or(
            "an integer of 8 or 16 bits is missing, and there is none that could stand for it; \
             store floats",
        )?)
        .map_err(|_| "an integer is beyond its type")
    };
    Ok(cells.into_iter().map(each).collect::<Result<_, _>>()?)
}
