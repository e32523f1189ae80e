//! `cellnorm compare`: check everything, train each network, save and show what came out.

use std::time::Instant;

use cellnorm_data::state::Statistics;

use crate::args::CompareArgs;
use crate::average::average;
use crate::data::{DataNorm, Dataset, Samples};
use crate::error::Error;
use crate::network::{ImageNetwork, Network, SequenceNetwork};
use crate::output::{self, Folder};
use crate::progress::{Case, Progress};
use crate::results::{Config, DatasetInfo, Results, TotalTiming};
use crate::task::Task;
use crate::train::train;
use crate::{normalize, report, table};

const RESULTS: &str = "results.json";
const REPORT: &str = "report.html";

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<(), Error> {
    let start = Instant::now();
    match args.task {
        Task::Image => learn::<ImageNetwork>(args, normalized(args, Dataset::load(args.data.as_deref())?)?, start),
        Task::Sequence if args.data.is_some() => Err(Error::DataOfSequences),
        Task::Sequence => learn::<SequenceNetwork>(args, normalized(args, Dataset::embedded()?)?, start),
    }
}

/// The data, normalized unless that is not wanted.
fn normalized<S: Samples>(args: &CompareArgs, data: Dataset<S>) -> Result<Dataset<S>, Error> {
    if args.no_data_norm {
        return Ok(data);
    }
    let Some(path) = &args.stats else { return Ok(data.normalized(None)) };
    let statistics = Statistics::read(path)?;
    normalize::warn(&statistics);
    let (mean, deviation) = normalize::pairs(&statistics, path)?;
    if mean.len() != S::CHANNELS {
        let problem = format!("has {} channels, and the {} have {}", mean.len(), S::NOUN, S::CHANNELS);
        return Err(Error::Statistics { path: path.clone(), problem });
    }
    Ok(data.normalized(Some(DataNorm { mean, deviation })))
}

/// Runs the command with one kind of network and data.
fn learn<N: Network>(args: &CompareArgs, data: Dataset<N::Samples>, start: Instant) -> Result<(), Error> {
    let config = config::<N>(args);
    if let Some(&norm) = config.norms.iter().find(|norm| !args.task.norms().contains(norm)) {
        return Err(Error::NormOfTask { norm, task: args.task });
    }
    for &size in &config.batch_sizes {
        if size > data.train.len() {
            return Err(Error::BatchSize { size, samples: data.train.len(), noun: N::Samples::NOUN });
        }
    }
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|source| Error::Threads { threads, source })?;
    }
    let folder = Folder::prepare(&args.out, &[RESULTS, REPORT])?;

    let results = compare::<N>(config, &data, args.quiet, start)?;
    let json = to_json(&results)?;
    let html = report::render(&results)?;
    folder.save(&[(RESULTS, &json), (REPORT, &html)])?;

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
    output::print(&text).map_err(|source| Error::Print { folder: args.out.clone(), source })
}

fn config<N: Network>(args: &CompareArgs) -> Config {
    let (norms, batch_sizes) = args.without_repeats();
    Config {
        command: args.command_line(),
        version: env!("CARGO_PKG_VERSION"),
        task: args.task,
        seed: args.seed,
        seeds: args.seeds,
        epochs: args.epochs(),
        norms,
        batch_sizes,
        adam: N::ADAM,
        sizes: N::SIZES,
    }
}

/// Trains every normalization with every batch size and seed.
fn compare<N: Network>(
    config: Config,
    data: &Dataset<N::Samples>,
    quiet: bool,
    start: Instant,
) -> Result<Results, Error> {
    let seeds: Vec<u64> = (0..config.seeds).map(|i| config.seed.wrapping_add(i)).collect();
    let steps_of_each_norm: usize =
        config.batch_sizes.iter().map(|size| config.epochs * data.train.len().div_ceil(*size)).sum();
    let progress = Progress::new(quiet, seeds.len() * config.norms.len() * steps_of_each_norm);
    let mut runs = Vec::new();
    let mut averages = Vec::new();
    for &batch_size in &config.batch_sizes {
        for &norm in &config.norms {
            let first = runs.len();
            for &seed in &seeds {
                let case = Case { norm, batch_size, seed };
                progress.start(case);
                runs.push(train::<N>(case, &config, data, &progress)?);
            }
            if seeds.len() > 1 {
                averages.push(average(&runs[first..]));
            }
        }
    }
    progress.finish();
    Ok(Results {
        config,
        dataset: DatasetInfo {
            name: data.name.clone(),
            source: data.source,
            normalization: data.normalization.clone(),
            samples: N::Samples::NOUN,
            train_samples: data.train.len(),
            test_samples: data.test.len(),
            classes: N::Samples::CLASSES,
        },
        runs,
        averages,
        timing: TotalTiming { threads: rayon::current_num_threads(), total_seconds: start.elapsed().as_secs_f64() },
    })
}

fn to_json(results: &Results) -> Result<String, Error> {
    let mut json = serde_json::to_string_pretty(results)?;
    json.push('\n');
    Ok(json)
}
