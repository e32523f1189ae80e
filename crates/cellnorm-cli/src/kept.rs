//! The trainings of a comparison that are done, kept beside its results while it goes on: one that
//! was interrupted goes on with the first that is missing. Each is a function of the flags and the
//! seed, so nothing but times tells the results from those of one go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::output;
use crate::results::{Config, Run};

const NAME: &str = "results.partial.json";

/// Where they are kept, and what they are of.
pub struct Kept {
    path: PathBuf,
    content: Content,
}

#[derive(Serialize, Deserialize)]
struct Content {
    command: String,
    version: String,
    ranks: usize,
    runs: Vec<Run>,
}

impl Kept {
    /// None of them yet; or, to resume, those in the folder, where there are any.
    pub fn new(folder: &Path, config: &Config, resume: bool) -> Result<Self, Error> {
        let path = folder.join(NAME);
        let (command, version) = (config.command.clone(), config.version.to_owned());
        let mut content = Content { command, version, ranks: config.ranks, runs: vec![] };
        let text = match fs::read(&path) {
            Ok(text) if resume => text,
            Err(source) if resume && source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Read { path, source });
            }
            _ => return Ok(Self { path, content }),
        };
        let refused = |problem: String| Error::Resume { path: path.clone(), problem };
        let there: Content = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("is damaged: {error}")))?;
        let of =
            |of: &Content| format!("`{}`, version {}, ranks: {}", of.command, of.version, of.ranks);
        if of(&there) != of(&content) {
            return Err(refused(format!("is of {}; this is {}", of(&there), of(&content))));
        }
        content.runs = there.runs;
        Ok(Self { path, content })
    }

    /// Those that are done.
    pub fn runs(&self) -> &[Run] {
        &self.content.runs
    }

    /// Keeps one more.
    pub fn add(&mut self, run: Run) -> Result<(), Error> {
        self.content.runs.push(run);
        let text = serde_json::to_string(&self.content)?;
        output::replace(&self.path, &text)
            .map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    /// Takes all of them.
    pub fn take(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.content.runs)
    }

    /// The results are saved: what was kept has served its end.
    pub fn remove(self) {
        let _ = fs::remove_file(self.path);
    }
}
