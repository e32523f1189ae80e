//! `cellnorm normalize`: data with the statistics of a data set applied, and back.

use std::path::{Path, PathBuf};

use cellnorm::data::known::{ALL, known};
use cellnorm_data::apply::{Normalization, normalize};
use cellnorm_data::files;
use cellnorm_data::settings::Settings;
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

    /// File of statistics, or a name: imagenet, imagenet-pooled, mnist, fashion-mnist, cifar10,
    /// half.
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
    let asked = args.reading.settings(None);
    let (settings, mut normalization) = match known(&args.stats) {
        Some(known) => (asked, Normalization::new(known.mean, known.deviation)?),
        None => {
            let path = Path::new(&args.stats);
            if !path.exists() {
                let names = ALL.map(|known| known.name).join(", ");
                return Err(Error::NoStatistics { given: args.stats.clone(), names });
            }
            if output::same_place(path, &args.output) {
                return Err(cellnorm_data::Error::file(
                    path,
                    "the result would take its place; name another one",
                )
                .into());
            }
            let statistics = Statistics::read(path)?;
            warn(&statistics);
            (agreed(asked, &statistics.settings)?, Normalization::from_statistics(&statistics)?)
        }
    };
    if args.invert {
        normalization = normalization.inverse();
    }
    let listing = files::list(&paths(&args.paths)?)?;
    if let Some(failure) = listing.failures.first() {
        return Err(cellnorm_data::Error::file(&failure.name, failure.problem.clone()).into());
    }
    if listing.files.is_empty() {
        return Err(
            cellnorm_data::Error::Nothing { what: "there is no file to normalize".into() }.into()
        );
    }
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

/// The settings that statistics were made with; what is asked besides must not contradict them.
fn agreed(asked: Settings, made: &Settings) -> Result<Settings, Error> {
    let plain = Settings::default();
    let contradictions = [
        ("--per or --keep", asked.per != plain.per && asked.per != made.per),
        (
            "--color",
            asked.colour != plain.colour
                && made.colour != plain.colour
                && asked.colour != made.colour,
        ),
        ("--alpha", asked.alpha != plain.alpha && asked.alpha != made.alpha),
        ("--resize", asked.resize.is_some() && asked.resize != made.resize),
        ("--crop", asked.crop.is_some() && asked.crop != made.crop),
        ("--ignore", asked.ignore.is_some() && asked.ignore != made.ignore),
    ];
    if let Some((flag, _)) = contradictions.iter().find(|(_, contradicts)| *contradicts) {
        let problem = format!(
            "the statistics were made with another {flag}; leave it out, or make others with it"
        );
        return Err(cellnorm_data::Error::Settings { problem }.into());
    }
    Ok(Settings {
        channel_axis: asked.channel_axis.or(made.channel_axis),
        colour: if asked.colour == plain.colour { made.colour } else { asked.colour },
        key: if asked.key.is_empty() { made.key.clone() } else { asked.key },
        shape: asked.shape.or_else(|| made.shape.clone()),
        sample: None,
        ..made.clone()
    })
}

/// Mean and deviation of each channel, divided by the numbers' full scale.
pub fn pairs(statistics: &Statistics, path: &Path) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let unusable =
        |problem: &str| Error::Statistics { path: path.to_owned(), problem: problem.into() };
    statistics.pairs().map_err(unusable)
}

/// Says so where statistics were taken from data that a model is judged by, or are not whole.
pub fn warn(statistics: &Statistics) {
    if let Some(split @ ("test" | "validation")) = statistics.dataset.split.as_deref() {
        eprintln!(
            "warning: these statistics are of the {split} split; a model that sees data \
             normalized with them is judged by what it has seen"
        );
    }
    if !statistics.is_complete() {
        eprintln!(
            "warning: these statistics are of a part of the data; merge the other shards first"
        );
    }
}
