//! Saving the results all or not at all: written beside their place, then renamed into it.
//! Printing.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Prints to standard output. Names come from files of strangers: what would steer a terminal is
/// shown as a sign.
pub fn print(text: &str) -> io::Result<()> {
    let steers = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    match io::stdout().write_all(text.replace(steers, "\u{fffd}").as_bytes()) {
        // A reader such as `head` has seen enough.
        Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// The columns to write in: those asked for, those of the terminal, or 100.
pub fn width() -> usize {
    let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked
        .or_else(|| terminal_size::terminal_size().map(|(width, _)| width.0.into()))
        .unwrap_or(100)
        .max(40)
}

/// Writes a file beside its place, then renames it: what a link leads to stays.
pub fn replace(path: &Path, content: &str) -> io::Result<()> {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = Draft::beside(folder, &path.file_name().unwrap_or_default().to_string_lossy());
    fs::write(&draft.path, content)?;
    fs::rename(&draft.path, path)
}

/// Whether two paths lead to one file, or would.
pub fn same_place(a: &Path, b: &Path) -> bool {
    a == b || fs::canonicalize(a).ok().is_some_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

/// A folder that was found to be writable.
pub struct Folder {
    path: PathBuf,
}

/// A file not yet in its place. It vanishes if it does not get there.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn beside(folder: &Path, name: &str) -> Self {
        Self { path: folder.join(format!(".{name}.{}", std::process::id())) }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After the rename there is nothing left to remove, and that is no error.
        let _ = fs::remove_file(&self.path);
    }
}

impl Folder {
    /// Makes the folder if it is missing, and tries that each of `names` can be written there.
    pub fn prepare(path: &Path, names: &[&str]) -> Result<Self, Error> {
        let attempt = || -> io::Result<()> {
            fs::create_dir_all(path)?;
            for name in names {
                if path.join(name).is_dir() {
                    return Err(io::Error::new(
                        io::ErrorKind::IsADirectory,
                        format!("{name} in it is a folder"),
                    ));
                }
                fs::write(&Draft::beside(path, name).path, "")?;
            }
            Ok(())
        };
        attempt().map_err(|source| Error::Folder { folder: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned() })
    }

    /// Saves files of the given names and contents. None appears before all are written.
    pub fn save(&self, files: &[(&str, &str)]) -> Result<(), Error> {
        let mut drafts = Vec::new();
        for (name, content) in files {
            let draft = Draft::beside(&self.path, name);
            let written = fs::write(&draft.path, content);
            drafts.push((draft, *name));
            written.map_err(|source| self.failed(name, source))?;
        }
        for (draft, name) in &drafts {
            fs::rename(&draft.path, self.path.join(name))
                .map_err(|source| self.failed(name, source))?;
        }
        Ok(())
    }

    fn failed(&self, name: &str, source: io::Error) -> Error {
        Error::Write { path: self.path.join(name), source }
    }
}
