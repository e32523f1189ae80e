//! The flags of `cellnorm stats`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::input::ReadArgs;

/// The flags of `cellnorm stats`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct StatsArgs {
    /// Work on files of statistics.
    #[command(subcommand)]
    pub command: Option<StatsCommand>,

    /// Folders and files; - reads a list of them from standard input, one in a line.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// How the data are read.
    #[command(flatten)]
    pub reading: ReadArgs,

    /// File of the statistics, for fold, normalize, merge and check; kept every second in
    /// FILE.partial, too.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Go on from FILE.partial, which was left by an interruption.
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

    /// Draw a histogram of each channel, and samples before and after, to this file, to view in a
    /// browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Print the lines to paste for one of these instead of a table.
    #[arg(long, value_name = "FRAMEWORK", value_enum, conflicts_with = "json")]
    pub paste: Option<PasteTarget>,
}

/// Work on files of statistics.
#[derive(Subcommand)]
pub enum StatsCommand {
    /// Join the files of shards; the result is exactly that of one run.
    Merge {
        /// The files.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Path of the result.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Measure how far a data set is from the data set of some statistics.
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

/// A framework whose lines can be pasted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PasteTarget {
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
    let numbers = text
        .split_once('/')
        .and_then(|(number, shards)| Some((number.parse().ok()?, shards.parse().ok()?)));
    match numbers {
        Some((number, shards)) if (1..=shards).contains(&number) => Ok((number, shards)),
        _ => Err("it must be a number and how many there are, such as 1/7 to 7/7".into()),
    }
}

/// How many threads read: those asked for, or one for each processor.
pub fn threads(asked: Option<u64>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.map_or_else(processors, |threads| threads as usize)
}
