//! `cellnorm normalize`: data with the statistics of a data set applied, and back.

use std::path::{Path, PathBuf};

use cellnorm::data::known::{ALL, known};
use cellnorm_data::apply::{Normalization, normalize};
use cellnorm_data::files;
use cellnorm_data::settings::Settings;
use cellnorm_data::state::Statistics;
use clap::Args;
use indicatif::ProgressBar;
use miette::Diagnostic;
use thiserror::Error;

use crate::format::{counted, join};
use crate::input::{self, InputError, ReadArgs};
use crate::output::{self, OutputError};

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum NormalizeError {
    #[error("{name:?} is neither a file nor one of {known}")]
    #[diagnostic(help("cellnorm stats PATH -o FILE makes a file of statistics"))]
    NoStatistics { name: String, known: String },
    #[diagnostic(transparent)]
    Input(#[from] InputError),
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

impl From<cellnorm_data::Error> for NormalizeError {
    fn from(error: cellnorm_data::Error) -> Self {
        Self::Input(error.into())
    }
}

#[derive(Args)]
pub struct NormalizeArgs {
    /// Folders and files; - reads a list of them from standard input, one in a line.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// File of statistics, or a name: imagenet, imagenet-pooled, mnist, fashion-mnist, cifar10,
    /// half.
    #[arg(long, value_name = "FILE|NAME")]
    pub stats: String,

    /// Path of the result: a .npy file for one file, a folder for several.
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,

    /// Undo the normalization: from normalized numbers to numbers between 0 and 1.
    #[arg(long)]
    pub invert: bool,

    #[command(flatten)]
    pub reading: ReadArgs,
}

pub fn run(args: &NormalizeArgs) -> Result<(), NormalizeError> {
    let (settings, normalization) = settings(args)?;
    let normalization = if args.invert { normalization.inverse() } else { normalization };
    let listing = files::list(&input::paths(&args.paths)?)?;
    if let Some(failure) = listing.failures.first() {
        return Err(cellnorm_data::Error::file(&failure.name, failure.problem.clone()).into());
    }
    if listing.files.is_empty() {
        let what = "there is no file to normalize".into();
        return Err(cellnorm_data::Error::Nothing { what }.into());
    }
    let bar = ProgressBar::new(listing.files.len() as u64);
    let mut progress = |count: usize| bar.set_position(count as u64);
    let values = normalize(&listing, &settings, &normalization, &args.output, &mut progress)?;
    bar.finish_and_clear();
    output::print(&format!(
        "{} of {} written to {}\n",
        counted(values, "value"),
        counted(listing.files.len(), "file"),
        args.output.display()
    ))?;
    Ok(())
}

/// How the data are read, and what is done to them.
fn settings(args: &NormalizeArgs) -> Result<(Settings, Normalization), NormalizeError> {
    let asked = args.reading.settings(None);
    if let Some(known) = known(&args.stats) {
        return Ok((asked, Normalization::new(known.mean, known.deviation)?));
    }
    let path = Path::new(&args.stats);
    if !path.exists() {
        let known = join(ALL.map(|known| known.name), ", ");
        return Err(NormalizeError::NoStatistics { name: args.stats.clone(), known });
    }
    if output::same_place(path, &args.output) {
        let problem = "the result would take its place; name another one";
        return Err(cellnorm_data::Error::file(path, problem).into());
    }
    let statistics = Statistics::read(path)?;
    input::warn(&statistics);
    Ok((agreed(asked, &statistics.settings)?, Normalization::from_statistics(&statistics)?))
}

/// The settings that statistics were made with; the settings asked for must not contradict them.
fn agreed(asked: Settings, made: &Settings) -> Result<Settings, cellnorm_data::Error> {
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
        return Err(cellnorm_data::Error::Settings { problem });
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
