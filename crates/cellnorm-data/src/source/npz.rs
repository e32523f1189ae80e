//! `.npz`: a zip archive of `.npy` files. One that is not compressed is read where it lies, another
//! in one go.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use zip::{CompressionMethod, ZipArchive};

use super::array::{Array, Bytes};
use super::numbers::Block;
use super::{Source, dyadic, level, npy};
use crate::settings::Settings;

/// Opens one array of an archive.
pub fn open(path: &Path, settings: &Settings) -> Result<Box<dyn Source>, String> {
    let text = |error: io::Error| error.to_string();
    let unusable = |error: zip::result::ZipError| format!("it is no usable .npz file: {error}");
    let mut archive = ZipArchive::new(File::open(path).map_err(text)?).map_err(unusable)?;
    let names = archive.file_names().map(|name| Ok(name?.trim_end_matches(".npy").to_owned()));
    let names = names.collect::<Result<Vec<String>, _>>().map_err(unusable)?;
    let name = chosen(&names, &settings.key)? + ".npy";
    let index =
        archive.index_for_name(&name).ok_or("it has an array whose name does not end in .npy")?;
    let mut entry = archive.by_index(index).map_err(unusable)?;
    let (compressed, size) = (entry.compression() != CompressionMethod::Stored, entry.size());
    let first = entry.data_start().ok_or("an array without a place in the file")?;
    let mut counted = Counted { from: &mut entry, bytes: 0 };
    let about = npy::header(&mut counted)?;
    let header = counted.bytes;
    let values = about.shape.iter().try_fold(1_u64, |product, length| product.checked_mul(*length));
    let numbers = values.and_then(|values| values.checked_mul(about.stored.size() as u64));
    if numbers.and_then(|numbers| numbers.checked_add(header)).is_none_or(|needed| needed > size) {
        return Err(format!(
            "its header announces the shape {:?}, which is more than its {size} bytes hold",
            about.shape
        ));
    }
    drop(entry);
    if compressed {
        let mut lengths = about.shape.iter().skip(1);
        let sample = lengths.try_fold(1_usize, |product, length| {
            product.checked_mul(usize::try_from(*length).ok()?)
        });
        let sample = sample.ok_or_else(|| {
            format!("its header announces the shape {:?}, which is too large", about.shape)
        })?;
        let samples = *about.shape.first().ok_or("it holds one number, and no axis of samples")?;
        return Ok(Box::new(Packed { path: path.to_owned(), index, samples, sample }));
    }
    let file = File::open(path).map_err(text)?;
    Ok(Box::new(Array::new(
        Bytes::File(file, first + header),
        about.stored,
        about.big_endian,
        &about.shape,
    )?))
}

/// The one that is asked for, or the only one.
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
struct Counted<'r, R> {
    from: &'r mut R,
    bytes: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

/// A compressed array: it is unpacked from its beginning each time.
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
        let text = |error: io::Error| error.to_string();
        let mut archive = ZipArchive::new(File::open(&self.path).map_err(text)?)
            .map_err(|error| error.to_string())?;
        let mut entry = archive.by_index(self.index).map_err(|error| error.to_string())?;
        let about = npy::header(&mut entry)?;
        let shape: Vec<usize> = about.shape.iter().skip(1).map(|length| *length as usize).collect();
        let mut block =
            Block { shape, channel_axis: None, numbers: about.stored.none(), valid: None };
        let sample = (self.sample as u64)
            .checked_mul(about.stored.size() as u64)
            .ok_or("a sample is too large")?;
        for (start, level) in dyadic(part.clone(), level(self.sample)) {
            let needed = sample.checked_mul(1 << level).ok_or("a sample is too large")?;
            let mut bytes = Vec::new();
            entry
                .by_ref()
                .take(needed)
                .read_to_end(&mut bytes)
                .map_err(|error| format!("it is damaged: {error}"))?;
            if bytes.len() as u64 != needed {
                return Err(format!(
                    "its header announces the shape {:?}, and the numbers end before",
                    about.shape
                ));
            }
            let fill = |to: &mut [u8]| {
                to.copy_from_slice(&bytes);
                Ok(())
            };
            about.stored.read(about.big_endian, self.sample << level, &mut block.numbers, fill)?;
            give(start, &block)?;
        }
        Ok(())
    }

    fn samples(&self) -> Option<u64> {
        Some(self.samples)
    }
}
