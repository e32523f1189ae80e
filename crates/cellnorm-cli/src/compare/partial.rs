//! The trainings of a comparison that are done, saved beside its results while it goes on. A
//! comparison that was interrupted goes on with the first training that is missing. Each training
//! is a function of the flags and the seed, so the results differ only in their times from those of
//! a comparison that was not interrupted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CompareError;
use super::results::{Config, Training};
use crate::input::InputError;
use crate::output::{self, OutputError};

const NAME: &str = "results.partial.json";

/// The file, and what it holds.
#[derive(Serialize, Deserialize)]
pub struct PartialResults {
    #[serde(skip)]
    path: PathBuf,
    command: String,
    version: String,
    ranks: usize,
    /// The trainings that are done.
    pub runs: Vec<Training>,
}

impl PartialResults {
    /// No trainings yet; or, to resume, those in the folder, where there are any.
    pub fn new(folder: &Path, config: &Config, resume: bool) -> Result<Self, CompareError> {
        let path = folder.join(NAME);
        let (command, version) = (config.command.clone(), config.version.to_owned());
        let new = Self { path, command, version, ranks: config.ranks, runs: vec![] };
        let text = match fs::read(&new.path) {
            Ok(text) if resume => text,
            Err(source) if resume && source.kind() != io::ErrorKind::NotFound => {
                return Err(InputError::read(new.path)(source).into());
            }
            _ => return Ok(new),
        };
        let refused = |problem: String| CompareError::Resume { path: new.path.clone(), problem };
        let found: Self = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("is damaged: {error}")))?;
        let [was, is] = [&found, &new].map(|Self { command, version, ranks, .. }| {
            format!("`{command}`, version {version}, ranks: {ranks}")
        });
        if was != is {
            return Err(refused(format!("is of {was}; this is {is}")));
        }
        Ok(Self { runs: found.runs, ..new })
    }

    pub fn add(&mut self, training: Training) -> Result<(), OutputError> {
        self.runs.push(training);
        let text = serde_json::to_string(self)?;
        output::replace(&self.path, &text)
            .map_err(|source| OutputError::Write { path: self.path.clone(), source })
    }

    /// Removes the file, once the results are saved.
    pub fn remove(self) {
        let _ = fs::remove_file(self.path);
    }
}
