//! Writing a folded model: into a folder beside its place first, moved into it when all is written
//! and checked.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::encode::{Encoded, encode};
use crate::error::Error;
use crate::fold::Folded;
use crate::source::Source;

/// The largest protocol buffer.
const LARGEST: u64 = i32::MAX as u64;

/// A folded model that is written but not yet in its place; it vanishes unless it is
/// [`kept`](Self::keep).
#[derive(Debug)]
pub struct Draft {
    /// The model's place.
    path: PathBuf,
    /// The folder that it lies in until then.
    folder: PathBuf,
    /// The names of the files in it that go to the place, the model's last.
    files: Vec<PathBuf>,
}

impl Draft {
    /// Writes a folded model beside `path`, with its new numbers in the model itself, or in a side
    /// file if the model keeps its numbers in such.
    ///
    /// # Errors
    /// If a file cannot be written, a side file of the model would take another file's place, or
    /// the model would be larger than a protocol buffer can be. Then nothing is left of it.
    pub fn write(source: &Source, folded: &Folded<'_>, path: &Path) -> Result<Self, Error> {
        let name = path
            .file_name()
            .ok_or_else(|| failed(path, "it names no file"))?
            .to_string_lossy()
            .into_owned();
        if path.exists() && !path.is_file() {
            return Err(failed(path, "what is there is no regular file"));
        }
        let sides = || source.beside().map(|(side, _)| parent(source.path()).join(side));
        if sides().any(|side| same_file(path, &side)) {
            return Err(failed(path, "it is a side file of the model"));
        }
        let folder = parent(path).join(format!(".{name}.{}.partial", std::process::id()));
        fs::create_dir_all(&folder)
            .map_err(|source| Error::Write { path: folder.clone(), source })?;
        let mut draft = Self { path: path.to_owned(), folder, files: Vec::new() };
        draft.copy_beside(source)?;
        let side_name = source.beside().next().is_some().then(|| {
            let free = |side: &String| {
                source.beside().all(|(old, _)| old != side) && !parent(path).join(side).exists()
            };
            (0_u64..)
                .map(|count| format!("{name}.folded{count}.data"))
                .find(free)
                .unwrap_or_default()
        });
        let note = format!(
            "{} of {} batch normalizations folded by cellnorm {}",
            folded.report.before.batch_norms - folded.report.after.batch_norms,
            folded.report.before.batch_norms,
            env!("CARGO_PKG_VERSION")
        );
        let Encoded { model, side } =
            encode(&folded.model, &folded.changes, &note, side_name.as_deref());
        if model.length() > LARGEST {
            return Err(Error::TooLarge { bytes: model.length() });
        }
        if let Some(name) = side_name.filter(|_| !side.is_empty()) {
            draft.put(name.into(), |out| {
                side.iter().try_for_each(|numbers| numbers.write_to(out))
            })?;
        }
        draft.put(name.into(), |out| model.write_to(out))?;
        Ok(draft)
    }

    /// Copies of the side files: a second name of the same file would let one model's write reach
    /// the other. Those that are at the place already stay there, and lend the draft their content.
    fn copy_beside(&mut self, source: &Source) -> Result<(), Error> {
        for (name, _) in source.beside() {
            let (old, new) = (parent(source.path()).join(name), self.folder.join(name));
            let place = parent(&self.path).join(name);
            let stays = same_file(&place, &old);
            if !stays && place.symlink_metadata().is_ok() {
                return Err(failed(
                    &place,
                    "another file of this name is there, and the model needs its own; name \
                     another folder",
                ));
            }
            let copied = fs::create_dir_all(parent(&new)).and_then(|()| match stays {
                true => fs::hard_link(fs::canonicalize(&old)?, &new)
                    .or_else(|_| fs::copy(&old, &new).map(|_| ())),
                false => fs::copy(&old, &new).map(|_| ()),
            });
            copied.map_err(|source| Error::Write { path: new, source })?;
            if !stays {
                self.files.push(name.into());
            }
        }
        Ok(())
    }

    fn put(
        &mut self,
        name: PathBuf,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        let path = self.folder.join(&name);
        let attempt = || -> io::Result<()> {
            let mut out = BufWriter::with_capacity(1 << 18, File::create(&path)?);
            write(&mut out)?;
            out.flush()
        };
        attempt().map_err(|source| Error::Write { path, source })?;
        self.files.push(name);
        Ok(())
    }

    /// Where the model lies until it is kept.
    pub fn path(&self) -> PathBuf {
        self.files.last().map_or_else(|| self.folder.clone(), |name| self.folder.join(name))
    }

    /// Puts the files in their place, the model last.
    ///
    /// # Errors
    /// If one cannot be renamed.
    pub fn keep(self) -> Result<(), Error> {
        for name in &self.files {
            let place = parent(&self.path).join(name);
            let moved = fs::create_dir_all(parent(&place))
                .and_then(|()| fs::rename(self.folder.join(name), &place));
            moved.map_err(|source| Error::Write { path: place, source })?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // what cannot be removed stays under a name that says what it is
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder that a file lies in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether two paths lead to one file.
fn same_file(a: &Path, b: &Path) -> bool {
    fs::canonicalize(a).ok().is_some_and(|a| fs::canonicalize(b).ok() == Some(a))
}

fn failed(path: &Path, problem: &str) -> Error {
    Error::Write {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, problem),
    }
}
