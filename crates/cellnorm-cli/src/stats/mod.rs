//! `cellnorm stats`: the mean and the standard deviation of a data set, and remarks on them.

use std::fs;
use std::path::{Path, PathBuf};

use cellnorm::ranks::exchange;
use cellnorm_data::files::{self, Failure, File, Listing};
use cellnorm_data::scan::{Plan, Progress, ScanOptions};
use cellnorm_data::settings::Settings;
use cellnorm_data::state::Statistics;
use indicatif::{HumanBytes, ProgressBar};
use miette::Diagnostic;
use thiserror::Error;

use crate::input::{self, InputError};
use crate::output::{self, OutputError};
use crate::ranks::{Ranks, RanksError};

mod args;
mod check;
mod html;
mod json;
mod paste;
mod text;

pub use args::StatsArgs;
use args::{StatsCommand, threads};

/// Why the statistics of a data set could not be measured.
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

/// Writes what was asked for.
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
        _ if args.json => output::json(&json::value(statistics))?,
        Some(framework) => {
            input::warn(statistics);
            paste::lines(statistics, framework)
        }
        None => text::report(statistics, listing.others, output::width()),
    };
    Ok(output::print(&text)?)
}

/// Joins the files of shards.
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
    Ok(output::print(&text::report(&all, 0, output::width()))?)
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
