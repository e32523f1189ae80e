//! The files of a data set, in an order that depends on their names alone.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::error::{Error, text};

/// A format of files that data sets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
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

impl Format {
    /// The format that a file's name says.
    pub fn from_name(path: &Path) -> Option<Self> {
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
    /// Its path.
    pub path: PathBuf,
    /// Its name within the data set: the same wherever the data set lies.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// Its size.
    pub bytes: u64,
}

/// A file, or a part of one, that is not among the statistics, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Failure {
    /// Its name within the data set.
    pub name: String,
    /// The reason.
    pub problem: String,
}

/// The files that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files, in the order of their names within each folder or list.
    pub files: Vec<File>,
    /// The files and folders that could not be read.
    pub failures: Vec<Failure>,
    /// How many files are of no known format.
    pub others: usize,
}

/// The files of folders and their subfolders, and files named one by one.
///
/// # Errors
/// If a path does not exist or lies in another one, or a file that is named is of no known format.
pub fn list(roots: &[PathBuf]) -> Result<Listing, Error> {
    let mut listing = Listing::default();
    check_twice(roots)?;
    for root in roots {
        let metadata =
            fs::metadata(root).map_err(|source| Error::Read { path: root.clone(), source })?;
        if metadata.is_dir() {
            listing.walk(root);
            continue;
        }
        let unknown = "its name ends in none of png, jpg, jpeg, webp, tif, tiff, npy, npz, \
                       parquet, csv, tsv, safetensors, and is none of an IDX file such as \
                       train-images-idx3-ubyte";
        let format = Format::from_name(root).ok_or_else(|| Error::file(root, unknown))?;
        let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
        listing.files.push(File { path: root.clone(), name, format, bytes: metadata.len() });
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
    let twice = places.iter().zip(roots).find(|(place, _)| !seen.insert(place.as_path()));
    let is_inside = |place: &PathBuf| place.ancestors().skip(1).any(|folder| seen.contains(folder));
    let inside = || places.iter().zip(roots).find(|(place, _)| is_inside(place));
    let problem = "its files would count twice: it is named, and so is it or a folder around it";
    let twice = twice.or_else(inside);
    twice.map_or(Ok(()), |(_, root)| Err(Error::file(root, problem)))
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
                        Some(folder) => {
                            format!("leads back to its own folder {}", folder.display())
                        }
                        None => error.io_error().map_or_else(|| error.to_string(), text),
                    };
                    let name = error.path().map(name).unwrap_or_default();
                    self.failures.push(Failure { name, problem });
                    continue;
                }
            };
            if !entry.file_type().is_file() {
                continue;
            }
            let Some(format) = Format::from_name(entry.path()) else {
                self.others += 1;
                continue;
            };
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            let name = name(entry.path());
            self.files.push(File { path: entry.into_path(), name, format, bytes });
        }
    }

    /// Checks that writing to a path would overwrite none of the files.
    ///
    /// # Errors
    /// If it would.
    pub fn check_output(&self, path: &Path) -> Result<(), Error> {
        let Ok(place) = fs::canonicalize(path) else { return Ok(()) };
        // only the few files of this name are looked up
        let mut alike = self.files.iter().filter(|file| file.path.file_name() == place.file_name());
        if alike.any(|file| fs::canonicalize(&file.path).is_ok_and(|file| file == place)) {
            return Err(Error::file(
                path,
                "it is one of the files that are read; name another one",
            ));
        }
        Ok(())
    }

    /// A digest of the names and sizes of the files in 64 hexadecimal digits: equal for equal data
    /// sets wherever they lie.
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
