//! The normalizations of a checkpoint, as names and shapes tell them.

use std::path::Path;

use cellnorm::inspect::{Health, Numbers};
use cellnorm::state::{Checkpoint, Found};

use super::Row;
use crate::error::Error;

/// A row for each.
pub fn rows(path: &Path, epsilon: Option<f64>) -> Result<Vec<Row>, Error> {
    let checkpoint = Checkpoint::read(path)?;
    checkpoint.normalizations().into_iter().map(|found| row(&checkpoint, found, epsilon)).collect()
}

fn row(checkpoint: &Checkpoint, found: Found, given: Option<f64>) -> Result<Row, Error> {
    let numbers = |name: &Option<String>| -> Result<Option<Vec<f64>>, Error> {
        let tensor = name.as_ref().map(|name| checkpoint.tensor(name)).transpose()?;
        Ok(tensor.map(|tensor| tensor.values.iter().copied().collect()))
    };
    let names = &found.names;
    let default = found.semantics().map_or(1e-5, |semantics| semantics.epsilon);
    let epsilon = given.unwrap_or(default);
    let numbers = Numbers {
        gamma: numbers(&names.gamma)?,
        beta: numbers(&names.beta)?,
        mean: numbers(&names.mean)?,
        variance: numbers(&names.variance)?,
        epsilon,
    };
    let (kind, meaning) = match (found.has_statistics(), names.beta.is_some()) {
        (true, _) => ("batch", "fixed statistics of each channel"),
        (false, true) => {
            ("layer, group or instance", "statistics of each input; names do not tell over what")
        }
        (false, false) => {
            ("rms, or without β", "statistics of each input; names do not tell over what")
        }
    };
    let assumed = if given.is_none() { ", ε assumed" } else { "" };
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
