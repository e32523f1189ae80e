//! Normalization of data with their statistics, y = (x/full − mean)/deviation, and its inverse.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use cellnorm::data::Grid;
use cellnorm::fold::Affine;
use npyz::WriterBuilder;

use crate::error::{Error, text};
use crate::files::{self, Format, Listing};
use crate::layout::channel_axes;
use crate::settings::{Per, Settings};
use crate::source::{Block, Numbers, Source, each_type, floats, open};
use crate::state::{Statistics, write_beside};

/// A normalization of data.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    map: Affine,
    invert: bool,
    full_scale: Option<f64>,
}

impl Normalization {
    /// A normalization with the mean and the standard deviation of each channel, or one of each for
    /// all, of numbers between 0 and 1.
    ///
    /// # Errors
    /// If the lengths differ, or a deviation is not above 0 and finite.
    pub fn new(mean: &[f64], deviation: &[f64]) -> Result<Self, Error> {
        Ok(Self { map: Affine::standardize(mean, deviation)?, invert: false, full_scale: None })
    }

    /// A normalization with statistics, for numbers of the type that they are of.
    ///
    /// # Errors
    /// If a channel has no values, or all its values are equal.
    pub fn from_statistics(statistics: &Statistics) -> Result<Self, Error> {
        let (mean, deviation) = statistics.pairs().map_err(|problem| Error::Settings {
            problem: format!("the file of statistics {problem}"),
        })?;
        Ok(Self { full_scale: Some(statistics.full_scale()), ..Self::new(&mean, &deviation)? })
    }

    /// The inverse, x = y·deviation + mean.
    pub fn inverse(self) -> Self {
        Self { invert: true, ..self }
    }

    /// The axes that the channels lie along. Where the settings leave them open, it is the only
    /// axis with as many places as there are means.
    fn axes(&self, block: &Block, settings: &Settings) -> Result<Vec<usize>, String> {
        let is_open = settings.per == Per::Channel
            && settings.channel_axis.is_none()
            && block.channel_axis.is_none();
        let mut fitting =
            (0..block.shape.len()).filter(|axis| block.shape[*axis] == self.map.channels());
        match (fitting.next(), fitting.next()) {
            (Some(only), None) if is_open => Ok(vec![only]),
            _ => channel_axes(block, settings),
        }
    }

    /// The numbers of a block, normalized. Integers are divided by their type's largest first.
    ///
    /// # Errors
    /// If there is neither one mean nor one for each channel, or the numbers are of another type
    /// than the statistics are of.
    pub fn apply(&self, block: &Block, settings: &Settings) -> Result<Vec<f32>, String> {
        let (channels, scale) = (self.map.channels(), block.numbers.full_scale());
        if let (Some(full), false) = (self.full_scale.filter(|full| *full != scale), self.invert) {
            let words = |scale: f64| {
                if scale == 1.0 { "floats".into() } else { format!("integers up to {scale}") }
            };
            let (own, other) = (words(scale), words(full));
            return Err(format!("it has {own}, and the statistics are of {other}"));
        }
        // a single mean is that of all values
        let axes = if channels == 1 { Vec::new() } else { self.axes(block, settings)? };
        let grid = Grid::new(&block.shape, &axes).map_err(text)?;
        if grid.channels() != channels {
            return Err(format!(
                "there are {channels} means, and the samples of shape {:?} have {} channels",
                block.shape,
                grid.channels()
            ));
        }
        let result = |channel: usize, x: f64| {
            let (a, b) = (self.map.scale()[channel], self.map.shift()[channel]);
            (if self.invert { (x - b) / a } else { x / scale * a + b }) as f32
        };
        if let Numbers::U8(all) = &block.numbers {
            // a table of the results for every byte of every channel
            let places = 0..channels << 8;
            let table: Vec<f32> =
                places.map(|place| result(place >> 8, (place & 0xff) as f64)).collect();
            let places = all.iter().enumerate();
            let places = places.map(|(place, byte)| grid.channel(place) << 8 | usize::from(*byte));
            return Ok(places.map(|place| table[place]).collect());
        }
        Ok(each_type!(&block.numbers, all => {
            let numbers = floats(all).enumerate();
            numbers.map(|(place, x)| result(grid.channel(place), x)).collect()
        }))
    }
}

/// Writes every file of a data set normalized, as `.npy` of 32-bit floats: a single file to `out`
/// itself, each of several files to its own file in the folder `out`. Returns how many values were
/// written.
///
/// # Errors
/// If a file cannot be read, has other channels, or cannot be written; if a result would overwrite
/// a file that is read, or another result. No incomplete file is left.
pub fn normalize(
    listing: &Listing,
    settings: &Settings,
    normalization: &Normalization,
    out: &Path,
    progress: &mut dyn FnMut(usize),
) -> Result<u64, Error> {
    let is_single = listing.files.len() == 1 && !out.is_dir();
    let (mut written, mut paths) = (0, HashSet::new());
    for (count, file) in listing.files.iter().enumerate() {
        let inside = || out.join(Path::new(&file.name).with_extension("npy"));
        let path = if is_single { out.to_owned() } else { inside() };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let failed = |source| Error::Write { path: path.clone(), source };
            fs::create_dir_all(folder).map_err(failed)?;
        }
        listing.check_output(&path)?;
        if !paths.insert(path.clone()) {
            let problem =
                "two files would be written to it, as their names differ in the end alone";
            return Err(Error::file(&path, problem));
        }
        written += write_beside(&path, |draft| write(file, settings, normalization, draft))?;
        progress(count + 1);
    }
    Ok(written)
}

/// Calls `see` with every block of a source.
fn read_all(
    source: &dyn Source,
    mut see: impl FnMut(&Block) -> Result<(), String>,
) -> Result<(), String> {
    source.parts().iter().try_for_each(|part| source.read(part, &mut |_, block| see(block)))
}

/// Writes a file normalized, and returns how many values were written.
fn write(
    file: &files::File,
    settings: &Settings,
    normalization: &Normalization,
    to: &Path,
) -> Result<u64, Error> {
    let source = open(file, settings)?;
    let wrong = |problem: String| Error::file(&file.path, problem);
    // the header needs the number of samples, which a table of text says only at its end
    let mut samples = source.samples().unwrap_or(0);
    if source.samples().is_none() {
        let count = |block: &Block| {
            let length = block.shape.iter().product::<usize>().max(1);
            samples += (block.numbers.len() / length) as u64;
            Ok(())
        };
        read_all(&*source, count).map_err(wrong)?;
    }
    let (mut out, mut first, mut count) = (None, Vec::new(), 0);
    let read = read_all(&*source, |block| {
        let values = normalization.apply(block, settings)?;
        if out.is_none() {
            first.clone_from(&block.shape);
            // an image is a sample without an axis of samples
            let samples = (file.format != Format::Image).then_some(samples);
            let lengths = block.shape.iter().map(|length| *length as u64);
            let shape: Vec<u64> = samples.into_iter().chain(lengths).collect();
            let options = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape);
            let to = BufWriter::new(File::create(to).map_err(text)?);
            out = Some(options.writer(to).begin_nd().map_err(text)?);
        }
        if first != block.shape {
            return Err(format!(
                "it has samples of the shapes {first:?} and {:?}, which are no array; --resize and \
                 --crop make images alike",
                block.shape
            ));
        }
        count += values.len() as u64;
        out.as_mut().map_or(Ok(()), |out| out.extend(values).map_err(text))
    });
    read.map_err(wrong)?;
    let out = out.ok_or_else(|| wrong("it has no samples".into()))?;
    out.finish().map_err(|source| Error::Write { path: to.to_owned(), source })?;
    Ok(count)
}
