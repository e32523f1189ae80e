//! Channels-last tensors as rows of columns.
//!
//! A row holds one value of each of `inner` interleaved cells. Few channels would leave most lanes of a vector idle, so several
//! rows are taken as one wide row whose length is a multiple of the lanes; column j of a wide row belongs to cell j mod inner.

use std::ops::Range;

use super::CHUNK;
use super::coefficients::{Repeated, paired};
use super::lanes::LANES;
use super::stores::{LINE, fetch};
use crate::element::{Element, Real};
use crate::machine::Machine;

/// How many neighbouring rows a reduction takes in one go: its sums stay in registers for as many, and as many streams of memory
/// are what a processor fetches ahead.
pub(super) const ROWS_AT_ONCE: usize = 8;

/// How many bytes ahead of a row its columns are fetched: rows are read some columns at a time,
/// which no processor foresees.
pub(super) fn fetch_distance() -> usize {
    Machine::current().near_bytes()
}

/// Fetches K vectors of columns from column j, for a row that comes `distance` bytes later.
#[inline(always)]
pub(super) fn fetch_row<T, const K: usize>(row: &[T], j: usize, distance: usize) {
    let mut at = 0;
    while at < K * LANES {
        fetch(row.as_ptr().wrapping_add(j + at).wrapping_byte_add(distance), true);
        at += LINE / size_of::<T>();
    }
}

/// The widest wide row.
const WIDEST: usize = 2048;

/// The way a range of rows is cut into wide rows and the single rows that are left.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    inner: usize,
    /// Rows a wide row is made of.
    fold: usize,
}

impl Columns {
    pub(super) fn new(inner: usize, rows: usize) -> Self {
        let fold = fold(inner);
        Self { inner, fold: if rows >= fold * ROWS_AT_ONCE { fold } else { 1 } }
    }

    /// The length of a wide row.
    pub(super) fn width(&self) -> usize {
        self.inner * self.fold
    }

    /// The parts of `len` elements, each with the length of its rows: first all wide rows, then the single rows left.
    pub(super) fn parts(&self, len: usize) -> [(Range<usize>, usize); 2] {
        let wide = len / self.width() * self.width();
        [(0..wide, self.width()), (wide..len, self.inner)]
    }

    /// Wide rows of coefficients from the coefficients of each cell, continued for a vector beyond their end, so that one may be
    /// read at any column.
    #[inline(always)]
    pub(super) fn spread<A: Real, const K: usize>(&self, of_cell: impl Fn(usize) -> [A; K]) -> [Vec<A>; K] {
        let len = self.width() + LANES;
        let mut rows = [const { Vec::new() }; K];
        for row in &mut rows {
            row.reserve_exact(len);
        }
        for cell in 0..self.inner {
            for (row, value) in rows.iter_mut().zip(of_cell(cell)) {
                row.push(value);
            }
        }
        for row in &mut rows {
            while row.len() < len {
                row.extend_from_within(..self.inner.min(len - row.len()));
            }
        }
        rows
    }

    /// The parts of `len` elements that a map takes in one go: all of them where vectors keep to the same columns, else row by
    /// row.
    pub(super) fn spans(&self, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = if self.width().is_multiple_of(LANES) { len.max(1) } else { self.inner };
        (0..len).step_by(step).map(move |start| start..(start + step).min(len))
    }

    /// Coefficients from [`spread`](Self::spread), [`paired`].
    #[inline(always)]
    pub(super) fn pairs<T: Element, const K: usize>(&self, rows: &[Vec<T::Acc>; K]) -> [Vec<T::Acc>; K] {
        let mut pairs = [const { Vec::new() }; K];
        for (pairs, row) in pairs.iter_mut().zip(rows) {
            *pairs = paired::<T>(&row[..self.width()]);
        }
        pairs
    }

    /// Coefficients from [`spread`](Self::spread) and their [`pairs`](Self::pairs), as a span takes
    /// them.
    #[inline(always)]
    pub(super) fn repeated<'a, A: Real, const K: usize>(
        &self,
        rows: [&'a [A]; K],
        pairs: [&'a [A]; K],
    ) -> Repeated<'a, A, K> {
        Repeated::new(rows, pairs, self.width())
    }
}

/// How many rows make up a wide one whose length is a multiple of the lanes; 1 where that would be too long.
pub(super) fn fold(inner: usize) -> usize {
    let fold = LANES / gcd(inner, LANES);
    if inner * fold <= WIDEST { fold } else { 1 }
}

/// How many rows are added up in the computing type: as many wide rows as [`CHUNK`] says.
pub(super) fn rows_per_chunk(inner: usize) -> usize {
    CHUNK * fold(inner)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
