//! The flags of `cellnorm stats` and `cellnorm normalize`.

use std::io::{self, BufRead};
use std::path::PathBuf;

use cellnorm_data::settings::{Alpha, Colour, Per, Settings};
use clap::{Args, Subcommand, ValueEnum};

use crate::error::Error;

/// What to measure.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct StatsArgs {
    /// What else can be done with statistics.
    #[command(subcommand)]
    pub command: Option<StatsCommand>,

    /// Folders and files; - reads a list of them from standard input, one in a line.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// What is read, and how.
    #[command(flatten)]
    pub reading: Reading,

    /// File of the statistics, for fold, normalize, merge and check; kept every second in
    /// FILE.partial, too.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Go on from FILE.partial, which an interruption has left.
    #[arg(long, requires = "output")]
    pub resume: bool,

    /// Read one of several shards, such as 2/7; merge joins their files to exactly the result of
    /// one run.
    #[arg(long, value_name = "I/N", value_parser = shard, requires = "output")]
    pub shard: Option<(u64, u64)>,

    /// Read this many samples, drawn at random, each with the same chance.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,

    /// Seed of --sample.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// Threads that read [default: one for each processor].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub threads: Option<u64>,

    /// End at the first file that cannot be read, instead of naming all of them at the end.
    #[arg(long)]
    pub strict: bool,

    /// Name of the split, such as train; found in the names of folders and files when not given.
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,

    /// Print everything as JSON instead of a table.
    #[arg(long)]
    pub json: bool,

    /// Draw a histogram of each channel, and samples before and after, to this file, to look at in
    /// a browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Print the lines to paste for one of these instead of a table.
    #[arg(long, value_name = "FRAMEWORK", value_enum, conflicts_with = "json")]
    pub paste: Option<Paste>,
}

/// What else can be done with statistics.
#[derive(Subcommand)]
pub enum StatsCommand {
    /// Join the files of shards: exactly the result of one run.
    Merge {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Where the result goes.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Measure how far a data set is from the one that statistics are of.
    Check {
        /// The file of statistics.
        file: PathBuf,
        /// The other data.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Exit with 1 if a mean is farther away than this many deviations, or a deviation is
        /// larger or smaller by this share.
        #[arg(long, value_name = "DEVIATIONS", value_parser = deviations)]
        most: Option<f64>,
        /// Threads that read [default: one for each processor].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
        threads: Option<u64>,
        /// Print everything as JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// What is read of a data set.
#[derive(Args, Clone)]
pub struct Reading {
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

/// Something that takes a mean and a deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Paste {
    /// torchvision.
    Torch,
    /// Keras.
    Keras,
    /// Cellnorm's module for Burn.
    Burn,
    /// Candle.
    Candle,
    /// Folding into the first layer of an ONNX model.
    Onnx,
}

fn deviations(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(most) if most >= 0.0 && f64::is_finite(most) => Ok(most),
        _ => Err("it must be a number from 0 on, such as 0.1".into()),
    }
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text
        .split_once('/')
        .and_then(|(number, shards)| Some((number.parse().ok()?, shards.parse().ok()?)));
    match parts {
        Some((number, shards)) if (1..=shards).contains(&number) => Ok((number, shards)),
        _ => Err("it must be a number and how many there are, such as 1/7 to 7/7".into()),
    }
}

impl Reading {
    /// What is asked of the data.
    pub fn settings(&self, sample: Option<(u64, u64)>) -> Settings {
        let per = match self.per {
            _ if !self.keep.is_empty() => Per::Axes(self.keep.clone()),
            PerChoice::Channel => Per::Channel,
            PerChoice::Place => Per::Place,
            PerChoice::All => Per::All,
        };
        let colour = match self.color {
            None => Colour::First,
            Some(ColourChoice::Rgb) => Colour::Rgb,
            Some(ColourChoice::Grey) => Colour::Grey,
        };
        let alpha = match self.alpha {
            AlphaChoice::Ignore => Alpha::Ignore,
            AlphaChoice::Mask => Alpha::Mask,
            AlphaChoice::Channel => Alpha::Channel,
        };
        Settings {
            per,
            channel_axis: self.channel_axis,
            colour,
            alpha,
            resize: self.resize,
            crop: self.crop,
            ignore: self.ignore,
            key: self.key.clone(),
            shape: (!self.shape.is_empty()).then(|| self.shape.clone()),
            sample,
        }
    }
}

/// How many threads read: those asked for, or one for each processor.
pub fn threads(asked: Option<u64>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.map_or_else(processors, |threads| threads as usize)
}

/// The paths, with those of standard input where - stands.
pub fn paths(given: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut all = Vec::new();
    for path in given {
        if path.as_os_str() != "-" {
            all.push(path.clone());
            continue;
        }
        for line in io::stdin().lock().lines() {
            let line =
                line.map_err(|source| Error::Read { path: "standard input".into(), source })?;
            if !line.is_empty() {
                all.push(line.into());
            }
        }
    }
    Ok(all)
}
