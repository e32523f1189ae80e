//! Channels-last tensors as rows of columns.
//!
//! A row holds one value of each of `inner` interleaved cells. Few channels would leave most lanes of a vector idle, so several
//! rows are taken as one wide row whose length is a multiple of the lanes; column j of a wide row belongs to cell j mod inner.

use std::ops::Range;

use super::CHUNK;
use super::lanes::LANES;
use crate::element::Real;

/// The way a range of rows is cut into wide rows and the single rows that are left.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    inner: usize,
    /// Rows a wide row is made of.
    fold: usize,
}

impl Columns {
    pub(super) fn new(inner: usize, rows: usize) -> Self {
        let fold = LANES / gcd(inner, LANES);
        let few = inner < 4 * LANES && rows >= CHUNK * fold;
        Self { inner, fold: if few { fold } else { 1 } }
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

    /// A wide row of coefficients from the coefficient of each cell, padded to whole vectors.
    pub(super) fn spread<A: Real>(&self, of_cell: impl Fn(usize) -> f64) -> Vec<A> {
        let mut row: Vec<A> = (0..self.inner).map(|cell| A::from_f64(of_cell(cell))).collect();
        for j in self.inner..self.width().next_multiple_of(LANES) {
            row.push(row[j - self.inner]);
        }
        row
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
