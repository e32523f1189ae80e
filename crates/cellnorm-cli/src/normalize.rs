//! `cellnorm normalize`: data with the statistics of a data set applied, and back.

use std::path::{Path, PathBuf};

use cellnorm::data::known::{ALL, known};
use cellnorm_data::apply::{Normalization, normalize};
use cellnorm_data::files;
use cellnorm_data::state::Statistics;
use clap::Args;
use indicatif::ProgressBar;

use crate::error::Error;
use crate::numbers::thousands;
use crate::output;
use crate::stats::{Reading, paths};

/// What to normalize.
#[derive(Args)]
pub struct NormalizeArgs {
    /// Folders and files; - reads a list of them from standard input, one in a line.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// File of statistics, or a name: imagenet, imagenet-pooled, mnist, fashion-mnist, cifar10, half.
    #[arg(long, value_name = "FILE|NAME")]
    pub stats: String,

    /// Where the result goes: a .npy file for one file, a folder for several.
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,

    /// The way back, from normalized numbers to numbers between 0 and 1.
    #[arg(long)]
    pub invert: bool,

    /// What is read, and how.
    #[command(flatten)]
    pub reading: Reading,
}

/// Runs the command.
pub fn run(args: &NormalizeArgs) -> Result<(), Error> {
    let mut settings = args.reading.settings(None);
    let (mean, deviation) = match known(&args.stats) {
        Some(known) => (known.mean.to_vec(), known.deviation.to_vec()),
        None => {
            let path = Path::new(&args.stats);
            if !path.exists() {
                let names = ALL.map(|known| known.name).join(", ");
                return Err(Error::NoStatistics { given: args.stats.clone(), names });
            }
            let statistics = Statistics::read(path)?;
            warn(&statistics);
            if settings.channel_axis.is_none() {
                settings.channel_axis = statistics.settings.channel_axis;
            }
            settings.colour = statistics.settings.colour;
            pairs(&statistics, path)?
        }
    };
    let mut normalization = Normalization::new(&mean, &deviation)?;
    if args.invert {
        normalization = normalization.inverse();
    }
    let listing = files::list(&paths(&args.paths)?)?;
    let bar = ProgressBar::new(listing.files.len() as u64);
    let mut progress = |count: usize| bar.set_position(count as u64);
    let values = normalize(&listing, &settings, &normalization, &args.output, &mut progress)?;
    bar.finish_and_clear();
    let text = format!(
        "{} values of {} files written to {}\n",
        thousands(values as usize),
        thousands(listing.files.len()),
        args.output.display()
    );
    output::print(&text).map_err(Error::Standard)
}

/// Mean and deviation of each channel, divided by the numbers' full scale.
pub fn pairs(statistics: &Statistics, path: &Path) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let summaries = statistics.summaries();
    let whole: Option<Vec<_>> = summaries.into_iter().collect();
    let unusable = |problem: &str| Error::Statistics { path: path.to_owned(), problem: problem.into() };
    let whole = whole.filter(|all| !all.is_empty()).ok_or_else(|| unusable("has a channel without values"))?;
    if whole.iter().any(cellnorm::data::Summary::is_constant) {
        return Err(unusable("has a channel whose values are all equal: there is no deviation to divide by"));
    }
    let full = statistics.full_scale;
    Ok(whole.iter().map(|one| (one.mean / full, one.deviation / full)).unzip())
}

/// Says so where statistics were taken from data that a model is judged by, or are not whole.
pub fn warn(statistics: &Statistics) {
    if let Some(split @ ("test" | "validation")) = statistics.about.split.as_deref() {
        eprintln!(
            "warning: these statistics are of the {split} split; a model that sees data normalized with them is judged by what it has seen"
        );
    }
    if !statistics.is_complete() {
        eprintln!("warning: these statistics are of a part of the data; merge the other shards first");
    }
}
