//! `cellnorm stats`: the mean and the standard deviation of a data set, and what else one should
//! know of it.

use std::fs;
use std::path::{Path, PathBuf};

use cellnorm::ranks::exchange;
use cellnorm_data::files::{self, File, Listing};
use cellnorm_data::scan::{Plan, Progress, ScanOptions};
use cellnorm_data::settings::Settings;
use cellnorm_data::state::Statistics;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::error::Error;
use crate::ranks::{Ranks, RanksError};
use crate::{normalize, output};

mod args;
mod check;
mod html;
mod json;
mod paste;
mod text;

use args::StatsCommand;
pub use args::{Reading, StatsArgs, paths, threads};

/// Runs the command; of several ranks, each reads a shard, and the first tells.
pub fn run(args: &StatsArgs, ranks: &Ranks) -> Result<(), Error> {
    match &args.command {
        Some(_) if !ranks.is_alone() => return Err(RanksError::OneRank.into()),
        Some(StatsCommand::Merge { files, output }) => return merge(files, output),
        Some(StatsCommand::Check { file, paths, most, threads: asked, json }) => {
            return check::run(file, paths, *most, threads(*asked), *json);
        }
        None => {}
    }
    let (plan, statistics) = match read(args, ranks) {
        Ok((plan, own)) => (plan, Statistics::gather(Ok::<_, Error>(own), ranks.over())?),
        // the others hear of it
        Err(error) => return Statistics::gather(Err(error), ranks.over()).map(drop),
    };
    let saved = if ranks.is_first() { save(args, &plan, &statistics) } else { Ok(()) };
    exchange(ranks.over(), "the file of statistics", saved.map(|()| vec![]))?;
    if let Some(partial) = partial(args, ranks) {
        // what it was for has been reached
        let _ = fs::remove_file(partial);
    }
    if ranks.is_first() { tell(args, &statistics, plan.listing()) } else { Ok(()) }
}

/// Reads the data set, or the shard of this rank.
fn read(args: &StatsArgs, ranks: &Ranks) -> Result<(Plan, Statistics), Error> {
    let over = ranks.over();
    let of_rank = (!ranks.is_alone()).then(|| (over.rank() as u64 + 1, over.size() as u64));
    if of_rank.is_some() && args.shard.is_some() {
        return Err(RanksError::ShardOfRank.into());
    }
    if of_rank.is_some() && args.paths.iter().any(|path| path.as_os_str() == "-") {
        return Err(RanksError::InputOfRanks.into());
    }
    let listing = files::list(&paths(&args.paths)?)?;
    [&args.output, &args.html]
        .into_iter()
        .flatten()
        .try_for_each(|path| listing.check_output(path))?;
    if let (Some(output), Some(html)) = (&args.output, &args.html)
        && output::same_place(output, html)
    {
        return Err(Error::PageOver { path: html.clone() });
    }
    let split = args.split.clone().or_else(|| split(&listing));
    let settings = args.reading.settings(args.sample.map(|count| (count, args.seed)));
    let plan = Plan::new(listing, settings, split)?;
    let partial = partial(args, ranks);
    let start = match &partial {
        Some(partial) if args.resume && partial.exists() => {
            let mut here = plan.start();
            let there = Statistics::read(partial)?;
            here.failures.clear();
            here.merge(there)?;
            here
        }
        _ => plan.start(),
    };
    let shard = args.shard.or(of_rank).map(|(number, shards)| plan.shard(number, shards));
    let mut keep = |now: &Statistics| partial.as_ref().map_or(Ok(()), |path| now.write(path));
    let bar = if ranks.is_first() { bar() } else { ProgressBar::hidden() };
    let mut progress = |now: &Progress| show(&bar, now);
    let run = ScanOptions {
        threads: args
            .threads
            .is_none()
            .then(|| ranks.threads())
            .flatten()
            .unwrap_or_else(|| threads(args.threads)),
        shard,
        strict: args.strict,
        progress: &mut progress,
        keep: &mut keep,
    };
    let statistics = plan.run(start, run)?;
    bar.finish_and_clear();
    Ok((plan, statistics))
}

/// Writes what was asked for.
fn save(args: &StatsArgs, plan: &Plan, statistics: &Statistics) -> Result<(), Error> {
    if statistics.channels.nodes().next().is_none() && args.shard.is_none() {
        return Err(Error::NoData { failures: statistics.failures.clone() });
    }
    if let Some(path) = &args.html {
        let page = html::page(statistics, plan.listing());
        output::replace(path, &page).map_err(|source| Error::Drawing {
            flag: "--html",
            path: path.clone(),
            source,
        })?;
    }
    Ok(args.output.as_ref().map_or(Ok(()), |path| statistics.write(path))?)
}

fn tell(args: &StatsArgs, statistics: &Statistics, listing: &Listing) -> Result<(), Error> {
    let text = match (args.json, args.paste) {
        (true, _) => serde_json::to_string_pretty(&json::of(statistics))? + "\n",
        (_, Some(framework)) => {
            normalize::warn(statistics);
            paste::lines(statistics, framework)
        }
        _ => text::report(statistics, listing.others, output::width()),
    };
    output::print(&text).map_err(Error::Standard)
}

/// Joins the files of shards.
fn merge(files: &[PathBuf], output: &Path) -> Result<(), Error> {
    if files.iter().any(|path| output::same_place(path, output)) {
        return Err(cellnorm_data::Error::file(
            output,
            "it is one of the files that are joined; name another one",
        )
        .into());
    }
    let mut all: Option<Statistics> = None;
    for path in files {
        let one = Statistics::read(path)?;
        match &mut all {
            None => all = Some(one),
            Some(all) => {
                all.merge(one).map_err(|source| Error::MergeOf { path: path.clone(), source })?
            }
        }
    }
    let Some(all) = all else { return Ok(()) };
    all.write(output)?;
    output::print(&text::report(&all, 0, output::width())).map_err(Error::Standard)
}

/// Where a rank keeps what is there while it reads.
fn partial(args: &StatsArgs, ranks: &Ranks) -> Option<PathBuf> {
    let output = args.output.as_ref()?;
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    if !ranks.is_alone() {
        name.push(format!("-{}-of-{}", ranks.over().rank() + 1, ranks.over().size()));
    }
    Some(output.with_file_name(name))
}

/// Reads all of a data set on all threads.
pub fn measure(paths: &[PathBuf], settings: Settings, threads: usize) -> Result<Statistics, Error> {
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
    let of = |file: &File| {
        // the name within the data set, and that of the folder that was named
        let depth = Path::new(&file.name).components().count() + 1;
        let names: Vec<_> = file
            .path
            .components()
            .rev()
            .take(depth)
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        let text = names.into_iter().rev().collect::<Vec<_>>().join("/").to_ascii_lowercase();
        let mut words = text.split(|letter: char| !letter.is_ascii_alphanumeric()).rev();
        words.find_map(|word| match word {
            "train" | "training" => Some("train"),
            "test" | "t10k" => Some("test"),
            "val" | "valid" | "validation" => Some("validation"),
            _ => None,
        })
    };
    let mut splits = listing.files.iter().map(of);
    let first = splits.next()??;
    splits.all(|split| split == Some(first)).then(|| first.to_owned())
}

/// A bar on a terminal.
fn bar() -> ProgressBar {
    let template = "reading {wide_bar} {percent:>3} %  {msg}  {eta:>4} left";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1).with_style(style)
}

fn show(bar: &ProgressBar, now: &Progress) {
    bar.set_length(now.parts.max(1));
    bar.set_position(now.done);
    let seconds = bar.elapsed().as_secs_f64().max(1e-3);
    bar.set_message(format!("{}/s", HumanBytes((now.bytes as f64 / seconds) as u64)));
}
