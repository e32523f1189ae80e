//! Lines side by side, so that one instruction serves several of them.
//!
//! The lines of a tensor are its cells, as [`Cells`] lie in memory: a line is a run where `inner`
//! is 1, and interleaved with `inner` others where it is not. A [`Strip`] is [`SIDE`] lines next to
//! each other, and index i of all of them is a [`Row`], a run of memory. Lines that lie otherwise,
//! or are fewer, are copied to a strip and back.

use std::sync::{Mutex, PoisonError};

use super::lines::{narrow, wide};
use crate::kernels::{self, LINE, fetch};
use crate::{kernels::Element, machine::Machine, shape::Cells};

/// The number of lines of a strip: four registers of AVX-512, so that none waits long for the one
/// before, and a strip of a hundred rows is still in the nearest cache.
pub(super) const SIDE: usize = 32;

/// Lines that are runs of memory are taken together up to about so many elements.
const BLOCK: usize = 1 << 12;

/// A number for each line of a strip. It begins a line of the cache, so that no register is loaded
/// from two of them.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Row(pub(super) [f64; SIDE]);

impl Row {
    pub(super) const ZEROS: Self = Self([0.0; SIDE]);

    /// `of` each number. Here and in `zip` a loop, not the `map` of arrays, which becomes a call.
    #[inline(always)]
    pub(super) fn map(mut self, of: impl Fn(f64) -> f64) -> Self {
        for value in &mut self.0 {
            *value = of(*value);
        }
        self
    }

    /// `of` the numbers of each line in two rows.
    #[inline(always)]
    pub(super) fn zip(mut self, other: Self, of: impl Fn(f64, f64) -> f64) -> Self {
        for (value, other) in self.0.iter_mut().zip(&other.0) {
            *value = of(*value, *other);
        }
        self
    }

    /// # Errors
    /// The first line whose number is NaN or infinite, with this name.
    #[inline(always)]
    pub(super) fn finite(&self, name: &'static str) -> Result<(), Fault> {
        // a vector at a time
        if self.0.iter().fold(true, |all, value| all & value.is_finite()) {
            return Ok(());
        }
        self.0.iter().position(|value| !value.is_finite()).map_or(Ok(()), |line| Err((line, name)))
    }
}

/// The number of a line, and the name of what is not finite there.
pub(super) type Fault = (usize, &'static str);

/// Neighbouring lines in a block: index i of all of them is the run at `first + i · along`.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    first: usize,
    along: usize,
    /// The number of values of a line.
    pub(super) len: usize,
}

impl Strip {
    /// Index `i` of each line.
    #[inline(always)]
    pub(super) fn load<T: Element>(&self, block: &[T], i: usize) -> Row {
        let run = &block[self.first + i * self.along..][..SIDE];
        let mut row = Row::ZEROS;
        for (row, value) in row.0.iter_mut().zip(run) {
            *row = wide(value);
        }
        row
    }

    /// Writes index `i` of each line.
    #[inline(always)]
    pub(super) fn store<T: Element>(&self, block: &mut [T], i: usize, row: Row) {
        let run = &mut block[self.first + i * self.along..][..SIDE];
        for (value, row) in run.iter_mut().zip(&row.0) {
            *value = narrow(*row);
        }
    }

    /// Asks for the strip after this one: no processor foresees its short runs.
    fn fetch_next<T>(&self, block: &[T]) {
        let run = SIDE * size_of::<T>();
        let Some(near) = Machine::current().fetches_near(self.len * run) else { return };
        for i in 0..self.len {
            let next = block.as_ptr().wrapping_add(self.first + i * self.along + SIDE);
            for byte in (0..run).step_by(LINE) {
                fetch(next.wrapping_byte_add(byte), near);
            }
        }
    }

    /// The values of one line.
    pub(super) fn line<T: Element>(&self, block: &[T], line: usize) -> impl Iterator<Item = f64> {
        let first = self.first + line;
        (0..self.len).map(move |i| wide(&block[first + i * self.along]))
    }
}

/// Calls `map(block of x, the same block of out, a strip of it, scratch)`, which must be
/// `#[inline(always)]`, for every strip of the tensor's lines, and returns the first line that
/// fails: its number within the strip and the name of what is not finite. All lines are mapped
/// nevertheless, so that NaN stays where it is.
///
/// # Panics
/// If `x` or `out` is not as long as the lines.
pub(super) fn for_strips<T: Element, S: Default>(
    x: &[T],
    out: &mut [T],
    lines: &Cells,
    map: impl Fn(&[T], &mut [T], Strip, &mut S) -> Result<(), Fault> + Sync,
) -> Result<(), Fault> {
    assert!(x.len() == lines.len() && out.len() == lines.len(), "buffers as long as the lines");
    if out.is_empty() {
        return Ok(());
    }
    let (len, inner) = (lines.positions, lines.inner);
    // interleaved lines are those of one outer block; index i of line j in it is element i · along
    // + j · across
    let (of_block, along, across) =
        if inner == 1 { (BLOCK.div_ceil(len * SIDE) * SIDE, 1, len) } else { (inner, inner, 1) };
    let first = Mutex::new(None);
    let fill = |number: usize, out: &mut [T]| -> Result<(), ()> {
        let x = &x[number * of_block * len..][..out.len()];
        let (mut scratch, mut copy_of_x, mut copy_of_out) = (S::default(), vec![], vec![]);
        let here = out.len() / len;
        for start in (0..here).step_by(SIDE) {
            let width = SIDE.min(here - start);
            let as_it_lies = across == 1 && width == SIDE;
            if !as_it_lies {
                for (copy, block) in [(&mut copy_of_x, x), (&mut copy_of_out, &*out)] {
                    // zeros stand for lines that are not there
                    copy.clear();
                    copy.resize(len * SIDE, T::default());
                    for j in 0..width {
                        let line = block[(start + j) * across..].iter().step_by(along);
                        let rows = copy.chunks_exact_mut(SIDE).zip(line);
                        rows.for_each(|(row, value)| row[j] = *value);
                    }
                }
            }
            let (x, of_strip, strip) = match as_it_lies {
                true => (x, &mut *out, Strip { first: start, along, len }),
                false => (&*copy_of_x, &mut *copy_of_out, Strip { first: 0, along: SIDE, len }),
            };
            if as_it_lies {
                strip.fetch_next(x);
                strip.fetch_next(of_strip);
            }
            let mapped = kernels::vectorized(
                #[inline(always)]
                || map(x, of_strip, strip, &mut scratch),
            );
            if !as_it_lies {
                for j in 0..width {
                    let line = out[(start + j) * across..].iter_mut().step_by(along);
                    let rows = copy_of_out.chunks_exact(SIDE).zip(line);
                    rows.for_each(|(row, value)| *value = row[j]);
                }
            }
            if let Err((line, name)) = mapped {
                let line = number * of_block + start + line;
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                *first = Some(
                    first.take().map_or((line, name), |before: Fault| before.min((line, name))),
                );
            }
        }
        Ok(())
    };
    // no block fails: failures are gathered above
    let _ = kernels::fill_lines(out, of_block * len, fill);
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}
