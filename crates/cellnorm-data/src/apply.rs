//! Data with their statistics applied: y = (x/full − mean)/deviation, and back.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;

use cellnorm::data::Grid;
use cellnorm::fold::Affine;
use npyz::WriterBuilder;

use crate::error::Error;
use crate::files::{Kind, Listing};
use crate::layout::kept;
use crate::settings::{Per, Settings};
use crate::source::{Block, Numbers, open};
use crate::state::Statistics;

/// A normalization of data.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    map: Affine,
    invert: bool,
    full_scale: Option<f64>,
}

impl Normalization {
    /// With the mean and the standard deviation of each channel, or one of each for all, of numbers
    /// between 0 and 1.
    ///
    /// # Errors
    /// If the lengths differ, or a deviation is not above 0 and finite.
    pub fn new(mean: &[f64], deviation: &[f64]) -> Result<Self, Error> {
        Ok(Self { map: Affine::standardize(mean, deviation)?, invert: false, full_scale: None })
    }

    /// With the statistics of numbers of one type, and for numbers of this type alone.
    ///
    /// # Errors
    /// If a channel has no values, or all its values are equal.
    pub fn of(statistics: &Statistics) -> Result<Self, Error> {
        let unusable =
            |problem| Error::Settings { problem: format!("the file of statistics {problem}") };
        let (mean, deviation) = statistics.pairs().map_err(unusable)?;
        Ok(Self { full_scale: Some(statistics.full_scale()), ..Self::new(&mean, &deviation)? })
    }

    /// The way back, x = y·deviation + mean.
    pub fn inverse(self) -> Self {
        Self { invert: true, ..self }
    }

    /// The axes that the channels lie along: those of the statistics; where the settings leave them
    /// open, the only one that is as long.
    fn axes(&self, block: &Block, settings: &Settings) -> Result<Vec<usize>, String> {
        let is_open = settings.per == Per::Channel
            && settings.channel_axis.is_none()
            && block.channel_axis.is_none();
        let mut fitting =
            (0..block.shape.len()).filter(|axis| block.shape[*axis] == self.map.channels());
        match (fitting.next(), fitting.next()) {
            (Some(only), None) if is_open => Ok(vec![only]),
            _ => kept(block, settings),
        }
    }

    /// The numbers of a block, normalized; integers are divided by their type's largest first.
    ///
    /// # Errors
    /// If there is neither one mean nor one for each channel, or the numbers are of another type
    /// than the statistics are of.
    pub fn apply(&self, block: &Block, settings: &Settings) -> Result<Vec<f32>, String> {
        let (channels, scale) = (self.map.channels(), block.numbers.full_scale());
        if let (Some(full), false) = (self.full_scale.filter(|full| *full != scale), self.invert) {
            let told = |scale: f64| {
                if scale == 1.0 { "floats".into() } else { format!("integers up to {scale}") }
            };
            return Err(format!(
                "it has {}, and the statistics are of {}",
                told(scale),
                told(full)
            ));
        }
        // one mean is that of all values, whatever they belong to
        let axes = if channels == 1 { Vec::new() } else { self.axes(block, settings)? };
        let grid = Grid::new(&block.shape, &axes).map_err(|error| error.to_string())?;
        if grid.channels() != channels {
            return Err(format!(
                "there are {channels} means, and the samples of shape {:?} have {} channels",
                block.shape,
                grid.channels()
            ));
        }
        let channel = |place: usize| grid.channel(place);
        let of = |channel: usize, x: f64| {
            let (a, b) = (self.map.scale()[channel], self.map.shift()[channel]);
            (if self.invert { (x - b) / a } else { x / scale * a + b }) as f32
        };
        let each = |numbers: &mut dyn Iterator<Item = f64>| {
            numbers.enumerate().map(|(place, x)| of(channel(place), x)).collect()
        };
        Ok(match &block.numbers {
            Numbers::U8(all) => {
                // as many results as there are bytes and channels
                let of_channel = |channel| (0..=255_u8).map(move |byte| (channel, byte));
                let pairs = (0..channels).flat_map(of_channel);
                let table: Vec<f32> =
                    pairs.map(|(channel, byte)| of(channel, f64::from(byte))).collect();
                all.iter()
                    .enumerate()
                    .map(|(place, byte)| table[channel(place) << 8 | usize::from(*byte)])
                    .collect()
            }
            Numbers::U16(all) => each(&mut all.iter().map(|x| f64::from(*x))),
            Numbers::F32(all) => each(&mut all.iter().map(|x| f64::from(*x))),
            Numbers::F64(all) => each(&mut all.iter().copied()),
        })
    }
}

/// Writes every file of a data set normalized, as `.npy` of 32-bit floats: of one file `out`
/// itself, of several one for each in the folder `out`. Returns how many values were written.
///
/// # Errors
/// If a file cannot be read, has other channels, or cannot be written; if a result would take the
/// place of a file that is read or of another result. A file that is not whole is not left behind.
pub fn normalize(
    listing: &Listing,
    settings: &Settings,
    normalization: &Normalization,
    out: &Path,
    progress: &mut dyn FnMut(usize),
) -> Result<u64, Error> {
    let one = matches!(listing.files.as_slice(), [_]) && !out.is_dir();
    let (mut written, mut places) = (0, HashSet::new());
    for (count, file) in listing.files.iter().enumerate() {
        let path = if one {
            out.to_owned()
        } else {
            out.join(Path::new(&file.name).with_extension("npy"))
        };
        let failed = |source| Error::Write { path: path.clone(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        listing.spare(&path)?;
        if !places.insert(path.clone()) {
            return Err(Error::file(
                &path,
                "two files would be written to it, as their names differ in the end alone",
            ));
        }
        let beside = path.with_file_name(format!(
            ".{}.{}",
            path.file_name().unwrap_or_default().to_string_lossy(),
            std::process::id()
        ));
        let done = write(file, settings, normalization, &beside);
        let done =
            done.and_then(|count| fs::rename(&beside, &path).map_err(failed).map(|()| count));
        written += done.inspect_err(|_| _ = fs::remove_file(&beside))?;
        progress(count + 1);
    }
    Ok(written)
}

fn write(
    file: &crate::files::File,
    settings: &Settings,
    normalization: &Normalization,
    to: &Path,
) -> Result<u64, Error> {
    let source = open(file, settings)?;
    let wrong = |problem: String| Error::file(&file.path, problem);
    let parts = source.parts();
    // the header needs the number of samples, and a table as text tells it at its end
    let samples = match source.samples() {
        Some(samples) => samples,
        None => {
            let mut samples = 0;
            for part in &parts {
                source
                    .read(part, &mut |_, block| {
                        samples += (block.numbers.len()
                            / block.shape.iter().product::<usize>().max(1))
                            as u64;
                        Ok(())
                    })
                    .map_err(wrong)?;
            }
            samples
        }
    };
    let failed = |source: io::Error| Error::Write { path: to.to_owned(), source };
    let (mut out, mut first, mut count) = (None, Vec::new(), 0);
    for part in &parts {
        source
            .read(part, &mut |_, block| {
                let values = normalization.apply(block, settings)?;
                if out.is_none() {
                    first.clone_from(&block.shape);
                    let to = File::create(to).map_err(|error| error.to_string())?;
                    let mut shape: Vec<u64> =
                        block.shape.iter().map(|length| *length as u64).collect();
                    // an image is a sample without an axis of samples
                    if file.kind != Kind::Image {
                        shape.insert(0, samples);
                    }
                    let options = npyz::WriteOptions::<f32>::new().default_dtype().shape(&shape);
                    out = Some(
                        options
                            .writer(BufWriter::new(to))
                            .begin_nd()
                            .map_err(|error| error.to_string())?,
                    );
                }
                if first != block.shape {
                    return Err(format!(
                        "it has samples of the shapes {first:?} and {:?}, which are no array; \
                         --resize and --crop make images alike",
                        block.shape
                    ));
                }
                count += values.len() as u64;
                match &mut out {
                    Some(out) => out.extend(values).map_err(|error| error.to_string()),
                    None => Ok(()),
                }
            })
            .map_err(wrong)?;
    }
    match out {
        Some(out) => out.finish().map_err(failed)?,
        None => return Err(wrong("it has no samples".into())),
    }
    Ok(count)
}
