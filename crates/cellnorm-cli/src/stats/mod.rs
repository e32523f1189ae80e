//! `cellnorm stats`: the mean and the standard deviation of a data set, and remarks on them.

use std::fs;
use std::path::{Path, PathBuf};

use cellnorm::ranks::exchange;
use cellnorm_data::files::{self, Failure, File, Listing};
use cellnorm_data::scan::{Plan, Progress, ScanOptions};
use cellnorm_data::settings::Settings;
use cellnorm_data::state::Statistics;
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{HumanBytes, ProgressBar};
use miette::Diagnostic;
use thiserror::Error;

use crate::input::{self, InputError, ReadArgs};
use crate::output::{self, OutputError};
use crate::ranks::{Ranks, RanksError};

mod check;
mod html;
mod report;

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum StatsError {
    #[error("no file could be read; the first: {}", first(failures))]
    #[diagnostic(help("check the paths, --key and --channel-axis"))]
    NoData { failures: Vec<Failure> },
    /// A file of statistics that cannot be merged with those before it.
    #[error("{}", path.display())]
    #[diagnostic(help("merge the files of the shards of one run, each once"))]
    Merge { path: PathBuf, source: cellnorm_data::Error },
    #[error("a channel is {farthest:.4} deviations away, and {most} are allowed")]
    #[diagnostic(help(
        "the table says which; normalize with the training data's statistics, and look at where \
         the data come from"
    ))]
    Drift { farthest: f64, most: f64 },
    /// An exchange between ranks that failed.
    Refused(#[from] cellnorm::Error),
    #[diagnostic(transparent)]
    Ranks(#[from] RanksError),
    #[diagnostic(transparent)]
    Input(#[from] InputError),
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

impl From<cellnorm_data::Error> for StatsError {
    fn from(error: cellnorm_data::Error) -> Self {
        Self::Input(error.into())
    }
}

fn first(failures: &[Failure]) -> String {
    let first = failures.first();
    first.map_or_else(String::new, |failure| format!("{}: {}", failure.name, failure.problem))
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct StatsArgs {
    /// Work on files of statistics.
    #[command(subcommand)]
    pub command: Option<StatsCommand>,

    /// Folders and files; - reads a list of them from standard input, one in a line.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

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
fn threads(asked: Option<u64>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.map_or_else(processors, |threads| threads as usize)
}

/// Runs the command. Each of several ranks reads a shard; the first prints.
pub fn run(args: &StatsArgs, ranks: &Ranks) -> Result<(), StatsError> {
    match &args.command {
        Some(_) if !ranks.is_alone() => return Err(RanksError::OneRank.into()),
        Some(StatsCommand::Merge { files, output }) => return merge(files, output),
        Some(StatsCommand::Check { file, paths, most, threads: asked, json }) => {
            return check::run(file, paths, *most, threads(*asked), *json);
        }
        None => {}
    }
    let (plan, statistics) = match read(args, ranks) {
        Ok((plan, own)) => {
            (plan, Statistics::gather(Ok::<_, StatsError>(own), ranks.communicator())?)
        }
        // the others hear of it
        Err(error) => return Statistics::gather(Err(error), ranks.communicator()).map(drop),
    };
    let saved = if ranks.is_first() { save(args, &plan, &statistics) } else { Ok(()) };
    exchange(ranks.communicator(), "the file of statistics", saved.map(|()| vec![]))?;
    if let Some(partial) = partial(args, ranks) {
        // what it was for has been reached
        let _ = fs::remove_file(partial);
    }
    if ranks.is_first() { print(args, &statistics, plan.listing()) } else { Ok(()) }
}

/// Reads the data set, or the shard of this rank.
fn read(args: &StatsArgs, ranks: &Ranks) -> Result<(Plan, Statistics), StatsError> {
    let rank_shard = (!ranks.is_alone()).then(|| (ranks.rank() as u64 + 1, ranks.size() as u64));
    if rank_shard.is_some() && args.shard.is_some() {
        return Err(RanksError::ShardFlag.into());
    }
    if rank_shard.is_some() && args.paths.iter().any(|path| path.as_os_str() == "-") {
        return Err(RanksError::StandardInput.into());
    }
    let listing = files::list(&input::paths(&args.paths)?)?;
    [&args.output, &args.html]
        .into_iter()
        .flatten()
        .try_for_each(|path| listing.check_output(path))?;
    if let (Some(output), Some(html)) = (&args.output, &args.html)
        && output::same_place(output, html)
    {
        return Err(OutputError::PageOverFile { path: html.clone() }.into());
    }
    let split = args.split.clone().or_else(|| split(&listing));
    let settings = args.reading.settings(args.sample.map(|count| (count, args.seed)));
    let plan = Plan::new(listing, settings, split)?;
    let partial = partial(args, ranks);
    let start = match &partial {
        Some(partial) if args.resume && partial.exists() => {
            let mut start = plan.start();
            start.failures.clear();
            start.merge(Statistics::read(partial)?)?;
            start
        }
        _ => plan.start(),
    };
    let shard = args.shard.or(rank_shard).map(|(number, shards)| plan.shard(number, shards));
    let mut keep = |now: &Statistics| partial.as_ref().map_or(Ok(()), |path| now.write(path));
    let bar = if ranks.is_first() { bar() } else { ProgressBar::hidden() };
    let mut progress = |now: &Progress| show(&bar, now);
    let threads = match (args.threads, ranks.threads()) {
        (None, Some(threads)) => threads,
        (asked, _) => threads(asked),
    };
    let (progress, keep) = (&mut progress, &mut keep);
    let run = ScanOptions { threads, shard, strict: args.strict, progress, keep };
    let statistics = plan.run(start, run)?;
    bar.finish_and_clear();
    Ok((plan, statistics))
}

fn save(args: &StatsArgs, plan: &Plan, statistics: &Statistics) -> Result<(), StatsError> {
    if statistics.channels.nodes().next().is_none() && args.shard.is_none() {
        return Err(StatsError::NoData { failures: statistics.failures.clone() });
    }
    if let Some(path) = &args.html {
        let page = html::page(statistics, plan.listing());
        output::draw("--html", path, |path| output::replace(path, &page))?;
    }
    Ok(args.output.as_ref().map_or(Ok(()), |path| statistics.write(path))?)
}

fn print(args: &StatsArgs, statistics: &Statistics, listing: &Listing) -> Result<(), StatsError> {
    let text = match args.paste {
        _ if args.json => output::json(&report::json(statistics))?,
        Some(framework) => {
            input::warn(statistics);
            report::paste(statistics, framework)
        }
        None => report::text(statistics, listing.others, output::width()),
    };
    Ok(output::print(&text)?)
}

fn merge(files: &[PathBuf], output: &Path) -> Result<(), StatsError> {
    if files.iter().any(|path| output::same_place(path, output)) {
        let problem = "it is one of the files that are joined; name another one";
        return Err(cellnorm_data::Error::file(output, problem).into());
    }
    let mut all: Option<Statistics> = None;
    for path in files {
        let one = Statistics::read(path)?;
        match &mut all {
            None => all = Some(one),
            Some(all) => {
                all.merge(one).map_err(|source| StatsError::Merge { path: path.clone(), source })?
            }
        }
    }
    let Some(all) = all else { return Ok(()) };
    all.write(output)?;
    Ok(output::print(&report::text(&all, 0, output::width()))?)
}

/// The path of a rank's statistics while it reads.
fn partial(args: &StatsArgs, ranks: &Ranks) -> Option<PathBuf> {
    let output = args.output.as_ref()?;
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    if !ranks.is_alone() {
        name.push(format!("-{}-of-{}", ranks.rank() + 1, ranks.size()));
    }
    Some(output.with_file_name(name))
}

/// Reads all of a data set on all threads.
fn measure(
    paths: &[PathBuf],
    settings: Settings,
    threads: usize,
) -> Result<Statistics, StatsError> {
    let listing = files::list(paths)?;
    let split = split(&listing);
    let plan = Plan::new(listing, settings, split)?;
    let bar = bar();
    let mut progress = |now: &Progress| show(&bar, now);
    let run = ScanOptions {
        threads,
        shard: None,
        strict: false,
        progress: &mut progress,
        keep: &mut |_| Ok(()),
    };
    let statistics = plan.run(plan.start(), run)?;
    bar.finish_and_clear();
    Ok(statistics)
}

/// The split that the names of folders and files say, if they agree.
fn split(listing: &Listing) -> Option<String> {
    let file_split = |file: &File| {
        // the name within the data set, and that of the folder that was named
        let depth = Path::new(&file.name).components().count() + 1;
        let names: Vec<_> = file.path.components().collect();
        let names: PathBuf = names[names.len().saturating_sub(depth)..].iter().collect();
        let text = names.to_string_lossy().to_ascii_lowercase();
        let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).rev();
        words.find_map(|word| match word {
            "train" | "training" => Some("train"),
            "test" | "t10k" => Some("test"),
            "val" | "valid" | "validation" => Some("validation"),
            _ => None,
        })
    };
    let mut splits = listing.files.iter().map(file_split);
    let first = splits.next()??;
    splits.all(|split| split == Some(first)).then(|| first.to_owned())
}

fn bar() -> ProgressBar {
    output::bar("reading {wide_bar} {percent:>3} %  {msg}  {eta:>4} left", 1)
}

fn show(bar: &ProgressBar, now: &Progress) {
    bar.set_length(now.parts.max(1));
    bar.set_position(now.done);
    let seconds = bar.elapsed().as_secs_f64().max(1e-3);
    bar.set_message(format!("{}/s", HumanBytes((now.bytes as f64 / seconds) as u64)));
}
