//! Printing, and saving files all or not at all: written beside their place, then renamed into it.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;

#[derive(Debug, Error, Diagnostic)]
pub enum OutputError {
    #[error("cannot print")]
    Print(#[source] io::Error),
    #[error("cannot write the results as JSON")]
    Json(#[from] serde_json::Error),
    /// A result could not be saved after the work was done.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    #[diagnostic(help("name a file that you may write to with {flag}; its folder must exist"))]
    Drawing { flag: &'static str, path: PathBuf, source: io::Error },
    #[error("--html names {}, which is read or written besides", path.display())]
    #[diagnostic(help("name another file with --html"))]
    PageOverFile { path: PathBuf },
    #[error("cannot write to the output folder {}", folder.display())]
    #[diagnostic(help("name a folder you may write to with --out; nothing was trained yet"))]
    Folder { folder: PathBuf, source: io::Error },
}

impl OutputError {
    /// 2 where the output cannot be written to the place that the flags name, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Drawing { .. } | Self::PageOverFile { .. } | Self::Folder { .. } => 2,
            Self::Print(_) | Self::Json(_) | Self::Write { .. } => 1,
        }
    }
}

/// Writes to standard output. Names come from files of strangers: characters that would steer a
/// terminal are replaced.
pub fn write_stdout(text: &str) -> io::Result<()> {
    let steers = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
    match io::stdout().write_all(text.replace(steers, "\u{fffd}").as_bytes()) {
        // A reader such as `head` has seen enough.
        Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

pub fn print(text: &str) -> Result<(), OutputError> {
    write_stdout(text).map_err(OutputError::Print)
}

pub fn print_json(value: &impl Serialize) -> Result<(), OutputError> {
    print(&json(value)?)
}

/// A value as indented JSON that ends with a line break.
pub fn json(value: &impl Serialize) -> Result<String, OutputError> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

pub fn bar(template: &str, length: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// The columns to write in: those of the variable COLUMNS, those of the terminal, or 100.
pub fn width() -> usize {
    let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    asked
        .or_else(|| terminal_size::terminal_size().map(|(width, _)| width.0.into()))
        .unwrap_or(100)
        .max(40)
}

/// Writes a file beside its place, then renames it: what a link leads to stays.
pub fn replace(path: &Path, content: &str) -> io::Result<()> {
    let draft = Draft::new(folder(path), &path.file_name().unwrap_or_default().to_string_lossy());
    fs::write(&draft.path, content)?;
    fs::rename(&draft.path, path)
}

/// Saves a drawing or a page where `flag` asks for it.
pub fn draw(
    flag: &'static str,
    path: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), OutputError> {
    write(path).map_err(|source| OutputError::Drawing { flag, path: path.to_owned(), source })
}

/// Whether two paths lead to one file, or would.
pub fn same_place(a: &Path, b: &Path) -> bool {
    let full = |path: &Path| {
        let future = || Some(fs::canonicalize(folder(path)).ok()?.join(path.file_name()?));
        fs::canonicalize(path).ok().or_else(future)
    };
    a == b || full(a).is_some_and(|a| full(b) == Some(a))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file not yet in its place. It vanishes if it does not get there.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(folder: &Path, name: &str) -> Self {
        Self { path: folder.join(format!(".{name}.{}", std::process::id())) }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After the rename there is nothing left to remove, and that is no error.
        let _ = fs::remove_file(&self.path);
    }
}

/// A folder that was found to be writable.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder if it is missing, and tries that each of `names` can be written there.
    pub fn prepare(path: &Path, names: &[&str]) -> Result<Self, OutputError> {
        let attempt = || -> io::Result<()> {
            fs::create_dir_all(path)?;
            for name in names {
                if path.join(name).is_dir() {
                    let problem = format!("{name} in it is a folder");
                    return Err(io::Error::new(io::ErrorKind::IsADirectory, problem));
                }
                fs::write(&Draft::new(path, name).path, "")?;
            }
            Ok(())
        };
        attempt().map_err(|source| OutputError::Folder { folder: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned() })
    }

    /// Saves files of the given names and contents. None appears before all are written.
    pub fn save(&self, files: &[(&str, &str)]) -> Result<(), OutputError> {
        let failed = |name: &str, source| OutputError::Write { path: self.path.join(name), source };
        let mut drafts = Vec::new();
        for (name, content) in files {
            let draft = Draft::new(&self.path, name);
            let written = fs::write(&draft.path, content);
            drafts.push((draft, *name));
            written.map_err(|source| failed(name, source))?;
        }
        for (draft, name) in &drafts {
            fs::rename(&draft.path, self.path.join(name)).map_err(|source| failed(name, source))?;
        }
        Ok(())
    }
}
