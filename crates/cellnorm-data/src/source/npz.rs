//! `.npz`: a zip archive of `.npy` files. An array is read where it lies, or from its beginning to
//! its end if it is compressed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::array::{Array, Bytes};
use super::{Source, header};
use crate::{error::text, settings::Settings};

/// Opens one array of an archive.
pub fn open(path: &Path, settings: &Settings) -> Result<Box<dyn Source>, String> {
    let unusable = |error: ZipError| format!("it is no usable .npz file: {error}");
    let mut archive = ZipArchive::new(File::open(path).map_err(text)?).map_err(unusable)?;
    let names = archive.file_names().map(|name| Ok(name?.trim_end_matches(".npy").to_owned()));
    let names = names.collect::<Result<Vec<String>, _>>().map_err(unusable)?;
    let name = chosen(&names, &settings.key)? + ".npy";
    let index =
        archive.index_for_name(&name).ok_or("it has an array whose name does not end in .npy")?;
    let mut entry = archive.by_index(index).map_err(unusable)?;
    let (compressed, size) = (entry.compression() != CompressionMethod::Stored, entry.size());
    let first = entry.data_start().ok_or("an array without a place in the file")?;
    let mut counter = Counter { from: &mut entry, bytes: 0 };
    let header = header::npy(&mut counter)?;
    let start = counter.bytes;
    let end = header.bytes().and_then(|bytes| bytes.checked_add(start));
    if end.is_none_or(|end| end > size) {
        return Err(format!(
            "its header announces the shape {:?}, which is more than its {size} bytes hold",
            header.shape
        ));
    }
    drop(entry);
    let bytes = match compressed {
        true => Bytes::Packed(path.to_owned(), index),
        false => Bytes::File(File::open(path).map_err(text)?, first + start),
    };
    Array::boxed(bytes, header)
}

/// The name that is asked for, or the only one.
pub fn chosen(names: &[String], key: &[String]) -> Result<String, String> {
    match (key, names) {
        ([key], _) if names.contains(key) => Ok(key.clone()),
        ([], [only]) => Ok(only.clone()),
        ([], []) => Err("it is empty".into()),
        ([], _) => Err(format!("it has several arrays; name one with --key: {}", names.join(", "))),
        ([key], _) => Err(format!("it has no array {key:?}; there are: {}", names.join(", "))),
        _ => Err("one --key is needed, as one array is read".into()),
    }
}

/// Counts the bytes that are read.
struct Counter<'r, R> {
    from: &'r mut R,
    bytes: u64,
}

impl<R: Read> Read for Counter<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
