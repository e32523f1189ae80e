//! `cellnorm compare`: check everything, train each network, save and print the results.

use std::path::PathBuf;
use std::time::Instant;

use cellnorm::ranks::exchange;
use cellnorm_data::state::Statistics;
use miette::Diagnostic;
use thiserror::Error;

use crate::data::{DataError, DataNorm, Dataset, Samples};
use crate::format::counted;
use crate::input::{self, InputError};
use crate::network::{ImageNetwork, Network, SequenceNetwork};
use crate::norm::Norm;
use crate::output::{self, Folder, OutputError};
use crate::ranks::{Ranks, RanksError};
use args::Task;
use partial::PartialResults;
use results::{Config, Results, TotalTiming, average};
use train::{Case, Progress, train};

mod args;
mod partial;
mod record;
mod report;
mod results;
mod table;
mod train;

pub use args::CompareArgs;

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum CompareError {
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    #[error("batch size {size} is larger than the training set of {samples} {noun}")]
    #[diagnostic(help("choose --batch-sizes between 1 and {samples}"))]
    BatchSize { size: usize, samples: usize, noun: &'static str },
    #[error("{} is no normalization of --task {}", norm.name(), task.name())]
    #[diagnostic(help("--task {} compares {}", task.name(), task.norm_names()))]
    NormForTask { norm: Norm, task: Task },
    #[error("--task sequence takes no --data: it has sequences of its own")]
    #[diagnostic(help("--data names a folder of images: leave it out, or choose --task image"))]
    SequenceData,
    #[error("cannot start {threads} threads")]
    #[diagnostic(help("ask for fewer with --threads"))]
    Threads { threads: usize, source: rayon::ThreadPoolBuildError },
    /// The trainings to go on with are of another comparison.
    #[error("{path} {problem}")]
    #[diagnostic(help(
        "start with the same flags, version and ranks, or without --resume, which begins anew"
    ))]
    Resume { path: PathBuf, problem: String },
    /// An exchange between ranks that failed.
    Refused(#[from] cellnorm::Error),
    #[error("cannot read a tensor")]
    Tensor(#[from] burn::tensor::TensorReadError),
    #[error("cannot print the results; they are saved in {}", folder.display())]
    Print { folder: PathBuf, source: std::io::Error },
    #[diagnostic(transparent)]
    Ranks(#[from] RanksError),
    #[diagnostic(transparent)]
    Input(#[from] InputError),
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

const RESULTS: &str = "results.json";
const REPORT: &str = "report.html";

/// Runs the command; of several ranks, the first writes and prints.
pub fn run(args: &CompareArgs, ranks: &Ranks) -> Result<(), CompareError> {
    let start = Instant::now();
    match args.task {
        Task::Image => {
            let data = Dataset::load(args.data.as_deref())?;
            compare::<ImageNetwork>(args, normalized(args, data)?, start, ranks)
        }
        Task::Sequence if args.data.is_some() => Err(CompareError::SequenceData),
        Task::Sequence if args.sync => Err(RanksError::SequenceSync.into()),
        Task::Sequence => {
            let data = Dataset::embedded()?;
            compare::<SequenceNetwork>(args, normalized(args, data)?, start, ranks)
        }
    }
}

/// The data, normalized unless the flags say otherwise.
fn normalized<S: Samples>(args: &CompareArgs, data: Dataset<S>) -> Result<Dataset<S>, InputError> {
    if args.no_data_norm {
        return Ok(data);
    }
    let Some(path) = &args.stats else { return Ok(data.normalized(None)) };
    let statistics = Statistics::read(path)?;
    input::warn(&statistics);
    let unusable = |problem: String| InputError::Statistics { path: path.clone(), problem };
    let (mean, deviation) = statistics.pairs().map_err(|problem| unusable(problem.into()))?;
    if mean.len() != S::CHANNELS {
        let (given, noun, right) = (counted(mean.len(), "channel"), S::NOUN, S::CHANNELS);
        return Err(unusable(format!("has {given}, and the {noun} have {right}")));
    }
    Ok(data.normalized(Some(DataNorm { mean, deviation })))
}

fn compare<N: Network>(
    args: &CompareArgs,
    data: Dataset<N::Samples>,
    start: Instant,
    ranks: &Ranks,
) -> Result<(), CompareError> {
    let config = config::<N>(args, ranks);
    check(&config, data.train.len(), N::Samples::NOUN)?;
    if let Some(threads) = args.threads.or(ranks.threads()) {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|source| CompareError::Threads { threads, source })?;
    }
    let folder =
        ranks.is_first().then(|| Folder::prepare(&args.out, &[RESULTS, REPORT])).transpose()?;
    let partial = folder.as_ref().map(|_| PartialResults::new(&args.out, &config, args.resume));

    let partial = train_all::<N>(&config, &data, args.quiet, partial.transpose()?, ranks)?;
    let (Some(folder), Some(mut partial)) = (folder, partial) else { return Ok(()) };
    let runs = std::mem::take(&mut partial.runs);
    let averages = match config.seeds {
        1 => vec![],
        seeds => runs.chunks(seeds as usize).map(average).collect(),
    };
    let (threads, total_seconds) = (rayon::current_num_threads(), start.elapsed().as_secs_f64());
    let timing = TotalTiming { threads, total_seconds };
    let results = Results { config, dataset: data.info, runs, averages, timing };
    let json = output::json(&results)?;
    let html = report::render(&results);
    folder.save(&[(RESULTS, &json), (REPORT, &html)])?;
    partial.remove();

    let text = match (args.json, args.quiet) {
        (true, _) => json,
        (false, true) => return Ok(()),
        (false, false) => format!(
            "{}\n{}\nSaved {} and {}.\n",
            table::render(&results),
            table::notes(&results),
            args.out.join(RESULTS).display(),
            args.out.join(REPORT).display()
        ),
    };
    output::write_stdout(&text)
        .map_err(|source| CompareError::Print { folder: args.out.clone(), source })
}

fn config<N: Network>(args: &CompareArgs, ranks: &Ranks) -> Config {
    let (norms, batch_sizes) = args.norms_and_batch_sizes();
    Config {
        command: args.command_line(),
        version: env!("CARGO_PKG_VERSION"),
        task: args.task,
        seed: args.seed,
        seeds: args.seeds,
        epochs: args.epochs(),
        norms,
        batch_sizes,
        ranks: ranks.size(),
        sync: args.sync,
        adam: N::ADAM,
        sizes: N::SIZES,
    }
}

/// Refuses normalizations that the network does not have, and batches that cannot be filled.
fn check(config: &Config, samples: usize, noun: &'static str) -> Result<(), CompareError> {
    let task = config.task;
    if let Some(&norm) = config.norms.iter().find(|norm| !task.norms().contains(norm)) {
        return Err(CompareError::NormForTask { norm, task });
    }
    for &size in &config.batch_sizes {
        if size > samples {
            return Err(CompareError::BatchSize { size, samples, noun });
        }
        if size < config.ranks {
            return Err(RanksError::SmallBatch { size, ranks: config.ranks }.into());
        }
    }
    Ok(())
}

/// Trains every normalization with every batch size and seed, except those that are in `partial`,
/// which the first rank has. Returns it with all of them.
fn train_all<N: Network>(
    config: &Config,
    data: &Dataset<N::Samples>,
    quiet: bool,
    mut partial: Option<PartialResults>,
    ranks: &Ranks,
) -> Result<Option<PartialResults>, CompareError> {
    let mut cases = Vec::new();
    for &batch_size in &config.batch_sizes {
        for &norm in &config.norms {
            let seeds = (0..config.seeds).map(|i| config.seed.wrapping_add(i));
            cases.extend(seeds.map(|seed| Case { norm, batch_size, seed }));
        }
    }
    // the first rank knows how many are done; all must be about to do the same
    let noun = N::Samples::NOUN;
    let (train_samples, test_samples) = (data.train.len(), data.test.len());
    let request = format!("{}, {train_samples} and {test_samples} {noun}", config.command);
    let done = partial.as_ref().map_or(0, |partial| partial.runs.len()) as f64;
    let done = exchange(ranks.communicator(), &request, Ok::<_, CompareError>(vec![done]))?;
    let left = cases.get(done[0][0] as usize..).unwrap_or_default();
    let steps = |case: &Case| config.epochs * train_samples.div_ceil(case.batch_size);
    let progress = Progress::new(quiet || !ranks.is_first(), left.iter().map(steps).sum());
    for &case in left {
        progress.start(case);
        let training = train::<N>(case, config, data, &progress, ranks)?;
        if let Some(partial) = &mut partial {
            partial.add(training)?;
        }
    }
    progress.bar.finish_and_clear();
    Ok(partial)
}
