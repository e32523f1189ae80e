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

/// A folded model that is written but not yet in its place; it is removed unless
/// [`keep`](Self::keep) is called.
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
        let name = path.file_name().ok_or_else(|| failed(path, "it names no file"))?;
        let name = name.to_string_lossy().into_owned();
        if path.exists() && !path.is_file() {
            return Err(failed(path, "what is there is no regular file"));
        }
        let mut sides = source.side_files().map(|(side, _)| parent(source.path()).join(side));
        if sides.any(|side| same_file(path, &side)) {
            return Err(failed(path, "it is a side file of the model"));
        }
        let folder = parent(path).join(format!(".{name}.{}.partial", std::process::id()));
        fs::create_dir_all(&folder)
            .map_err(|source| Error::Write { path: folder.clone(), source })?;
        let mut draft = Self { path: path.to_owned(), folder, files: Vec::new() };
        draft.copy_side_files(source)?;
        let is_free = |side: &String| {
            source.side_files().all(|(old, _)| old != side) && !parent(path).join(side).exists()
        };
        let mut new_names = (0_u64..).map(|count| format!("{name}.folded{count}.data"));
        let has_side_files = source.side_files().next().is_some();
        let side_name = if has_side_files { new_names.find(is_free) } else { None };
        let before = folded.report.before.batch_norms;
        let note = format!(
            "{} of {before} batch normalization{} folded by cellnorm {}",
            before - folded.report.after.batch_norms,
            if before == 1 { "" } else { "s" },
            env!("CARGO_PKG_VERSION")
        );
        let Encoded { model, side } =
            encode(&folded.model, &folded.changes, &note, side_name.as_deref());
        if model.length() > LARGEST {
            return Err(Error::TooLarge { bytes: model.length() });
        }
        if let Some(name) = side_name.filter(|_| !side.is_empty()) {
            let write = |out: &mut dyn Write| side.iter().try_for_each(|all| all.write_to(out));
            draft.put(name.into(), write)?;
        }
        draft.put(name.into(), |out| model.write_to(out))?;
        Ok(draft)
    }

    /// Copies the side files: with a hard link, writing to one model would change the other. Files
    /// that are at the place already stay there, and the draft links to them until it is kept.
    fn copy_side_files(&mut self, source: &Source) -> Result<(), Error> {
        for (name, _) in source.side_files() {
            let (old, new) = (parent(source.path()).join(name), self.folder.join(name));
            let place = parent(&self.path).join(name);
            let stays = same_file(&place, &old);
            if !stays && place.symlink_metadata().is_ok() {
                let problem = "another file of this name is there, and the model needs its own; \
                               name another folder";
                return Err(failed(&place, problem));
            }
            let put = || {
                fs::create_dir_all(parent(&new))?;
                let is_linked = stays && fs::hard_link(fs::canonicalize(&old)?, &new).is_ok();
                if is_linked { Ok(()) } else { fs::copy(&old, &new).map(drop) }
            };
            put().map_err(|source| Error::Write { path: new.clone(), source })?;
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
    fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
}

fn failed(path: &Path, problem: &str) -> Error {
    let source = io::Error::new(io::ErrorKind::InvalidInput, problem);
    Error::Write { path: path.to_owned(), source }
}
