//! Lines side by side, so that one instruction serves several of them.
//!
//! The lines of a tensor are its cells, as [`Cells`] lie in memory: a line is a run where `inner` is 1, and interleaved with
//! `inner` others where it is not. A [`Strip`] is up to [`SIDE`] lines next to each other, and index i of all of them is a row.
//! What is computed of rows is a loop over slices, which the compiler turns into vector instructions.

use std::sync::{Mutex, PoisonError};

use super::lines::{narrow, wide};
use crate::cells::Cells;
use crate::element::Element;
use crate::passes;

/// The most lines of a strip: loops are long then, and a strip of a hundred rows is still in the nearest cache.
pub(super) const SIDE: usize = 32;

/// A number for each line of a strip.
pub(super) type Row = [f64; SIDE];

/// As many as a register of AVX2 holds, a divisor of [`SIDE`].
pub(super) const FEW: usize = 4;

/// Numbers of neighbouring lines.
pub(super) type Few = [f64; FEW];

/// Neighbouring lines of a block of memory: index i of line j is the element `first + i · along + j · across`.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    first: usize,
    along: usize,
    across: usize,
    /// The number of lines.
    pub(super) width: usize,
    /// The number of values of a line.
    pub(super) len: usize,
}

impl Strip {
    /// Index `i` of each line.
    #[inline(always)]
    pub(super) fn load<T: Element>(&self, block: &[T], i: usize, row: &mut [f64]) {
        let start = self.first + i * self.along;
        if self.across == 1 {
            for (row, value) in row.iter_mut().zip(&block[start..][..self.width]) {
                *row = wide(value);
            }
            return;
        }
        for (row, value) in row.iter_mut().zip(block[start..].iter().step_by(self.across)) {
            *row = wide(value);
        }
    }

    /// Index `i` of a few lines from `lane`; 0 for those beyond the width.
    #[inline(always)]
    pub(super) fn few<T: Element>(&self, block: &[T], i: usize, lane: usize) -> Few {
        let start = self.first + i * self.along + lane * self.across;
        let mut few = Few::default();
        let here = few.len().min(self.width - lane);
        if self.across == 1 && here == few.len() {
            for (few, value) in few.iter_mut().zip(&block[start..][..here]) {
                *few = wide(value);
            }
            return few;
        }
        for (few, value) in few[..here].iter_mut().zip(block[start..].iter().step_by(self.across)) {
            *few = wide(value);
        }
        few
    }

    /// The values of one line.
    pub(super) fn line<T: Element>(&self, block: &[T], lane: usize) -> impl Iterator<Item = f64> {
        let first = self.first + lane * self.across;
        (0..self.len).map(move |i| wide(&block[first + i * self.along]))
    }

    /// All rows, one after another.
    #[inline(always)]
    pub(super) fn load_all<T: Element>(&self, block: &[T], rows: &mut Vec<f64>) {
        rows.resize(self.len * self.width, 0.0);
        for (i, row) in rows.chunks_exact_mut(self.width).enumerate() {
            self.load(block, i, row);
        }
    }

    /// Writes index `i` of each line.
    #[inline(always)]
    pub(super) fn store<T: Element>(&self, block: &mut [T], i: usize, row: &[f64]) {
        let start = self.first + i * self.along;
        if self.across == 1 {
            for (value, row) in block[start..][..self.width].iter_mut().zip(row) {
                *value = narrow(*row);
            }
            return;
        }
        for (value, row) in block[start..].iter_mut().step_by(self.across).zip(row) {
            *value = narrow(*row);
        }
    }
}

/// Calls `map(block of x, the same block of out, a strip of it, scratch)`, which must be `#[inline(always)]`, for every strip of the
/// tensor's lines, and returns the first line that fails: its number within the strip and the name of what is not finite. All
/// lines are mapped nevertheless, so that NaN stays where it is.
///
/// # Panics
/// If `x` or `out` is not as long as the lines.
pub(super) fn for_strips<T: Element, S: Default>(
    x: &[T],
    out: &mut [T],
    lines: &Cells,
    map: impl Fn(&[T], &mut [T], Strip, &mut S) -> Result<(), (usize, &'static str)> + Sync,
) -> Result<(), (usize, &'static str)> {
    assert!(x.len() == lines.len() && out.len() == lines.len(), "buffers as long as the lines");
    let (len, inner) = (lines.positions, lines.inner);
    // runs of memory are taken several at once; interleaved lines are those of one outer block
    let (block, of_block) = if inner == 1 { (len * SIDE, SIDE) } else { (len * inner, inner) };
    let first = Mutex::new(None);
    let fill = |number: usize, out: &mut [T]| -> Result<(), ()> {
        let x = &x[number * block..][..out.len()];
        let mut scratch = S::default();
        let here = out.len() / len;
        for start in (0..here).step_by(SIDE) {
            let width = SIDE.min(here - start);
            let strip = match inner {
                1 => Strip { first: start * len, along: 1, across: len, width, len },
                _ => Strip { first: start, along: inner, across: 1, width, len },
            };
            let mapped = passes::vectorized(
                #[inline(always)]
                || map(x, out, strip, &mut scratch),
            );
            if let Err((lane, name)) = mapped {
                let line = number * of_block + start + lane;
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                *first = Some(first.take().map_or((line, name), |before: (usize, _)| before.min((line, name))));
            }
        }
        Ok(())
    };
    // no block fails: failures are gathered above
    let _ = passes::fill_lines(out, block, fill);
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// The first of some values that is NaN or infinite.
pub(super) fn not_finite(values: &[f64]) -> Option<usize> {
    values.iter().position(|value| !value.is_finite())
}
