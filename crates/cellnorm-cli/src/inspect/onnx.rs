//! The normalizations of an ONNX model, as they are told.

use std::path::Path;

use cellnorm_onnx::Source;
use cellnorm_onnx::fold::Direction;
use cellnorm_onnx::inspect::{NormNode, Statistics, Verdict, inspect};
use serde_json::json;

use super::{Fold, Row};
use crate::error::Error;

/// Why what has no fixed statistics stays.
const COMPUTES: (&str, &str) = (
    "computes",
    "its statistics are those of each input: it is no map of channels that a layer could take",
);

/// A row for each.
pub fn rows(path: &Path) -> Result<Vec<Row>, Error> {
    let failed = |problem| Error::Model { path: path.to_owned(), problem };
    let source = Source::open(path).map_err(failed)?;
    Ok(inspect(&source).map_err(failed)?.into_iter().map(row).collect())
}

fn row(layer: NormNode) -> Row {
    let meaning = layer.meaning.as_ref();
    let preset = meaning.and_then(|meaning| meaning.preset);
    Row {
        kind: preset.map_or_else(|| layer.operator.clone(), str::to_owned),
        meaning: meaning.map_or_else(
            || "inside a function of the model".into(),
            |meaning| meaning.words.clone(),
        ),
        epsilon: meaning.and_then(|meaning| meaning.epsilon),
        epsilon_stored: true,
        fold: Some(fold(
            &layer.verdict,
            meaning.is_some_and(|meaning| meaning.statistics != Statistics::Fixed),
        )),
        name: layer.name,
        inside: layer.inside,
        numbers: layer.numbers,
        health: layer.health,
    }
}

/// Whether it folds. Of one that computes statistics, γ and β are all that can.
fn fold(verdict: &Verdict, computes: bool) -> Fold {
    let part = if computes { "γ and β " } else { "" };
    match verdict {
        Verdict::Folds(fold) => {
            let way = match fold.direction {
                Direction::Backward => "backward",
                Direction::Forward => "forward",
            };
            let into: Vec<&str> = fold.targets.iter().map(|target| target.name.as_str()).collect();
            Fold {
                words: format!("{part}{way} into {}", into.join(", ")),
                advice: None,
                json: json!({ "folds": fold }),
            }
        }
        Verdict::Stays(kept) => Fold {
            words: format!("stays: {}", kept.reason.code()),
            advice: Some((kept.reason.code(), kept.advice)),
            json: json!({ "stays": kept }),
        },
        Verdict::Computes => Fold {
            words: "stays: computes".into(),
            advice: Some(COMPUTES),
            json: json!({ "stays": { "reason": COMPUTES.0, "advice": COMPUTES.1 } }),
        },
        Verdict::Nowhere => {
            Fold { words: "stays".into(), advice: None, json: json!("no map of channels to fold") }
        }
    }
}
