//! Channels-last tensors as rows of columns.
//!
//! A row holds one value of each of `inner` interleaved cells. Few channels would leave most lanes
//! of a vector idle, so several rows are taken as one wide row whose length is a multiple of the
//! lanes; column j of a wide row belongs to cell j mod inner.

use std::ops::Range;

use super::CHUNK;
use super::coefficients::{Repeated, paired};
use super::lanes::{LANES, Lanes};
use super::lines::Aligned;
use super::lines::{LINE, fetch};
use super::pairs::PAIR;
use super::vectors::Vectors;
use crate::kernels::{Element, Real};
use crate::machine::Machine;

/// How many neighbouring rows a reduction takes in one go: its sums stay in registers for as many,
/// and as many streams of memory are what a processor fetches ahead.
const ROWS_AT_ONCE: usize = 8;

/// How many rows of `width` a reduction takes in one go: all of them where a row is no wider than
/// the vectors that it takes at once, so that it reads in the order of memory.
pub(super) fn rows_at_once<S: Vectors>(width: usize, rows: usize) -> usize {
    let in_order = width <= LANES || width == 2 * LANES || S::FOUR_COLUMNS && width == 4 * LANES;
    if in_order { rows } else { ROWS_AT_ONCE }
}

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

/// K vectors of the columns from column j: in pairs where K is even, in the places where [`apart`]
/// puts the numbers of each column.
#[inline(always)]
pub(super) fn load_columns<S: Vectors, T: Element, const K: usize>(
    row: &[T],
    j: usize,
) -> [Lanes<T::Acc, S>; K] {
    let row = &row[j..j + K * LANES];
    let mut x = [Lanes::zero(); K];
    if K.is_multiple_of(2) {
        let (pairs, _) = row.as_chunks::<PAIR>();
        for (x, pair) in x.chunks_exact_mut(2).zip(pairs) {
            [x[0], x[1]] = Lanes::load_pair(pair);
        }
    } else {
        for (k, x) in x.iter_mut().enumerate() {
            *x = Lanes::load(row, k * LANES);
        }
    }
    x
}

/// Numbers of K vectors of columns, where [`load_columns`] puts the columns.
#[inline(always)]
pub(super) fn apart<S: Vectors, T: Element, const K: usize>(
    of: &[T::Acc],
    j: usize,
) -> [Lanes<T::Acc, S>; K] {
    let mut lanes = [Lanes::zero(); K];
    for (k, lanes) in lanes.iter_mut().enumerate() {
        *lanes = Lanes::load(of, j + k * LANES);
    }
    if K.is_multiple_of(2) {
        for pair in lanes.chunks_exact_mut(2) {
            [pair[0], pair[1]] = Lanes::apart::<T>([pair[0], pair[1]]);
        }
    }
    lanes
}

/// Stores numbers from where [`apart`] puts them.
#[inline(always)]
pub(super) fn store_in_order<S: Vectors, T: Element, const K: usize>(
    mut lanes: [Lanes<T::Acc, S>; K],
    of: &mut [T::Acc],
    j: usize,
) {
    if K.is_multiple_of(2) {
        for pair in lanes.chunks_exact_mut(2) {
            [pair[0], pair[1]] = Lanes::in_order::<T>([pair[0], pair[1]]);
        }
    }
    for (k, lanes) in lanes.into_iter().enumerate() {
        lanes.store(of, j + k * LANES);
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
    #[inline(always)]
    pub(super) fn new(inner: usize, rows: usize) -> Self {
        let fold = fold(inner);
        Self { inner, fold: if rows >= fold * ROWS_AT_ONCE { fold } else { 1 } }
    }

    /// The length of a wide row.
    pub(super) fn width(&self) -> usize {
        self.inner * self.fold
    }

    /// The parts of `len` elements, each with the length of its rows: first all wide rows, then the
    /// single rows left.
    pub(super) fn parts(&self, len: usize) -> [(Range<usize>, usize); 2] {
        let wide = len / self.width() * self.width();
        [(0..wide, self.width()), (wide..len, self.inner)]
    }

    /// Wide rows of coefficients from the coefficients of each cell, continued for a vector beyond
    /// their end, so that one may be read at any column.
    #[inline(always)]
    pub(super) fn spread<A: Real, const K: usize>(
        &self,
        of_cell: impl Fn(usize) -> [A; K],
    ) -> [Aligned<A>; K] {
        let (inner, len) = (self.inner, self.width() + LANES);
        let mut rows = std::array::from_fn(|_| Aligned::new(len, A::default()));
        let mut first = rows.each_mut().map(
            #[inline(always)]
            |row| &mut row[..inner],
        );
        for cell in 0..inner {
            for (row, value) in first.iter_mut().zip(of_cell(cell)) {
                row[cell] = value;
            }
        }
        for row in &mut rows {
            for start in (inner..len).step_by(inner) {
                row.copy_within(..inner.min(len - start), start);
            }
        }
        rows
    }

    /// The parts of `len` elements that a map takes in one go: all of them where vectors keep to
    /// the same columns, else row by row.
    pub(super) fn spans(&self, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = if self.width().is_multiple_of(LANES) { len.max(1) } else { self.inner };
        (0..len).step_by(step).map(move |start| start..(start + step).min(len))
    }

    /// Coefficients from [`spread`](Self::spread), [`paired`].
    #[inline(always)]
    pub(super) fn pairs<T: Element, const K: usize>(
        &self,
        rows: &[Aligned<T::Acc>; K],
    ) -> [Aligned<T::Acc>; K] {
        std::array::from_fn(|k| paired::<T>(&rows[k][..self.width()]))
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

/// How many rows make up a wide one whose length is a multiple of the lanes; 1 where that would be
/// too long.
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
