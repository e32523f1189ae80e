//! The pairing file: JSON that says which normalization belongs to which layer.

use std::fs;
use std::path::Path;

use cellnorm::fold::pairs::{Guess, LayerKind, Pair, Side};
use serde::{Deserialize, Serialize};

use super::Problem;
use crate::error::Error;

/// The whole file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pairing {
    pairs: Vec<Entry>,
}

/// One pair.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    layer: String,
    norm: String,
    kind: Kind,
    #[serde(default = "one")]
    groups: usize,
    #[serde(default)]
    side: Place,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unpadded: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Conv,
    ConvTransposed,
    Linear,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    #[default]
    Behind,
    Ahead,
}

fn one() -> usize {
    1
}

impl Pairing {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let unusable =
            |problem: String| Error::from(Problem::Pairs { path: path.to_owned(), problem });
        let read: Self = serde_json::from_str(&text)
            .map_err(|error| unusable(format!("is not usable: {error}")))?;
        if read.pairs.is_empty() {
            return Err(unusable("names no pair".into()));
        }
        Ok(read)
    }

    /// The pairs that names suggest.
    pub fn of(guesses: &[Guess]) -> Self {
        let entry = |guess: &Guess| {
            let (layer, kind) = guess.layer.clone()?;
            Some(Entry {
                layer,
                norm: guess.norm.clone(),
                kind: match kind {
                    LayerKind::Convolution => Kind::Conv,
                    LayerKind::TransposedConvolution => Kind::ConvTransposed,
                    LayerKind::Linear => Kind::Linear,
                },
                groups: 1,
                side: Place::Behind,
                unpadded: false,
                epsilon: None,
            })
        };
        Self { pairs: guesses.iter().filter_map(entry).collect() }
    }

    /// A line for each pair.
    pub fn to_json(&self) -> Result<String, Error> {
        let lines = self.pairs.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        Ok(format!("{{\"pairs\": [\n  {}\n]}}\n", lines.join(",\n  ")))
    }

    /// The pairs, with ε of those that name none.
    pub fn pairs(self, epsilon: Option<f64>) -> Result<Vec<Pair>, Error> {
        let pair = |entry: Entry| {
            let epsilon = entry
                .epsilon
                .or(epsilon)
                .ok_or_else(|| Problem::NoEpsilon { norm: entry.norm.clone() })?;
            Ok(Pair {
                layer: entry.layer,
                norm: entry.norm,
                kind: match entry.kind {
                    Kind::Conv => LayerKind::Convolution,
                    Kind::ConvTransposed => LayerKind::TransposedConvolution,
                    Kind::Linear => LayerKind::Linear,
                },
                groups: entry.groups,
                side: match entry.side {
                    Place::Behind => Side::After,
                    Place::Ahead => Side::Before,
                },
                unpadded: entry.unpadded,
                epsilon,
            })
        };
        self.pairs.into_iter().map(pair).collect()
    }
}
