//! The normalizations of an ONNX model, with their numbers and whether they fold; those of a
//! checkpoint, as far as names and shapes tell.

use std::path::Path;

use cellnorm::inspect::{Health, Numbers};
use cellnorm::state::{Checkpoint, Found};
use cellnorm_onnx::Source;
use cellnorm_onnx::inspect::{NormNode, Statistics, Verdict, inspect};
use serde_json::json;

use super::InspectError;
use crate::fold::{CHECKPOINT_EXTENSIONS, ModelError, direction, targets};
use crate::input::StrayFlag;

/// A normalization with all facts about it.
pub struct Row {
    pub name: String,
    /// The functions and graphs that it is inside of.
    pub inside: Vec<String>,
    /// Its kind: the preset of its semantics, the operator, or what names tell.
    pub kind: String,
    /// Its effect, in words.
    pub meaning: String,
    pub epsilon: Option<f64>,
    /// Whether the file says ε.
    pub epsilon_stored: bool,
    /// Its numbers, where the file has them.
    pub numbers: Option<Numbers>,
    pub health: Health,
    /// Whether it folds, and where; a checkpoint does not tell.
    pub fold: Option<FoldVerdict>,
}

/// Whether a normalization becomes part of layers.
pub struct FoldVerdict {
    /// In a few words.
    pub words: String,
    /// The code of the reason, and its meaning with a remedy.
    pub advice: Option<(&'static str, &'static str)>,
    /// All that is known.
    pub json: serde_json::Value,
}

/// Why a normalization without fixed statistics stays.
const COMPUTES: (&str, &str) = (
    "computes",
    "its statistics are those of each input: it is no map of channels that a layer could take",
);

/// A row for each normalization of a model.
pub fn read(path: &Path, epsilon: Option<f64>) -> Result<Vec<Row>, InspectError> {
    let failed = |problem| ModelError { path: path.to_owned(), problem };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("onnx") if epsilon.is_some() => Err(StrayFlag {
            flag: "--epsilon",
            subject: path.display().to_string(),
            help: "--epsilon is for checkpoints, which do not store it".into(),
        }
        .into()),
        Some("onnx") => {
            let source = Source::open(path).map_err(failed)?;
            Ok(inspect(&source).map_err(failed)?.into_iter().map(onnx_row).collect())
        }
        Some(extension) if CHECKPOINT_EXTENSIONS.contains(&extension) => {
            let checkpoint = Checkpoint::read(path)?;
            let found = checkpoint.normalizations().into_iter();
            Ok(found
                .map(|found| checkpoint_row(&checkpoint, found, epsilon))
                .collect::<Result<_, _>>()?)
        }
        _ => Err(InspectError::Extension { path: path.to_owned() }),
    }
}

fn onnx_row(node: NormNode) -> Row {
    let meaning = node.meaning.as_ref();
    let preset = meaning.and_then(|meaning| meaning.preset);
    Row {
        kind: preset.map_or_else(|| node.operator.clone(), str::to_owned),
        meaning: meaning.map_or_else(
            || "inside a function of the model".into(),
            |meaning| meaning.words.clone(),
        ),
        epsilon: meaning.and_then(|meaning| meaning.epsilon),
        epsilon_stored: true,
        fold: Some(fold(
            &node.verdict,
            meaning.is_some_and(|meaning| meaning.statistics != Statistics::Fixed),
        )),
        name: node.name,
        inside: node.inside,
        numbers: node.numbers,
        health: node.health,
    }
}

/// Whether a normalization folds; where it `computes` statistics, γ and β are all that can.
fn fold(verdict: &Verdict, computes: bool) -> FoldVerdict {
    let part = if computes { "γ and β " } else { "" };
    let (words, advice, json) = match verdict {
        Verdict::Folds(fold) => (
            format!("{part}{} into {}", direction(fold), targets(fold)),
            None,
            json!({ "folds": fold }),
        ),
        Verdict::Stays(stays) => (
            format!("stays: {}", stays.reason.code()),
            Some((stays.reason.code(), stays.advice)),
            json!({ "stays": stays }),
        ),
        Verdict::Computes => (
            "stays: computes".into(),
            Some(COMPUTES),
            json!({ "stays": { "reason": COMPUTES.0, "advice": COMPUTES.1 } }),
        ),
        Verdict::Nowhere => ("stays".into(), None, json!("no map of channels to fold")),
    };
    FoldVerdict { words, advice, json }
}

fn checkpoint_row(
    checkpoint: &Checkpoint,
    found: Found,
    asked: Option<f64>,
) -> Result<Row, cellnorm::Error> {
    let numbers = |name: &Option<String>| -> Result<Option<Vec<f64>>, cellnorm::Error> {
        let tensor = name.as_ref().map(|name| checkpoint.tensor(name)).transpose()?;
        Ok(tensor.map(|tensor| tensor.values.iter().copied().collect()))
    };
    let names = &found.names;
    let default = found.semantics().map_or(1e-5, |semantics| semantics.epsilon);
    let epsilon = asked.unwrap_or(default);
    let numbers = Numbers {
        gamma: numbers(&names.gamma)?,
        beta: numbers(&names.beta)?,
        mean: numbers(&names.mean)?,
        variance: numbers(&names.variance)?,
        epsilon,
    };
    let unknown = "statistics of each input; names do not tell over what";
    let (kind, meaning) = match (found.has_statistics(), names.beta.is_some()) {
        (true, _) => ("batch", "fixed statistics of each channel"),
        (false, true) => ("layer, group or instance", unknown),
        (false, false) => ("rms, or without β", unknown),
    };
    let assumed = if asked.is_none() { ", ε assumed" } else { "" };
    Ok(Row {
        kind: kind.into(),
        meaning: format!("{meaning}; names as in {}{assumed}", found.frameworks.join(", ")),
        epsilon: Some(epsilon),
        epsilon_stored: false,
        health: Health::of(&numbers),
        numbers: Some(numbers),
        fold: None,
        inside: Vec::new(),
        name: found.name,
    })
}
