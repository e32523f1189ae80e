//! `.npz`: a zip archive of `.npy` files. An array is read where it lies, or from its beginning to
//! its end if it is compressed.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::array::{Array, Bytes, Header};
use super::numbers::Block;
use super::{Source, dyadic, level, npy};
use crate::error::text;
use crate::settings::Settings;

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
    let header = npy::header(&mut counter)?;
    let start = counter.bytes;
    let announced = |problem: String| {
        format!("its header announces the shape {:?}, which is {problem}", header.shape)
    };
    let end = header.bytes().and_then(|bytes| bytes.checked_add(start));
    if end.is_none_or(|end| end > size) {
        return Err(announced(format!("more than its {size} bytes hold")));
    }
    drop(entry);
    if compressed {
        let (_, sample) = header.sample().ok_or_else(|| announced("too large".into()))?;
        let samples = *header.shape.first().ok_or("it holds one number, and no axis of samples")?;
        return Ok(Box::new(Packed { path: path.to_owned(), index, samples, sample }));
    }
    let file = File::open(path).map_err(text)?;
    Array::boxed(Bytes::File(file, first + start), header)
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

/// A compressed array. Each reading unpacks it from its beginning.
struct Packed {
    path: PathBuf,
    index: usize,
    samples: u64,
    sample: usize,
}

impl Source for Packed {
    fn parts(&self) -> Vec<Range<u64>> {
        (self.samples > 0 && self.sample > 0).then_some(0..self.samples).into_iter().collect()
    }

    fn read(
        &self,
        part: &Range<u64>,
        give: &mut dyn FnMut(u64, &Block) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut archive = ZipArchive::new(File::open(&self.path).map_err(text)?).map_err(text)?;
        let mut entry = archive.by_index(self.index).map_err(text)?;
        let Header { stored, big_endian, shape } = npy::header(&mut entry)?;
        let lengths = shape.iter().skip(1).map(|length| *length as usize);
        let mut block = Block {
            shape: lengths.collect(),
            channel_axis: None,
            numbers: stored.none(),
            valid: None,
        };
        let sample = (self.sample as u64).checked_mul(stored.size() as u64);
        let sample = sample.ok_or("a sample is too large")?;
        for (start, level) in dyadic(part.clone(), level(self.sample)) {
            let needed = sample.checked_mul(1 << level).ok_or("a sample is too large")?;
            let mut bytes = Vec::new();
            let read = entry.by_ref().take(needed).read_to_end(&mut bytes);
            read.map_err(|error| format!("it is damaged: {error}"))?;
            if bytes.len() as u64 != needed {
                return Err(format!(
                    "its header announces the shape {shape:?}, and the numbers end before"
                ));
            }
            let fill = |to: &mut [u8]| {
                to.copy_from_slice(&bytes);
                Ok(())
            };
            stored.read(big_endian, self.sample << level, &mut block.numbers, fill)?;
            give(start, &block)?;
        }
        Ok(())
    }

    fn samples(&self) -> Option<u64> {
        Some(self.samples)
    }
}
