//! What commands read: text files, data sets, and files of statistics.

use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use cellnorm_data::settings::{Alpha, Colour, Per, Settings};
use cellnorm_data::state::Statistics;
use clap::{Args, ValueEnum};
use miette::Diagnostic;
use thiserror::Error;

/// Why something could not be read.
#[derive(Debug, Error, Diagnostic)]
pub enum InputError {
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("check that the file is complete and that you may read it"))]
    Read { path: PathBuf, source: io::Error },

    /// Statistics without a mean and a deviation for each channel.
    #[error("{} {problem}", path.display())]
    #[diagnostic(help(
        "it must be JSON with the lists \"mean\" and \"std\": one number for each channel, or one \
         for all"
    ))]
    Statistics { path: PathBuf, problem: String },

    #[error(transparent)]
    #[diagnostic(help(
        "files that cannot be read are named at the end; --strict ends at the first"
    ))]
    DataSet(#[from] cellnorm_data::Error),
}

impl InputError {
    /// 1 for data that other ranks have read, 2 otherwise.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::DataSet(cellnorm_data::Error::OfRank { .. })) { 1 } else { 2 }
    }
}

/// A flag that says nothing about what it is given with.
#[derive(Debug, Error, Diagnostic)]
#[error("{flag} says nothing about {subject}")]
#[diagnostic(help("{help}"))]
pub struct StrayFlag {
    pub flag: &'static str,
    pub subject: String,
    pub help: String,
}

/// How a data set is read.
#[derive(Args, Clone)]
pub struct ReadArgs {
    /// Which values share a mean and a deviation.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "channel")]
    pub per: PerChoice,

    /// Keep these axes of the data, separated by commas, 0 being that of the samples; all others
    /// are taken together.
    #[arg(long, value_name = "AXES", value_delimiter = ',', conflicts_with = "per")]
    pub keep: Vec<usize>,

    /// The axis of the channels, 0 being that of the samples; found by the shape when not given.
    #[arg(long, value_name = "AXIS", conflicts_with = "keep")]
    pub channel_axis: Option<usize>,

    /// Turn images into grey or colour ones [default: as the first image is].
    #[arg(long, value_name = "KIND", value_enum)]
    pub color: Option<ColourChoice>,

    /// What becomes of transparency: ignore the channel, mask fully transparent pixels, or count it
    /// as a channel.
    #[arg(long, value_name = "HOW", value_enum, default_value = "ignore")]
    pub alpha: AlphaChoice,

    /// Resize each image's shorter side to this many pixels first, as torchvision's Resize.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    pub resize: Option<u32>,

    /// Cut a square of this side out of the middle of each image, after resizing, as torchvision's
    /// CenterCrop.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    pub crop: Option<u32>,

    /// Leave out this value, which stands for a missing one.
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub ignore: Option<f64>,

    /// Array of an .npz or .safetensors file, or columns of a table, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub key: Vec<String>,

    /// Shape of a sample that is stored as a list, separated by commas.
    #[arg(long, value_name = "LENGTHS", value_delimiter = ',')]
    pub shape: Vec<usize>,
}

/// Which values share statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PerChoice {
    /// Those of a channel or a column.
    Channel,
    /// Those at one place of each sample: each pixel, each feature.
    Place,
    /// All of them.
    All,
}

/// Grey or in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColourChoice {
    /// Three channels; grey ones are repeated.
    Rgb,
    /// One channel, the luma.
    Grey,
}

/// What becomes of transparency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AlphaChoice {
    /// It is left out.
    Ignore,
    /// Pixels that are fully transparent are left out.
    Mask,
    /// It is one more channel.
    Channel,
}

impl ReadArgs {
    /// The settings of the library; `sample` is a number of samples to draw, and their seed.
    pub fn settings(&self, sample: Option<(u64, u64)>) -> Settings {
        Settings {
            per: match self.per {
                _ if !self.keep.is_empty() => Per::Axes(self.keep.clone()),
                PerChoice::Channel => Per::Channel,
                PerChoice::Place => Per::Place,
                PerChoice::All => Per::All,
            },
            channel_axis: self.channel_axis,
            colour: match self.color {
                None => Colour::First,
                Some(ColourChoice::Rgb) => Colour::Rgb,
                Some(ColourChoice::Grey) => Colour::Grey,
            },
            alpha: match self.alpha {
                AlphaChoice::Ignore => Alpha::Ignore,
                AlphaChoice::Mask => Alpha::Mask,
                AlphaChoice::Channel => Alpha::Channel,
            },
            resize: self.resize,
            crop: self.crop,
            ignore: self.ignore,
            key: self.key.clone(),
            shape: (!self.shape.is_empty()).then(|| self.shape.clone()),
            sample,
        }
    }
}

/// The paths, where - stands for those of standard input.
pub fn paths(named: &[PathBuf]) -> Result<Vec<PathBuf>, InputError> {
    let mut all = Vec::new();
    for path in named {
        if path.as_os_str() != "-" {
            all.push(path.clone());
            continue;
        }
        for line in io::stdin().lock().lines() {
            let line =
                line.map_err(|source| InputError::Read { path: "standard input".into(), source })?;
            if !line.is_empty() {
                all.push(line.into());
            }
        }
    }
    Ok(all)
}

/// The text of a file.
pub fn read_text(path: &Path) -> Result<String, InputError> {
    fs::read_to_string(path).map_err(|source| InputError::Read { path: path.to_owned(), source })
}

/// The number of bytes of a file.
pub fn file_size(path: &Path) -> Result<u64, InputError> {
    let metadata = fs::metadata(path);
    Ok(metadata.map_err(|source| InputError::Read { path: path.to_owned(), source })?.len())
}

/// Mean and deviation of each channel, divided by the numbers' full scale.
pub fn channel_pairs(
    statistics: &Statistics,
    path: &Path,
) -> Result<(Vec<f64>, Vec<f64>), InputError> {
    let unusable =
        |problem: &str| InputError::Statistics { path: path.to_owned(), problem: problem.into() };
    statistics.pairs().map_err(unusable)
}

/// Warns of statistics of data that a model is judged by, and of those that are not complete.
pub fn warn(statistics: &Statistics) {
    if let Some(split @ ("test" | "validation")) = statistics.about.split.as_deref() {
        eprintln!(
            "warning: these statistics are of the {split} split; a model that sees data \
             normalized with them is judged by what it has seen"
        );
    }
    if !statistics.is_complete() {
        eprintln!(
            "warning: these statistics are of a part of the data; merge the other shards first"
        );
    }
}
