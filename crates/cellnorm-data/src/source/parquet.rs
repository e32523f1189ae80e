//! Apache Parquet: columns of numbers are features, a column of lists of one length holds a sample
//! each, and so does a column of images as bytes.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use super::numbers::{Block, Numbers};
use super::{Source, dyadic, image, level};
use crate::settings::Settings;

/// A table in columns.
struct Table {
    path: PathBuf,
    settings: Settings,
    columns: Vec<Column>,
    of: Of,
    /// The rows of each group.
    groups: Vec<Range<u64>>,
}

/// A column that is read.
#[derive(Clone, Copy)]
struct Column {
    place: usize,
    /// The level of definition of a value that is there.
    full: i16,
    /// How its integers are meant.
    integers: Integers,
    /// What its integers are divided by: 10ˢ for decimals with s digits behind the point.
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
    fn of(place: usize, about: &ColumnDescriptor) -> Self {
        let integers = match about.converted_type() {
            ConvertedType::UINT_8 => Integers::Unsigned(8),
            ConvertedType::UINT_16 => Integers::Unsigned(16),
            ConvertedType::UINT_32 => Integers::Unsigned(32),
            ConvertedType::UINT_64 => Integers::Unsigned(64),
            _ => Integers::Signed,
        };
        let is_decimal = about.converted_type() == ConvertedType::DECIMAL;
        let divisor = if is_decimal { 10_f64.powi(about.type_scale()) } else { 1.0 };
        Self { place, full: about.max_def_level(), integers, divisor }
    }
}

/// Whether numbers of a column are dates or times, which no network takes as they are.
fn is_time(about: &ColumnDescriptor) -> bool {
    matches!(
        about.logical_type_ref(),
        Some(LogicalType::Date | LogicalType::Time { .. } | LogicalType::Timestamp { .. })
    ) || matches!(
        about.converted_type(),
        ConvertedType::DATE
            | ConvertedType::TIME_MILLIS
            | ConvertedType::TIME_MICROS
            | ConvertedType::TIMESTAMP_MILLIS
            | ConvertedType::TIMESTAMP_MICROS
    )
}

/// What the columns hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A number each.
    Numbers,
    /// Lists of numbers.
    Lists,
    /// Images as files have them.
    Images,
}

/// Opens a table.
pub fn open(path: &Path, settings: &Settings) -> Result<Box<dyn Source>, String> {
    let reader = reader(path)?;
    let about = reader.metadata();
    let columns = about.file_metadata().schema_descr().columns();
    let kind = |column: &ColumnDescriptor| {
        let is_number = !matches!(
            column.physical_type(),
            Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY | Physical::INT96
        ) && !is_time(column);
        let is_text = matches!(
            column.logical_type_ref(),
            Some(LogicalType::String | LogicalType::Json | LogicalType::Enum)
        );
        match (is_number, column.max_rep_level()) {
            (true, 0) => Some(Of::Numbers),
            (true, 1) => Some(Of::Lists),
            (false, 0) if column.physical_type() == Physical::BYTE_ARRAY && !is_text => {
                Some(Of::Images)
            }
            _ => None,
        }
    };
    let name = |column: &ColumnDescriptor| column.path().string();
    // a list is called by the column that it is in, and so is an image with its file's name beside
    // it
    let is_called = |column: &ColumnDescriptor, asked: &str| {
        name(column) == asked
            || name(column).strip_prefix(asked).is_some_and(|rest| rest.starts_with('.'))
    };
    let known: Vec<String> =
        columns.iter().filter(|column| kind(column).is_some()).map(|column| name(column)).collect();
    let known = known.join(", ");
    let chosen: Vec<usize> = match settings.key.as_slice() {
        [] => {
            let whole = |of: Of| {
                (0..columns.len())
                    .filter(|place| kind(&columns[*place]) == Some(of))
                    .collect::<Vec<_>>()
            };
            let (images, lists, numbers) =
                (whole(Of::Images), whole(Of::Lists), whole(Of::Numbers));
            match (images.as_slice(), lists.as_slice()) {
                ([only], []) | ([], [only]) => vec![*only],
                ([], []) => numbers,
                _ => {
                    return Err(format!(
                        "it has several columns of images or lists; name one with --key: {known}"
                    ));
                }
            }
        }
        names => names
            .iter()
            .map(|asked| {
                let fits = |place: &usize| {
                    is_called(&columns[*place], asked) && kind(&columns[*place]).is_some()
                };
                (0..columns.len()).find(fits).ok_or_else(|| {
                    format!("it has no column {asked:?} of numbers or images; there are: {known}")
                })
            })
            .collect::<Result<_, _>>()?,
    };
    let kinds: Vec<Of> = chosen.iter().filter_map(|place| kind(&columns[*place])).collect();
    let of = match kinds.as_slice() {
        [] => return Err("it has no column of numbers or images".into()),
        [one] => *one,
        all if all.iter().all(|of| *of == Of::Numbers) => Of::Numbers,
        _ => return Err("several columns are read only if each has one number in a row".into()),
    };
    let columns = chosen.iter().map(|place| Column::of(*place, &columns[*place])).collect();
    let mut start = 0_u64;
    let groups = about.row_groups().iter().map(|group| {
        let rows = start..start + group.num_rows().max(0) as u64;
        start = rows.end;
        rows
    });
    Ok(Box::new(Table {
        path: path.to_owned(),
        settings: settings.clone(),
        columns,
        of,
        groups: groups.collect(),
    }))
}

fn reader(path: &Path) -> Result<SerializedFileReader<File>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    SerializedFileReader::new(file)
        .map_err(|error| format!("it is no usable Parquet file: {error}"))
}

/// Rows that are read at once from each column.
const ROWS: usize = 1 << 10;

impl Source for Table {
    fn parts(&self) -> Vec<Range<u64>> {
        self.groups.iter().filter(|rows| !rows.is_empty()).cloned().collect()
    }

    fn read(
        &self,
        part: &Range<u64>,
        give: &mut dyn FnMut(u64, &Block) -> Result<(), String>,
    ) -> Result<(), String> {
        let text = |error: parquet::errors::ParquetError| error.to_string();
        let reader = reader(&self.path)?;
        let group =
            self.groups.iter().position(|rows| rows == part).ok_or("a part of another file")?;
        let group = reader.get_row_group(group).map_err(text)?;
        let mut columns = self
            .columns
            .iter()
            .map(|column| group.get_column_reader(column.place))
            .collect::<Result<Vec<_>, _>>()
            .map_err(text)?;
        let mut start = part.start;
        while start < part.end {
            let rows = (part.end - start).min(ROWS as u64) as usize;
            if self.of == Of::Images {
                let Some(ColumnReader::ByteArrayColumnReader(column)) = columns.first_mut() else {
                    return Err("its images are no bytes".into());
                };
                let files = cells(column, rows, self.columns[0].full, |file| file.data().to_vec())?;
                for (row, file) in files.iter().enumerate() {
                    let file = file
                        .as_deref()
                        .ok_or_else(|| format!("row {} has no image", start + row as u64))?;
                    let block = image::decode(file, &self.settings)
                        .map_err(|problem| format!("row {}: {problem}", start + row as u64))?;
                    give(start + row as u64, &block)?;
                }
            } else {
                let parts = columns
                    .iter_mut()
                    .zip(&self.columns)
                    .map(|(column, about)| numbers(column, rows, *about))
                    .collect::<Result<Vec<_>, _>>()?;
                self.pass_on(start, rows, parts, give)?;
            }
            start += rows as u64;
        }
        Ok(())
    }

    fn samples(&self) -> Option<u64> {
        self.groups.last().map_or(Some(0), |rows| Some(rows.end))
    }
}

impl Table {
    /// Numbers of some rows as blocks.
    fn pass_on(
        &self,
        start: u64,
        rows: usize,
        mut columns: Vec<Numbers>,
        give: &mut dyn FnMut(u64, &Block) -> Result<(), String>,
    ) -> Result<(), String> {
        let (shape, numbers) = if self.of == Of::Numbers {
            let width = columns.len();
            if columns.iter().any(|column| column.len() != rows) {
                return Err("its columns have different lengths".into());
            }
            let columns: Vec<Vec<f64>> = columns.iter().map(Numbers::to_f64).collect();
            let rows =
                (0..rows).flat_map(|row| columns.iter().map(move |column| column[row])).collect();
            (vec![width], Numbers::F64(rows))
        } else {
            let all = columns.pop().ok_or("it has no columns")?;
            let length = all.len() / rows.max(1);
            let shape = self.settings.shape.clone().unwrap_or_else(|| vec![length]);
            if all.len() != rows * shape.iter().product::<usize>() {
                return Err(format!(
                    "{rows} lists have {} numbers together; they must all have the shape {shape:?}",
                    all.len()
                ));
            }
            (shape, all)
        };
        let length = shape.iter().product::<usize>();
        let channel_axis = (self.of == Of::Numbers).then_some(0);
        for (place, level) in dyadic(start..start + rows as u64, level(length)) {
            let from = (place - start) as usize * length;
            let to = from + (1 << level) * length;
            let numbers = numbers.slice(from..to);
            give(place, &Block { shape: shape.clone(), channel_axis, numbers, valid: None })?;
        }
        Ok(())
    }
}

/// Some rows of a column, what is missing as `None`.
fn cells<D: DataType, T>(
    column: &mut ColumnReaderImpl<D>,
    rows: usize,
    full: i16,
    of: impl Fn(&D::T) -> T,
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
        return Ok(values.iter().map(|value| Some(of(value))).collect());
    }
    let mut values = values.iter();
    Ok(definitions
        .iter()
        .map(|level| if *level == full { values.next().map(&of) } else { None })
        .collect())
}

/// An error unless all lists of some rows have one length; each goes on where the level of
/// repetition is above 0.
fn check_lengths(repetitions: &[i16]) -> Result<(), String> {
    let starts: Vec<usize> =
        (0..repetitions.len()).filter(|place| repetitions[*place] == 0).collect();
    let length = |row: usize| starts.get(row + 1).unwrap_or(&repetitions.len()) - starts[row];
    match (1..starts.len()).find(|row| length(*row) != length(0)) {
        Some(row) => Err(format!(
            "its lists have different lengths, {} and {} numbers {row} rows behind; all must be \
             alike",
            length(0),
            length(row)
        )),
        None => Ok(()),
    }
}

/// The numbers of some rows; what is missing is NaN.
fn numbers(column: &mut ColumnReader, rows: usize, about: Column) -> Result<Numbers, String> {
    let full = about.full;
    let floats =
        |cells: Vec<Option<f64>>| cells.into_iter().map(|cell| cell.unwrap_or(f64::NAN)).collect();
    Ok(match column {
        ColumnReader::BoolColumnReader(column) => {
            Numbers::F64(floats(cells(column, rows, full, |value| f64::from(u8::from(*value)))?))
        }
        ColumnReader::Int32ColumnReader(column) => {
            let cells = cells(column, rows, full, |value| *value)?;
            let is_unsigned = about.integers == Integers::Unsigned(32);
            let number = |value: i32| {
                if is_unsigned { f64::from(value as u32) } else { f64::from(value) / about.divisor }
            };
            match about.integers {
                Integers::Unsigned(8) => Numbers::U8(narrow(cells)?),
                Integers::Unsigned(16) => Numbers::U16(narrow(cells)?),
                _ => Numbers::F64(floats(cells.into_iter().map(|cell| cell.map(number)).collect())),
            }
        }
        ColumnReader::Int64ColumnReader(column) => {
            let is_unsigned = about.integers == Integers::Unsigned(64);
            let number = |value: &i64| {
                if is_unsigned { *value as u64 as f64 } else { *value as f64 / about.divisor }
            };
            Numbers::F64(floats(cells(column, rows, full, number)?))
        }
        ColumnReader::FloatColumnReader(column) => {
            let cells = cells(column, rows, full, |value| *value)?;
            Numbers::F32(cells.into_iter().map(|cell| cell.unwrap_or(f32::NAN)).collect())
        }
        ColumnReader::DoubleColumnReader(column) => {
            Numbers::F64(floats(cells(column, rows, full, |value| *value)?))
        }
        _ => return Err("its column holds no numbers".into()),
    })
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
