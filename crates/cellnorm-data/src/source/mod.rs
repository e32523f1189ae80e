//! Files as samples: a source for each format says where the samples lie and reads them part by
//! part.

mod array;
mod csv;
mod header;
mod image;
mod npz;
mod numbers;
mod parquet;
mod resize;
mod safetensors;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use array::Array;
pub use image::decode;
use numbers::Stored;
pub use numbers::{Block, Numbers};
pub(crate) use numbers::{each_type, floats};

use crate::error::Error;
use crate::files::{File, Format};
use crate::settings::Settings;

/// A function that gets the place of the first sample of a block, and the block.
pub type Give<'g> = dyn FnMut(u64, &Block) -> Result<(), String> + 'g;

/// A file that is read in parts, each by one thread, in blocks.
pub trait Source: Send + Sync {
    /// The places of each part, counted from 0 within the file: at least as many as its samples.
    fn parts(&self) -> Vec<Range<u64>>;

    /// Reads a part; `give` gets the place of its first sample and the samples of each block. A
    /// block covers 2ˡ places from a multiple of 2ˡ on.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged, or if `give` refuses a block.
    fn read(&self, part: &Range<u64>, give: &mut Give<'_>) -> Result<(), String>;

    /// How many samples the file has, if it says so.
    fn samples(&self) -> Option<u64>;

    /// Whether [`read`](Self::read) takes any range of places, and not only whole parts.
    fn reads_any_range(&self) -> bool {
        false
    }
}

/// Opens a file.
///
/// # Errors
/// If it cannot be read, or is not what its name says.
pub fn open(file: &File, settings: &Settings) -> Result<Box<dyn Source>, Error> {
    let path = &file.path;
    let is_packed = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gz"));
    let opened: Result<Box<dyn Source>, String> = match file.format {
        Format::Image => Ok(Box::new(image::Image::new(file, settings))),
        Format::Idx if is_packed => {
            array::whole(path).and_then(|bytes| from_bytes(Format::Idx, bytes))
        }
        Format::Idx => Array::open(path, header::idx),
        Format::Npy => Array::open(path, header::npy),
        Format::Npz => npz::open(path, settings),
        Format::Safetensors => safetensors::open(path, settings),
        Format::Csv => csv::open(path, settings),
        Format::Parquet => parquet::open(path, settings),
    };
    opened.map_err(|problem| Error::file(path, problem))
}

/// Reads the first part of a file until `see` has enough. An error or a decoder that panics ends
/// the reading: it is reported when it is the file's turn.
pub(crate) fn peek(file: &File, settings: &Settings, mut see: impl FnMut(&Block) -> bool) {
    let Ok(source) = open(file, settings) else { return };
    let Some(part) = source.parts().into_iter().next() else { return };
    let mut give = |_, block: &Block| if see(block) { Ok(()) } else { Err("enough".into()) };
    let _ = catch_unwind(AssertUnwindSafe(|| source.read(&part, &mut give)));
}

/// The array in the bytes of an IDX or a `.npy` file, which may be part of a program.
///
/// # Errors
/// If they are damaged, or of another format.
pub fn from_bytes(format: Format, bytes: Vec<u8>) -> Result<Box<dyn Source>, String> {
    match format {
        Format::Idx => Array::from_bytes(bytes, header::idx),
        Format::Npy => Array::from_bytes(bytes, header::npy),
        _ => Err("it is neither IDX nor .npy".into()),
    }
}

/// About how many values are read at once.
const AT_ONCE: u64 = 1 << 16;

/// The level of a block of samples of some length.
pub fn level(length: usize) -> u32 {
    (AT_ONCE / (length as u64).max(1)).max(1).ilog2()
}

/// The blocks that a range is made of: each 2ˡ places from a multiple of 2ˡ on, of at most
/// 2^`level`.
pub fn dyadic(range: Range<u64>, level: u32) -> impl Iterator<Item = (u64, u32)> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let left = range.end.checked_sub(start).filter(|left| *left > 0)?;
        let level = level.min(start.trailing_zeros()).min(left.ilog2());
        let block = (start, level);
        start += 1 << level;
        Some(block)
    })
}

/// Gives the samples at some places in blocks.
fn give_samples(places: Range<u64>, samples: &Block, give: &mut Give<'_>) -> Result<(), String> {
    let length = samples.shape.iter().product::<usize>();
    for (place, level) in dyadic(places.clone(), level(length)) {
        let from = (place - places.start) as usize * length;
        let numbers = samples.numbers.slice(from..from + (length << level));
        let block = Block::new(samples.shape.clone(), numbers);
        give(place, &Block { channel_axis: samples.channel_axis, ..block })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_start_at_multiples_of_their_length_and_leave_nothing_out() {
        for (start, end, most) in
            [(0, 60_000, 6), (5, 21, 10), (7, 7, 3), (1 << 40, (1 << 40) + 3, 0)]
        {
            let mut next = start;
            for (place, level) in dyadic(start..end, most) {
                assert!(place == next && place % (1 << level) == 0 && level <= most);
                next += 1 << level;
            }
            assert_eq!(next, end);
        }
    }
}
