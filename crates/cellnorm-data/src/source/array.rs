//! An array in a file, read where it lies: any range of its samples, on any thread.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::header::{self, Header, ReadHeader};
use super::numbers::Fill;
use super::{Block, Give, Numbers, Source, Stored, dyadic, level};
use crate::error::text;

/// The place of an array's bytes.
pub enum Bytes {
    /// A file, from this place on.
    File(File, u64),
    /// Memory, where a file had to be unpacked.
    Memory(Vec<u8>),
    /// A compressed `.npy` file, by its number in an archive. Each reading unpacks it from its
    /// beginning.
    Packed(PathBuf, usize),
}

/// An array whose first axis is that of the samples.
pub struct Array {
    bytes: Bytes,
    stored: Stored,
    big_endian: bool,
    samples: u64,
    shape: Vec<usize>,
    length: usize,
}

impl Array {
    /// The array of a header, if as many bytes are there.
    pub fn boxed(bytes: Bytes, header: Header) -> Result<Box<dyn Source>, String> {
        let shape = &header.shape;
        let too_large =
            || format!("its header announces the shape {shape:?}, which is more than there can be");
        let announced = header.bytes().ok_or_else(too_large)?;
        let found = match &bytes {
            Bytes::Memory(bytes) => bytes.len() as u64,
            Bytes::File(file, start) => file.metadata().map_err(text)?.len().saturating_sub(*start),
            // the archive says how many bytes it unpacks to, and reading stops where they end
            Bytes::Packed(..) => announced,
        };
        if found < announced {
            return Err(format!(
                "its header announces {announced} bytes of numbers (shape {shape:?}), and {found} \
                 follow"
            ));
        }
        let samples = *shape.first().ok_or("it holds one number, and no axis of samples")?;
        let (shape, length) = header.sample().ok_or_else(too_large)?;
        let Header { stored, big_endian, .. } = header;
        Ok(Box::new(Self { bytes, stored, big_endian, samples, shape, length }))
    }

    /// The array of a file, read where it lies.
    pub fn open(path: &Path, header: ReadHeader) -> Result<Box<dyn Source>, String> {
        let mut file = File::open(path).map_err(text)?;
        let header = header(&mut file)?;
        let start = file.stream_position().map_err(text)?;
        Self::boxed(Bytes::File(file, start), header)
    }

    /// The array in the bytes of a file.
    pub fn from_bytes(mut bytes: Vec<u8>, header: ReadHeader) -> Result<Box<dyn Source>, String> {
        let mut rest = bytes.as_slice();
        let header = header(&mut rest)?;
        let start = bytes.len() - rest.len();
        bytes.drain(..start);
        Self::boxed(Bytes::Memory(bytes), header)
    }

    /// Gives the blocks of a part; `read` reads so many numbers from a place of the bytes on.
    fn give_blocks(
        &self,
        part: &Range<u64>,
        give: &mut Give<'_>,
        mut read: impl FnMut(u64, usize, &mut Numbers) -> Result<(), String>,
    ) -> Result<(), String> {
        let sample = (self.length * self.stored.size()) as u64;
        let mut block = Block::new(self.shape.clone(), self.stored.none());
        for (start, level) in dyadic(part.clone(), level(self.length)) {
            read(start * sample, self.length << level, &mut block.numbers)?;
            give(start, &block)?;
        }
        Ok(())
    }
}

/// Fills bytes with the first of others.
fn copy(from: &[u8]) -> impl Fn(&mut [u8]) -> Result<(), String> {
    |to| {
        to.copy_from_slice(&from[..to.len()]);
        Ok(())
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], place: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

#[cfg(not(unix))]
fn read_at(file: &File, bytes: &mut [u8], place: u64) -> std::io::Result<()> {
    use std::io::SeekFrom;
    // a handle of its own, as other threads read, too
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(place))?;
    file.read_exact(bytes)
}

impl Source for Array {
    fn parts(&self) -> Vec<Range<u64>> {
        if self.length == 0 {
            return Vec::new();
        }
        let step = match self.bytes {
            // a part is some blocks, which use the same memory
            Bytes::File(..) => 1_u64 << (level(self.length) + 4),
            // a file that is unpacked is one part, so that it is not unpacked for each
            Bytes::Memory(_) | Bytes::Packed(..) => self.samples.max(1),
        };
        (0..self.samples.div_ceil(step))
            .map(|part| part * step..(part * step + step).min(self.samples))
            .collect()
    }

    fn read(&self, part: &Range<u64>, give: &mut Give<'_>) -> Result<(), String> {
        let read = |count, numbers: &mut Numbers, fill: &Fill<'_>| {
            self.stored.read(self.big_endian, count, numbers, fill)
        };
        match &self.bytes {
            Bytes::File(file, first) => self.give_blocks(part, give, |place, count, numbers| {
                read(count, numbers, &|to| read_at(file, to, first + place).map_err(text))
            }),
            Bytes::Memory(bytes) => self.give_blocks(part, give, |place, count, numbers| {
                read(count, numbers, &copy(&bytes[place as usize..]))
            }),
            Bytes::Packed(path, index) => {
                let mut archive = ZipArchive::new(File::open(path).map_err(text)?).map_err(text)?;
                let mut entry = archive.by_index(*index).map_err(text)?;
                let shape = header::npy(&mut entry)?.shape;
                self.give_blocks(part, give, |_, count, numbers| {
                    // memory is taken as the bytes come, however many the header announces
                    let (needed, mut bytes) = (count * self.stored.size(), Vec::new());
                    let read_all = entry.by_ref().take(needed as u64).read_to_end(&mut bytes);
                    if read_all.map_err(|error| format!("it is damaged: {error}"))? != needed {
                        return Err(format!(
                            "its header announces the shape {shape:?}, and the numbers end before"
                        ));
                    }
                    read(count, numbers, &copy(&bytes))
                })
            }
        }
    }

    fn samples(&self) -> Option<u64> {
        Some(self.samples)
    }

    fn reads_any_range(&self) -> bool {
        !matches!(self.bytes, Bytes::Packed(..))
    }
}

/// The most that a compressed file may unpack to in memory.
const MOST_UNPACKED: u64 = 1 << 32;

/// All bytes of a file, unpacked if it is compressed with gzip.
pub fn whole(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(text)?;
    let mut bytes = Vec::new();
    let mut unpacked = flate2::read::MultiGzDecoder::new(file).take(MOST_UNPACKED + 1);
    unpacked.read_to_end(&mut bytes).map_err(|error| format!("it cannot be unpacked: {error}"))?;
    if bytes.len() as u64 > MOST_UNPACKED {
        return Err(format!("it unpacks to more than {MOST_UNPACKED} bytes; unpack it first"));
    }
    Ok(bytes)
}
