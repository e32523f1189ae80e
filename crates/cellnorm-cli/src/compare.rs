//! `cellnorm compare`: check everything, train each network, save and show what came out.

use std::time::Instant;

use crate::args::CompareArgs;
use crate::data::Dataset;
use crate::data::idx::CLASSES;
use crate::error::Error;
use crate::network::{CHANNELS, DROPOUT, GROUPS, HIDDEN};
use crate::output::{self, Folder};
use crate::progress::Progress;
use crate::results::{Config, DatasetInfo, Results, TotalTiming};
use crate::train::{ADAM, train};
use crate::{report, table};

const RESULTS: &str = "results.json";
const REPORT: &str = "report.html";

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<(), Error> {
    let start = Instant::now();
    let config = config(args);
    let data = Dataset::load(args.data.as_deref())?;
    for &size in &config.batch_sizes {
        if size > data.train.len() {
            return Err(Error::BatchSize { size, images: data.train.len() });
        }
    }
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|source| Error::Threads { threads, source })?;
    }
    let folder = Folder::prepare(&args.out, &[RESULTS, REPORT])?;

    let results = compare(config, &data, args.quiet, start)?;
    let json = to_json(&results)?;
    let html = report::render(&results)?;
    folder.save(&[(RESULTS, &json), (REPORT, &html)])?;

    let text = match (args.json, args.quiet) {
        (true, _) => json,
        (false, true) => return Ok(()),
        (false, false) => format!(
            "{}\n{}\nSaved {} and {}.\n",
            table::render(&results),
            table::LEGEND,
            args.out.join(RESULTS).display(),
            args.out.join(REPORT).display()
        ),
    };
    output::print(&text).map_err(|source| Error::Print { folder: args.out.clone(), source })
}

fn config(args: &CompareArgs) -> Config {
    let (norms, batch_sizes) = args.without_repeats();
    Config {
        command: args.command_line(),
        version: env!("CARGO_PKG_VERSION"),
        seed: args.seed,
        epochs: args.epochs,
        norms,
        batch_sizes,
        adam: ADAM,
        channels: CHANNELS,
        groups: GROUPS,
        hidden: HIDDEN,
        dropout: DROPOUT,
    }
}

/// Trains every normalization with every batch size.
fn compare(config: Config, data: &Dataset, quiet: bool, start: Instant) -> Result<Results, Error> {
    let steps_of_each_norm: usize =
        config.batch_sizes.iter().map(|size| config.epochs * data.train.len().div_ceil(*size)).sum();
    let progress = Progress::new(quiet, config.norms.len() * steps_of_each_norm);
    let mut runs = Vec::new();
    for &batch_size in &config.batch_sizes {
        for &norm in &config.norms {
            progress.start(norm, batch_size);
            runs.push(train(norm, batch_size, &config, data, &progress)?);
        }
    }
    progress.finish();
    Ok(Results {
        config,
        dataset: DatasetInfo {
            name: data.name.clone(),
            train_images: data.train.len(),
            test_images: data.test.len(),
            classes: CLASSES,
        },
        runs,
        timing: TotalTiming { threads: rayon::current_num_threads(), total_seconds: start.elapsed().as_secs_f64() },
    })
}

fn to_json(results: &Results) -> Result<String, Error> {
    let mut json = serde_json::to_string_pretty(results)?;
    json.push('\n');
    Ok(json)
}
