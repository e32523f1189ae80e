//! An array in a file, read where it lies: any range of its samples, on any thread.

use std::fs::File;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::Path;

use super::numbers::{Block, Stored};
use super::{Source, dyadic, level};
use crate::error::text;

/// The place of an array's bytes.
pub enum Bytes {
    /// A file, from this place on.
    File(File, u64),
    /// Memory, where a file had to be unpacked.
    Memory(Vec<u8>),
}

/// The header of an array.
pub struct Header {
    /// The type of its numbers.
    pub stored: Stored,
    /// Whether the large end of a number comes first.
    pub big_endian: bool,
    /// Its shape.
    pub shape: Vec<u64>,
}

impl Header {
    /// How many bytes the numbers are; `None` for more than can be.
    pub fn bytes(&self) -> Option<u64> {
        let values = self.shape.iter().try_fold(1_u64, |all, length| all.checked_mul(*length));
        values?.checked_mul(self.stored.size() as u64)
    }

    /// The shape of a sample and how many values it has; `None` for more than can be.
    pub fn sample(&self) -> Option<(Vec<usize>, usize)> {
        let lengths = self.shape.iter().skip(1).map(|length| usize::try_from(*length).ok());
        let shape: Vec<usize> = lengths.collect::<Option<_>>()?;
        let length = shape.iter().try_fold(1_usize, |all, length| all.checked_mul(*length))?;
        Some((shape, length))
    }
}

/// Reads a header, and no byte after it.
pub type ReadHeader = fn(&mut dyn Read) -> Result<Header, String>;

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

    /// Reads the bytes from a place of the numbers on.
    fn fill(&self, place: u64, to: &mut [u8]) -> Result<(), String> {
        match &self.bytes {
            Bytes::Memory(bytes) => to.copy_from_slice(&bytes[place as usize..][..to.len()]),
            Bytes::File(file, first) => read_at(file, to, first + place).map_err(text)?,
        }
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
            // a file that had to be unpacked is one part, so that it is not unpacked for each
            Bytes::Memory(_) => self.samples.max(1),
        };
        (0..self.samples.div_ceil(step))
            .map(|part| part * step..(part * step + step).min(self.samples))
            .collect()
    }

    fn read(
        &self,
        part: &Range<u64>,
        give: &mut dyn FnMut(u64, &Block) -> Result<(), String>,
    ) -> Result<(), String> {
        let sample = (self.length * self.stored.size()) as u64;
        let mut block = Block {
            shape: self.shape.clone(),
            channel_axis: None,
            numbers: self.stored.none(),
            valid: None,
        };
        for (start, level) in dyadic(part.clone(), level(self.length)) {
            let fill = |to: &mut [u8]| self.fill(start * sample, to);
            self.stored.read(self.big_endian, self.length << level, &mut block.numbers, fill)?;
            give(start, &block)?;
        }
        Ok(())
    }

    fn samples(&self) -> Option<u64> {
        Some(self.samples)
    }

    fn reads_any_range(&self) -> bool {
        true
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
