//! The files of a data set, in an order that depends on their names alone.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::error::Error;

/// A kind of file that data sets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PNG, JPEG, WebP or TIFF.
    Image,
    /// IDX, as MNIST has it, also compressed with gzip.
    Idx,
    /// An array of NumPy.
    Npy,
    /// Several arrays of NumPy.
    Npz,
    /// Apache Parquet.
    Parquet,
    /// Numbers as text, separated by commas or tabs.
    Csv,
    /// Tensors of safetensors.
    Safetensors,
}

impl Kind {
    /// The kind that a name says.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let is_idx = plain.ends_with("-ubyte") || plain.contains("-idx") || plain.ends_with(".idx");
        Some(match name.rsplit_once('.').map_or("", |(_, end)| end) {
            "png" | "jpg" | "jpeg" | "webp" | "tif" | "tiff" => Self::Image,
            "npy" => Self::Npy,
            "npz" => Self::Npz,
            "parquet" => Self::Parquet,
            "csv" | "tsv" => Self::Csv,
            "safetensors" => Self::Safetensors,
            _ if is_idx => Self::Idx,
            _ => return None,
        })
    }
}

/// A file of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name within the data set: the same wherever the data set lies.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its size.
    pub bytes: u64,
}

/// A file, or a part of one, that is not among the statistics, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    /// Its name within the data set.
    pub name: String,
    /// Why not.
    pub problem: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files, in the order of their names within each folder or list.
    pub files: Vec<File>,
    /// What could not be looked at.
    pub failures: Vec<Failure>,
    /// How many files are of no known kind.
    pub others: usize,
}

/// The files of folders, of subfolders, and those named one by one.
///
/// # Errors
/// If a path does not exist or lies in another one, or a file that is named is of no known kind.
pub fn list(roots: &[PathBuf]) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    check_twice(roots)?;
    for root in roots {
        let about =
            fs::metadata(root).map_err(|source| Error::Read { path: root.clone(), source })?;
        if about.is_dir() {
            listing.walk(root);
            continue;
        }
        let kind = Kind::of(root).ok_or_else(|| {
            Error::file(
                root,
                "its name ends in none of png, jpg, jpeg, webp, tif, tiff, npy, npz, parquet, \
                 csv, tsv, safetensors, and is none of an IDX file such as train-images-idx3-ubyte",
            )
        })?;
        let name =
            root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        listing.files.push(File { path: root.clone(), name, kind, bytes: about.len() });
    }
    Ok(listing)
}

/// An error if a path lies in another one: its files would count twice.
fn check_twice(roots: &[PathBuf]) -> Result<(), Error> {
    if roots.len() < 2 {
        return Ok(());
    }
    let places = roots.iter().map(|root| {
        fs::canonicalize(root).map_err(|source| Error::Read { path: root.clone(), source })
    });
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::new();
    let twice = places.iter().zip(roots).find(|(place, _)| !seen.insert(*place));
    let within = || {
        places.iter().zip(roots).find(|(place, _)| {
            place.ancestors().skip(1).any(|above| seen.contains(&above.to_owned()))
        })
    };
    match twice.or_else(within) {
        Some((_, root)) => Err(Error::file(
            root,
            "its files would count twice: it is named, and so is it or a folder around it",
        )),
        None => Ok(()),
    }
}

impl Listing {
    fn walk(&mut self, root: &Path) {
        for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
            let name = |path: &Path| {
                path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let problem = match error.loop_ancestor() {
                        Some(ancestor) => {
                            format!("leads back to its own folder {}", ancestor.display())
                        }
                        None => error
                            .io_error()
                            .map(ToString::to_string)
                            .unwrap_or_else(|| error.to_string()),
                    };
                    self.failures.push(Failure {
                        name: error.path().map(name).unwrap_or_default(),
                        problem,
                    });
                    continue;
                }
            };
            if !entry.file_type().is_file() {
                continue;
            }
            let Some(kind) = Kind::of(entry.path()) else {
                self.others += 1;
                continue;
            };
            let bytes = entry.metadata().map_or(0, |about| about.len());
            let name = name(entry.path());
            self.files.push(File { path: entry.into_path(), name, kind, bytes });
        }
    }

    /// An error if a path leads to one of the files, in whose place something else would be
    /// written.
    ///
    /// # Errors
    /// If it does.
    pub fn spare(&self, path: &Path) -> Result<(), Error> {
        let Ok(place) = fs::canonicalize(path) else { return Ok(()) };
        // few files have this name, and only these are looked up
        let mut alike = self.files.iter().filter(|file| file.path.file_name() == place.file_name());
        match alike.find(|file| fs::canonicalize(&file.path).is_ok_and(|file| file == place)) {
            Some(_) => {
                Err(Error::file(path, "it is one of the files that are read; name another one"))
            }
            None => Ok(()),
        }
    }

    /// What the files are called and how large they are, in 64 hexadecimal digits: equal for equal
    /// data sets wherever they lie.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for file in &self.files {
            digest.update(file.name.as_bytes());
            digest.update([0]);
            digest.update(file.bytes.to_le_bytes());
        }
        hex(&digest.finalize())
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
