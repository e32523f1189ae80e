//! `cellnorm compare`: check everything, train each network, save and show what came out.

use std::time::Instant;

use cellnorm::ranks::exchange;
use cellnorm_data::state::Statistics;

use crate::args::CompareArgs;
use crate::average::average;
use crate::data::{DataNorm, Dataset, Samples};
use crate::error::Error;
use crate::kept::Kept;
use crate::network::{ImageNetwork, Network, SequenceNetwork};
use crate::output::{self, Folder};
use crate::progress::{Case, Progress};
use crate::ranks::{Ranks, RanksError};
use crate::results::{Config, DatasetInfo, Results, Run, TotalTiming};
use crate::task::Task;
use crate::train::train;
use crate::{normalize, report, table};

const RESULTS: &str = "results.json";
const REPORT: &str = "report.html";

/// Runs the command; of several ranks, the first writes and tells.
pub fn run(args: &CompareArgs, ranks: &Ranks) -> Result<(), Error> {
    let start = Instant::now();
    match args.task {
        Task::Image => learn::<ImageNetwork>(
            args,
            normalized(args, Dataset::load(args.data.as_deref())?)?,
            start,
            ranks,
        ),
        Task::Sequence if args.data.is_some() => Err(Error::DataOfSequences),
        Task::Sequence if args.sync => Err(RanksError::SyncOfSequences.into()),
        Task::Sequence => {
            learn::<SequenceNetwork>(args, normalized(args, Dataset::embedded()?)?, start, ranks)
        }
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
        let problem =
            format!("has {} channels, and the {} have {}", mean.len(), S::NOUN, S::CHANNELS);
        return Err(Error::Statistics { path: path.clone(), problem });
    }
    Ok(data.normalized(Some(DataNorm { mean, deviation })))
}

/// Runs the command with one kind of network and data.
fn learn<N: Network>(
    args: &CompareArgs,
    data: Dataset<N::Samples>,
    start: Instant,
    ranks: &Ranks,
) -> Result<(), Error> {
    let config = config::<N>(args, ranks);
    if let Some(&norm) = config.norms.iter().find(|norm| !args.task.norms().contains(norm)) {
        return Err(Error::NormOfTask { norm, task: args.task });
    }
    for &size in &config.batch_sizes {
        if size > data.train.len() {
            return Err(Error::BatchSize {
                size,
                samples: data.train.len(),
                noun: N::Samples::NOUN,
            });
        }
        if size < config.ranks {
            return Err(RanksError::BatchOfRanks { size, ranks: config.ranks }.into());
        }
    }
    if let Some(threads) = args.threads.or(ranks.threads()) {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|source| Error::Threads { threads, source })?;
    }
    let folder =
        ranks.is_first().then(|| Folder::prepare(&args.out, &[RESULTS, REPORT])).transpose()?;
    let kept = folder.as_ref().map(|_| Kept::new(&args.out, &config, args.resume)).transpose()?;

    let kept = train_all::<N>(&config, &data, args.quiet, kept, ranks)?;
    let (Some(folder), Some(mut kept)) = (folder, kept) else { return Ok(()) };
    let results = results::<N>(config, &data, kept.take(), start);
    let json = to_json(&results)?;
    let html = report::render(&results)?;
    folder.save(&[(RESULTS, &json), (REPORT, &html)])?;
    kept.remove();

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

fn config<N: Network>(args: &CompareArgs, ranks: &Ranks) -> Config {
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
        ranks: ranks.over().size(),
        sync: args.sync,
        adam: N::ADAM,
        sizes: N::SIZES,
    }
}

/// Trains every normalization with every batch size and seed, but for what is kept from before. The
/// first rank gets what came out.
fn train_all<N: Network>(
    config: &Config,
    data: &Dataset<N::Samples>,
    quiet: bool,
    mut kept: Option<Kept>,
    ranks: &Ranks,
) -> Result<Option<Kept>, Error> {
    let seeds = (0..config.seeds).map(|i| config.seed.wrapping_add(i));
    let of_norm = |norm, batch_size| seeds.clone().map(move |seed| Case { norm, batch_size, seed });
    let of_size =
        |&batch_size: &usize| config.norms.iter().flat_map(move |&norm| of_norm(norm, batch_size));
    let cases: Vec<Case> = config.batch_sizes.iter().flat_map(of_size).collect();
    // the first rank knows how many are done; all must be about to do the same
    let request = format!(
        "{}, {} and {} {}",
        config.command,
        data.train.len(),
        data.test.len(),
        N::Samples::NOUN
    );
    let done = kept.as_ref().map_or(0, |kept| kept.runs().len());
    let done = exchange(ranks.over(), &request, Ok::<_, Error>(vec![done as f64]))?[0][0] as usize;
    let left = cases.get(done..).unwrap_or_default();
    let steps = |case: &Case| config.epochs * data.train.len().div_ceil(case.batch_size);
    let progress = Progress::new(quiet || !ranks.is_first(), left.iter().map(steps).sum());
    for &case in left {
        progress.start(case);
        let run = train::<N>(case, config, data, &progress, ranks)?;
        if let Some(kept) = &mut kept {
            kept.add(run)?;
        }
    }
    progress.finish();
    Ok(kept)
}

/// What came out, with the averages over seeds.
fn results<N: Network>(
    config: Config,
    data: &Dataset<N::Samples>,
    runs: Vec<Run>,
    start: Instant,
) -> Results {
    let of_case = runs.chunks(config.seeds as usize);
    let averages = if config.seeds > 1 { of_case.map(average).collect() } else { vec![] };
    Results {
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
        timing: TotalTiming {
            threads: rayon::current_num_threads(),
            total_seconds: start.elapsed().as_secs_f64(),
        },
    }
}

fn to_json(results: &Results) -> Result<String, Error> {
    let mut json = serde_json::to_string_pretty(results)?;
    json.push('\n');
    Ok(json)
}
