//! A model's file and its side files, mapped into memory, so that no byte is held twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Malformed};
use crate::proto::{Externals, Model};

/// A model's file and its side files.
pub struct Source {
    path: PathBuf,
    file: Bytes,
    side_files: BTreeMap<String, Bytes>,
}

/// A file in memory; `None` for an empty file, which cannot be mapped.
type Bytes = Option<Mmap>;

fn map(path: &Path) -> Result<Bytes, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read)?;
    let about = file.metadata().map_err(read)?;
    if !about.is_file() {
        return Err(read(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    if about.len() == 0 {
        return Ok(None);
    }
    // SAFETY: as with every mapped file, nobody may truncate or change it while it is read. This
    // program writes elsewhere and renames, which leaves the mapped file as it is.
    unsafe { Mmap::map(&file) }.map(Some).map_err(read)
}

impl Source {
    /// Opens a model and the side files that it names.
    ///
    /// # Errors
    /// If a file cannot be read, the model is damaged, or it names a side file outside its own
    /// folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let file = map(&path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut side_files = BTreeMap::new();
        for location in
            Model::parse(file.as_deref().unwrap_or_default(), &Externals::new())?.locations()
        {
            let is_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
            if location.is_empty() || !Path::new(location).components().all(is_inside) {
                let problem = format!(
                    "it names the side file {location:?}, which is not in the model's folder"
                );
                return Err(Malformed(problem).into());
            }
            side_files.insert(location.to_owned(), map(&folder.join(location))?);
        }
        Ok(Self { path, file, side_files })
    }

    /// The model's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's own bytes.
    pub fn bytes(&self) -> &[u8] {
        self.file.as_deref().unwrap_or_default()
    }

    /// The side files by the names that the model gives them.
    pub fn side_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.side_files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_deref().unwrap_or_default()))
    }

    /// The model.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn model(&self) -> Result<Model<'_>, Error> {
        Ok(Model::parse(self.bytes(), &self.side_files().collect())?)
    }
}
