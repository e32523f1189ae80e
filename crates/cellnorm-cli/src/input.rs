//! Reading: text files, data sets, and files of statistics.

use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cellnorm_data::settings::{Alpha, Colour, Per, Settings};
use cellnorm_data::state::Statistics;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use miette::Diagnostic;
use thiserror::Error;

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
    /// The error of a file that could not be read.
    pub fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Read { path, source }
    }

    /// 1 for data that other ranks have read, 2 otherwise.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::DataSet(cellnorm_data::Error::Rank { .. })) { 1 } else { 2 }
    }
}

/// A flag that does not apply to the normalization or the file.
#[derive(Debug, Error, Diagnostic)]
#[error("{flag} says nothing about {subject}")]
#[diagnostic(help("{help}"))]
pub struct StrayFlag {
    pub flag: &'static str,
    pub subject: String,
    pub help: String,
}

#[derive(Args, Clone)]
pub struct ReadArgs {
    /// The values that share a mean and a deviation.
    #[arg(long, value_name = "WHAT", value_parser = per(), default_value = "channel")]
    pub per: Per,

    /// Keep these axes of the data, separated by commas, 0 being that of the samples; all others
    /// are taken together.
    #[arg(long, value_name = "AXES", value_delimiter = ',', conflicts_with = "per")]
    pub keep: Vec<usize>,

    /// The axis of the channels, 0 being that of the samples; found by the shape when not given.
    #[arg(long, value_name = "AXIS", conflicts_with = "keep")]
    pub channel_axis: Option<usize>,

    /// Turn images into grey or colour ones [default: as the first image is].
    #[arg(long, value_name = "KIND", value_parser = colour())]
    pub color: Option<Colour>,

    /// Handling of transparency: ignore the channel, mask fully transparent pixels, or count it as
    /// a channel.
    #[arg(long, value_name = "HOW", value_parser = alpha(), default_value = "ignore")]
    pub alpha: Alpha,

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

    /// Shape of a sample that is stored as a list, such as 3,32,32 or 3x32x32.
    #[arg(long, value_name = "LENGTHS")]
    pub shape: Option<Shape>,
}

/// The lengths of a tensor's axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape(pub Vec<usize>);

impl FromStr for Shape {
    type Err = &'static str;

    /// Lengths with commas, `x` or `×` between them, and spaces as one likes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lengths = text.split([',', 'x', 'X', '×']).map(|length| length.trim().parse());
        let lengths: Result<Vec<usize>, _> = lengths.collect();
        lengths.map(Self).map_err(|_| "it must be whole numbers, such as 8,32 or 8x32")
    }
}

/// A parser for clap: the name of each value, and its help.
pub fn choice<T: Clone + Send + Sync + 'static>(
    values: Vec<(&'static str, &'static str, T)>,
) -> impl TypedValueParser<Value = T> {
    let names = values.iter().map(|(name, help, _)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(names).map(move |name| {
        let value = values.iter().find(|(known, ..)| *known == name);
        value.expect("clap lets only these names pass").2.clone()
    })
}

fn per() -> impl TypedValueParser<Value = Per> {
    choice(vec![
        ("channel", "The values of a channel or a column", Per::Channel),
        ("place", "The values at one place of each sample: each pixel, each feature", Per::Place),
        ("all", "All values", Per::All),
    ])
}

fn colour() -> impl TypedValueParser<Value = Colour> {
    choice(vec![
        ("rgb", "Three channels; grey ones are repeated", Colour::Rgb),
        ("grey", "One channel, the luma", Colour::Grey),
    ])
}

fn alpha() -> impl TypedValueParser<Value = Alpha> {
    choice(vec![
        ("ignore", "It is left out", Alpha::Ignore),
        ("mask", "Pixels that are fully transparent are left out", Alpha::Mask),
        ("channel", "It is one more channel", Alpha::Channel),
    ])
}

impl ReadArgs {
    /// The settings of the library; `sample` is a number of samples to draw, and their seed.
    pub fn settings(&self, sample: Option<(u64, u64)>) -> Settings {
        Settings {
            per: match self.keep.is_empty() {
                true => self.per.clone(),
                false => Per::Axes(self.keep.clone()),
            },
            channel_axis: self.channel_axis,
            colour: self.color.unwrap_or(Colour::First),
            alpha: self.alpha,
            resize: self.resize,
            crop: self.crop,
            ignore: self.ignore,
            key: self.key.clone(),
            shape: self.shape.clone().map(|shape| shape.0),
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
            let line = line.map_err(InputError::read("standard input"))?;
            if !line.is_empty() {
                all.push(line.into());
            }
        }
    }
    Ok(all)
}

pub fn read_text(path: &Path) -> Result<String, InputError> {
    fs::read_to_string(path).map_err(InputError::read(path))
}

pub fn file_size(path: &Path) -> Result<u64, InputError> {
    Ok(fs::metadata(path).map_err(InputError::read(path))?.len())
}

/// Warns of statistics of data that a model is judged by, and of those that are not complete.
pub fn warn(statistics: &Statistics) {
    if let Some(split @ ("test" | "validation")) = statistics.dataset.split.as_deref() {
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
