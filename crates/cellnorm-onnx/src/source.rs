//! A model's file and the files beside it, mapped into memory: read where they lie, never held
//! twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Malformed};
use crate::proto::model::Model;
use crate::proto::tensor::Externals;

/// A model's file and its side files.
pub struct Source {
    path: PathBuf,
    file: Bytes,
    beside: BTreeMap<String, Bytes>,
}

/// A file in memory.
enum Bytes {
    Mapped(Mmap),
    /// An empty file cannot be mapped.
    Empty,
}

impl Bytes {
    fn open(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let about = file.metadata().map_err(read)?;
        if !about.is_file() {
            return Err(read(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
        }
        if about.len() == 0 {
            return Ok(Self::Empty);
        }
        // SAFETY: as with every mapped file, nobody may truncate or change it while it is read. The
        // program that reads it writes elsewhere and renames, which leaves the mapped file as it
        // is.
        unsafe { Mmap::map(&file) }.map(Self::Mapped).map_err(read)
    }

    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Empty => &[],
        }
    }
}

impl Source {
    /// Opens a model and the side files that it names.
    ///
    /// # Errors
    /// If a file cannot be read, the model is damaged, or it names a side file outside its own
    /// folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let file = Bytes::open(&path)?;
        let locations: Vec<String> = Model::parse(file.get(), &Externals::new())?
            .locations()
            .into_iter()
            .map(str::to_owned)
            .collect();
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut beside = BTreeMap::new();
        for location in locations {
            let inside = Path::new(&location)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
            if !inside || location.is_empty() {
                let problem = format!(
                    "it names the side file {location:?}, which is not in the model's folder"
                );
                return Err(Malformed(problem).into());
            }
            let bytes = Bytes::open(&folder.join(&location))?;
            beside.insert(location, bytes);
        }
        Ok(Self { path, file, beside })
    }

    /// The model's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's own bytes.
    pub fn bytes(&self) -> &[u8] {
        self.file.get()
    }

    /// The side files by the names that the model gives them.
    pub fn beside(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.beside.iter().map(|(name, bytes)| (name.as_str(), bytes.get()))
    }

    /// The model.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn model(&self) -> Result<Model<'_>, Error> {
        Ok(Model::parse(self.file.get(), &self.beside().collect())?)
    }
}
