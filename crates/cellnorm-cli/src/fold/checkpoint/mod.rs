//! Folding a checkpoint without a graph, by a file that says which normalization belongs to which
//! layer.

use std::fs;
use std::path::Path;

use cellnorm::fold::pairs::{fold, guesses};
use cellnorm::state::Checkpoint;
use serde_json::json;

use super::args::{FoldArgs, RuntimeChoice};
use crate::error::Error;
use crate::output;

mod pairing;
mod problem;
mod text;

use pairing::Pairing;
pub use problem::Problem;

/// What a checkpoint's name ends in.
pub const EXTENSIONS: [&str; 4] = ["safetensors", "npz", "pth", "pt"];

/// Folds if the file is a checkpoint; `None` if it is for others to fold.
pub fn take(args: &FoldArgs) -> Option<Result<(), Error>> {
    let extension = args.model.extension().and_then(|extension| extension.to_str());
    if extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
        return Some(stray(args).map_or_else(|| run(args), Err));
    }
    let flags = [("--pairs", args.pairs.is_some()), ("--epsilon", args.epsilon.is_some())];
    let what = "checkpoints without a graph: .safetensors, .npz, .pth, .pt";
    given(&flags, &args.model, what).map(Err)
}

/// A flag that says something about graphs.
fn stray(args: &FoldArgs) -> Option<Error> {
    let flags = [
        ("--explain", args.explain.is_some()),
        ("--html", args.html.is_some()),
        ("--tol", args.tol.is_some()),
        ("--inputs", args.inputs.is_some()),
        ("--runtime", args.runtime != RuntimeChoice::Auto),
        ("--freeze-inputs", args.freeze_inputs),
        ("--no-copy", args.no_copy),
        ("--mean", !args.mean.is_empty()),
        ("--stats", args.stats.is_some()),
        ("--input", args.input.is_some()),
    ];
    given(&flags, &args.model, "ONNX models")
}

fn given(flags: &[(&'static str, bool)], path: &Path, what: &'static str) -> Option<Error> {
    let flag = flags.iter().find(|(_, given)| *given)?.0;
    Some(Problem::Flag { flag, path: path.to_owned(), what }.into())
}

fn run(args: &FoldArgs) -> Result<(), Error> {
    let place = args.place()?;
    let mut checkpoint = Checkpoint::read(&args.model)?;
    let Some(path) = &args.pairs else {
        if place.is_some() {
            return Err(Problem::NoPairs { path: args.model.clone() }.into());
        }
        let guesses = guesses(&checkpoint);
        let file = Pairing::of(&guesses).to_json()?;
        let text = if args.json { file } else { text::guessed(&args.model, &guesses, &file) };
        return output::print(&text).map_err(Error::Standard);
    };
    let pairs = Pairing::read(path)?.pairs(args.epsilon)?;
    let folded = fold(&mut checkpoint, &pairs)?;
    let worst = folded.iter().map(|layer| layer.share).fold(0.0, f64::max);
    if worst > 1.0 && !args.force {
        return Err(Problem::TooFar { worst }.into());
    }
    if let Some(place) = &place {
        checkpoint.write(place)?;
    }
    let size = |path: &Path| {
        fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })
    };
    let written =
        place.as_deref().map(|path| Ok::<_, Error>((path, size(path)?.len()))).transpose()?;
    let text = if args.json {
        let layer = |layer: &cellnorm::fold::pairs::FoldedLayer| json!({ "layer": layer.layer, "norms": layer.norms, "outputs": layer.outputs, "share_of_rounding": layer.share });
        let json = json!({
            "checkpoint": args.model,
            "folds": folded.iter().map(layer).collect::<Vec<_>>(),
            "written": written.map(|(path, bytes)| json!({ "path": path, "bytes": bytes })),
        });
        serde_json::to_string_pretty(&json)? + "\n"
    } else {
        text::folded(&args.model, &folded, written)
    };
    output::print(&text).map_err(Error::Standard)
}
