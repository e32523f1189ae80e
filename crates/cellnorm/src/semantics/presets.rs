//! Presets by name.

use super::Semantics;
use super::table::TABLE;
use crate::{error::Error, normalization::Normalization};

impl Semantics {
    /// The semantics of this layer in the preset `name`.
    ///
    /// Names are those of [`presets`](Self::presets), and "onnx-" before any opset number: the
    /// operator in force at that opset answers, with its own number in the `name`.
    ///
    /// # Errors
    /// If there is no such name, or no such layer in it; the message lists those that exist.
    ///
    /// ```
    /// use cellnorm::{Normalization, Semantics, semantics::GroupParameters};
    /// let group = Semantics::preset("onnx-20", Normalization::Group)?;
    /// assert_eq!((group.name, group.group_parameters), ("onnx-18 group", GroupParameters::PerGroup));
    /// let missing = Semantics::preset("tfa-0.23", Normalization::Batch).unwrap_err().to_string();
    /// assert!(missing.starts_with("tfa-0.23 has no batch normalization; it has: instance, group; others have it: pytorch-2,"));
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn preset(name: &str, normalization: Normalization) -> Result<Semantics, Error> {
        let layers = layers(name).ok_or_else(|| {
            let mut known = Self::presets();
            known.sort_by_key(|known| distance(known, name));
            Error::UnknownPreset { name: name.into(), known }
        })?;
        layers.iter().find(|layer| layer.normalization == normalization).copied().ok_or_else(|| {
            let have = layers.iter().map(|layer| layer.normalization).collect();
            let has = |preset: &&str| {
                self::layers(preset).into_iter().flatten().any(|l| l.normalization == normalization)
            };
            let others = Self::presets().into_iter().filter(has).collect();
            Error::MissingLayer { preset: name.into(), normalization, have, others }
        })
    }

    /// The framework and its version: the name without the layer.
    pub fn framework(&self) -> &'static str {
        self.name.rsplit_once(' ').map_or(self.name, |(framework, _)| framework)
    }

    /// The names of the presets; for ONNX, the opsets at which a normalization changed.
    pub fn presets() -> Vec<&'static str> {
        let mut names: Vec<_> = TABLE.iter().map(Semantics::framework).collect();
        names.dedup();
        names
    }
}

/// The layers that a framework has; None without such a framework.
fn layers(name: &str) -> Option<Vec<Semantics>> {
    let opset = |name: &str| name.strip_prefix("onnx-")?.parse::<u32>().ok();
    let layers: Vec<Semantics> = match opset(name) {
        None => TABLE.iter().filter(|row| row.framework() == name).copied().collect(),
        Some(asked) => {
            let before = |row: &&Semantics| opset(row.framework()).is_some_and(|own| own <= asked);
            let in_force = |layer| {
                TABLE.iter().filter(before).rfind(|row| row.normalization == layer).copied()
            };
            Normalization::ALL.into_iter().filter_map(in_force).collect()
        }
    };
    (!layers.is_empty()).then_some(layers)
}

/// The number of letters to insert, delete or change.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
