//! `cellnorm inspect`: every normalization of a trained model, and whether its numbers are sound.

use std::path::{Path, PathBuf};

use cellnorm::inspect::{Health, Numbers};
use clap::Args;

use crate::error::Error;
use crate::fold::{CHECKPOINTS, Problem};
use crate::output;

mod checkpoint;
mod json;
mod onnx;
mod text;
mod warnings;

/// What to look at.
#[derive(Args)]
pub struct InspectArgs {
    /// The model: .onnx; or .safetensors, .npz, .pth, .pt.
    pub model: PathBuf,

    /// ε of a checkpoint's normalizations, which it does not store; the default of the framework
    /// whose names it has when not given.
    #[arg(long, value_name = "NUMBER")]
    pub epsilon: Option<f64>,

    /// Print every number as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A normalization, as it is told.
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it is inside of.
    pub inside: Vec<String>,
    /// Its kind: the preset of its semantics, the operator, or what names tell.
    pub kind: String,
    /// What it does, in words.
    pub meaning: String,
    /// ε.
    pub epsilon: Option<f64>,
    /// Whether the file says ε.
    pub epsilon_stored: bool,
    /// Its numbers, where the file has them.
    pub numbers: Option<Numbers>,
    /// What they say.
    pub health: Health,
    /// Whether it folds, and where; a checkpoint does not tell.
    pub fold: Option<Fold>,
}

/// Whether a normalization becomes part of layers.
pub struct Fold {
    /// In a few words.
    pub words: String,
    /// What the words mean, and what would help.
    pub advice: Option<(&'static str, &'static str)>,
    /// All that is known.
    pub json: serde_json::Value,
}

/// Runs the command.
pub fn run(args: &InspectArgs) -> Result<(), Error> {
    let rows = rows(&args.model, args.epsilon)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&json::of(&args.model, &rows))? + "\n",
        false => text::report(&args.model, &rows, output::width()),
    };
    output::print(&text).map_err(Error::Standard)
}

fn rows(path: &Path, epsilon: Option<f64>) -> Result<Vec<Row>, Error> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("onnx") if epsilon.is_some() => {
            let what = "checkpoints, which do not store it";
            Err(Problem::Flag { flag: "--epsilon", path: path.to_owned(), what }.into())
        }
        Some("onnx") => onnx::rows(path),
        Some(extension) if CHECKPOINTS.contains(&extension) => checkpoint::rows(path, epsilon),
        _ => Err(Error::Extension { path: path.to_owned() }),
    }
}
