//! Folding a checkpoint, which has no graph, by a file that pairs normalizations and layers.

use std::path::{Path, PathBuf};

use cellnorm::fold::pairs::{FoldedLayer, Guess, LayerKind, Pair, Side, fold, guesses};
use cellnorm::state::Checkpoint;
use comfy_table::CellAlignment;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use super::{FoldArgs, FoldError, RuntimeChoice, written_json};
use crate::format::{self, counted, thousands};
use crate::input::{self, StrayFlag};
use crate::output::{self, OutputError};

#[derive(Debug, Error, Diagnostic)]
pub enum CheckpointError {
    #[error("{} does not say which normalization belongs to which layer", path.display())]
    #[diagnostic(help(
        "name a file that does with --pairs; cellnorm fold {} --dry-run prints one to edit",
        path.display()
    ))]
    NoPairs { path: PathBuf },
    #[error("{} {problem}", path.display())]
    #[diagnostic(help(
        "it must be JSON such as {{\"pairs\": [{{\"layer\": \"conv1\", \"norm\": \"bn1\", \
         \"kind\": \"conv\"}}]}}; the kind is conv, conv-transposed or linear; a pair may have \
         groups, side (behind, ahead), unpadded (true) and epsilon"
    ))]
    Pairs { path: PathBuf, problem: String },
    #[error("nothing says the epsilon of {norm}")]
    #[diagnostic(help(
        "a checkpoint does not store it: look at the model's code and give it with --epsilon, or \
         as \"epsilon\" of the pair"
    ))]
    NoEpsilon { norm: String },
    /// `worst` is the largest difference, as a share of the difference that rounding explains.
    #[error("the folded layers differ {worst:.1} times as much as rounding explains")]
    #[diagnostic(help("nothing was written; --force writes it all the same"))]
    TooFar { worst: f64 },
}

/// The endings of a checkpoint's name.
pub const EXTENSIONS: [&str; 4] = ["safetensors", "npz", "pth", "pt"];

/// Whether the model is a checkpoint; refuses the flags that are for the other files.
pub fn is_checkpoint(args: &FoldArgs) -> Result<bool, StrayFlag> {
    let extension = args.model.extension().and_then(|extension| extension.to_str());
    let is_checkpoint = extension.is_some_and(|extension| EXTENSIONS.contains(&extension));
    let graph_flags = [
        ("--explain", args.explain.is_some()),
        ("--html", args.html.is_some()),
        ("--tol", args.tol.is_some()),
        ("--inputs", args.inputs.is_some()),
        ("--runtime", args.runtime != RuntimeChoice::Auto),
        ("--freeze-inputs", args.freeze_inputs),
        ("--no-copy", args.no_copy),
        ("--allow-cancellation", args.allow_cancellation),
        ("--mean", !args.mean.is_empty()),
        ("--stats", args.stats.is_some()),
        ("--input", args.input.is_some()),
    ];
    let checkpoint_flags =
        [("--pairs", args.pairs.is_some()), ("--epsilon", args.epsilon.is_some())];
    let (flags, files) = match is_checkpoint {
        true => (&graph_flags[..], "ONNX models"),
        false => {
            (&checkpoint_flags[..], "checkpoints without a graph: .safetensors, .npz, .pth, .pt")
        }
    };
    match flags.iter().find(|(_, is_present)| *is_present) {
        Some((flag, _)) => Err(StrayFlag {
            flag,
            subject: args.model.display().to_string(),
            help: format!("{flag} is for {files}"),
        }),
        None => Ok(is_checkpoint),
    }
}

pub fn run(args: &FoldArgs) -> Result<(), FoldError> {
    let place = args.place()?;
    let mut checkpoint = Checkpoint::read(&args.model)?;
    let Some(path) = &args.pairs else {
        if place.is_some() {
            return Err(CheckpointError::NoPairs { path: args.model.clone() }.into());
        }
        let guesses = guesses(&checkpoint);
        let file = Pairing::guessed(&guesses).json()?;
        let text = if args.json { file } else { guesses_text(&args.model, &guesses, &file) };
        return Ok(output::print(&text)?);
    };
    let pairs = Pairing::read(path)?.pairs(args.epsilon)?;
    let folded = fold(&mut checkpoint, &pairs)?;
    let worst = folded.iter().map(|layer| layer.share).fold(0.0, f64::max);
    if worst > 1.0 && !args.force {
        return Err(CheckpointError::TooFar { worst }.into());
    }
    let mut written = None;
    if let Some(place) = &place {
        checkpoint.write(place)?;
        written = Some((place.as_path(), input::file_size(place)?));
    }
    if !args.json {
        return Ok(output::print(&folded_text(&args.model, &folded, worst, written))?);
    }
    let layer = |layer: &FoldedLayer| {
        let (norms, share) = (&layer.norms, layer.share);
        json!({
            "layer": layer.layer, "norms": norms, "outputs": layer.outputs,
            "share_of_rounding": share,
        })
    };
    Ok(output::print_json(&json!({
        "checkpoint": args.model,
        "folds": folded.iter().map(layer).collect::<Vec<_>>(),
        "written": written_json(written),
    }))?)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pairing {
    pairs: Vec<PairEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairEntry {
    layer: String,
    norm: String,
    #[serde(with = "LayerKindName")]
    kind: LayerKind,
    #[serde(default = "one")]
    groups: usize,
    #[serde(default, with = "SideName")]
    side: Side,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unpadded: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
}

/// The words of the file for a [`LayerKind`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "LayerKind", rename_all = "kebab-case")]
enum LayerKindName {
    #[serde(rename = "conv")]
    Convolution,
    #[serde(rename = "conv-transposed")]
    TransposedConvolution,
    Linear,
}

/// The words of the file for a [`Side`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Side")]
enum SideName {
    #[serde(rename = "behind")]
    After,
    #[serde(rename = "ahead")]
    Before,
}

fn one() -> usize {
    1
}

impl Pairing {
    fn read(path: &Path) -> Result<Self, FoldError> {
        let text = input::read_text(path)?;
        let unusable = |problem| CheckpointError::Pairs { path: path.to_owned(), problem };
        let read: Self = serde_json::from_str(&text)
            .map_err(|error| unusable(format!("is not usable: {error}")))?;
        match read.pairs.is_empty() {
            true => Err(unusable("names no pair".into()).into()),
            false => Ok(read),
        }
    }

    /// The pairs that names suggest.
    fn guessed(guesses: &[Guess]) -> Self {
        let entry = |guess: &Guess| {
            let (layer, kind) = guess.layer.clone()?;
            Some(PairEntry {
                layer,
                norm: guess.norm.clone(),
                kind,
                groups: 1,
                side: Side::After,
                unpadded: false,
                epsilon: None,
            })
        };
        Self { pairs: guesses.iter().filter_map(entry).collect() }
    }

    /// A line for each pair.
    fn json(&self) -> Result<String, OutputError> {
        let lines = self.pairs.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{{\"pairs\": [\n  {}\n]}}\n", lines.join(",\n  ")))
    }

    /// The pairs; `epsilon` is for those that name none.
    fn pairs(self, epsilon: Option<f64>) -> Result<Vec<Pair>, CheckpointError> {
        let pair = |entry: PairEntry| {
            let PairEntry { layer, norm, kind, groups, side, unpadded, .. } = entry;
            let Some(epsilon) = entry.epsilon.or(epsilon) else {
                return Err(CheckpointError::NoEpsilon { norm });
            };
            Ok(Pair { layer, norm, kind, groups, side, unpadded, epsilon })
        };
        self.pairs.into_iter().map(pair).collect()
    }
}

/// The limits of names, and how to go on.
const UNKNOWN: &str = "Nothing was folded: these are guesses. Names do not tell what lies between \
                       a layer and a normalization; with an activation between, folding gives a \
                       wrong model. Nor does the file hold epsilon, groups, or whether zeros are \
                       padded. Look at the model's code, correct the pairs below, save them, and \
                       give them with --pairs and --epsilon:\n";

/// The guesses, and the pairing file to edit.
fn guesses_text(path: &Path, guesses: &[Guess], file: &str) -> String {
    let paired = guesses.iter().filter(|guess| guess.layer.is_some()).count();
    let heading = format!(
        "{}: {} with running statistics; names suggest a layer for {}\n",
        path.display(),
        counted(guesses.len(), "normalization"),
        thousands(paired)
    );
    if guesses.is_empty() {
        return heading;
    }
    let mut table = format::table(None);
    table.set_header(["normalization", "channels", "layer", "kind"]);
    for guess in guesses {
        let (layer, kind) = match &guess.layer {
            None => ("no name fits", ""),
            Some((layer, LayerKind::Convolution)) => (layer.as_str(), "conv"),
            Some((layer, LayerKind::TransposedConvolution)) => (layer.as_str(), "conv-transposed"),
            Some((layer, LayerKind::Linear)) => (layer.as_str(), "linear"),
        };
        table.add_row([&guess.norm, &guess.channels.to_string(), layer, kind]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{heading}\n{}\n{UNKNOWN}\n{file}", format::trimmed(&table))
}

fn folded_text(
    path: &Path,
    folded: &[FoldedLayer],
    worst: f64,
    written: Option<(&Path, u64)>,
) -> String {
    let norms: usize = folded.iter().map(|layer| layer.norms.len()).sum();
    let written = match written {
        Some((path, bytes)) => format!("written: {}, {}", path.display(), counted(bytes, "byte")),
        None => "nothing was written".into(),
    };
    format!(
        "{}: {} folded into {}\nproof: each layer alone in float64, with the numbers as they are \
         stored: differences at most {worst:.2} of what rounding explains\nThat nothing lies \
         between each pair, and epsilon, are as the pairing file says; no graph was there to check it.\n{written}\n",
        path.display(),
        counted(norms, "normalization"),
        counted(folded.len(), "layer")
    )
}
