//! Coefficients that vary along a span: a vector of each for a tile.

use super::lanes::{LANES, Lanes};
use super::lines::Aligned;
use super::pairs::PAIR;
use super::vectors::Vectors;
use crate::kernels::{Element, Real};

/// Where a span's coefficients come from.
pub(super) trait Coefficients<A, S> {
    /// A vector of each coefficient.
    type Lanes;
    /// Whether the map may take two vectors at once, where [`Pairs`](super::Pairs) puts their
    /// elements.
    const PAIRS: bool = false;
    /// Whether a loop of tiles has pointers of its own and counts from 0. Where coefficients take
    /// many registers, the compiler keeps such pointers in registers, but those of the span not.
    const OWN_POINTERS: bool = false;
    /// Whether there are coefficients for so many elements.
    fn reach(&self, len: usize) -> bool;
    /// The coefficients of the 16 elements from `at`.
    ///
    /// # Safety
    /// They must reach `at` + 16 elements.
    unsafe fn load(&mut self, at: usize) -> Self::Lanes;
    /// Whether pairs may be taken from element `at` on.
    #[inline(always)]
    fn pairs(&self, _at: usize) -> bool {
        false
    }
    /// The coefficients of half of the 32 elements from `at`.
    ///
    /// # Safety
    /// There must be `pairs` at `at`, and they must reach `at` + 32 elements.
    #[inline(always)]
    unsafe fn load_half(&mut self, at: usize, _half: usize) -> Self::Lanes {
        // SAFETY: by the caller.
        unsafe { self.load(at) }
    }
}

/// None. With `PAIRS`, the map does not look at the place of an element.
pub(super) struct Constant<const PAIRS: bool>;

impl<A, S, const PAIRS: bool> Coefficients<A, S> for Constant<PAIRS> {
    type Lanes = ();
    const PAIRS: bool = PAIRS;
    #[inline(always)]
    fn reach(&self, _len: usize) -> bool {
        true
    }
    #[inline(always)]
    unsafe fn load(&mut self, _at: usize) {}
    #[inline(always)]
    fn pairs(&self, _at: usize) -> bool {
        true
    }
}

/// Coefficients in the places where `T` puts the elements of a pair of vectors. Empty where they
/// are not whole pairs, or where `T` does not take two vectors at once.
pub(super) fn paired<T: Element>(coefficients: &[T::Acc]) -> Aligned<T::Acc> {
    let (pairs, rest) = coefficients.as_chunks::<PAIR>();
    if !T::AT_ONCE || !rest.is_empty() {
        return Aligned::NONE;
    }
    let mut all = Aligned::new(coefficients.len(), T::Acc::default());
    for (all, pair) in all.chunks_exact_mut(PAIR).zip(pairs) {
        let (halves, _) = pair.as_chunks::<LANES>();
        all.copy_from_slice(T::apart([halves[0], halves[1]]).as_flattened());
    }
    all
}

/// One of each for every element.
pub(super) struct Along<'a, A, const K: usize, const PAIRS: bool> {
    pub(super) rows: [&'a [A]; K],
    /// The same [`paired`]; empty where there is no use for it.
    pub(super) pairs: [&'a [A]; K],
}

impl<A: Real, S: Vectors, const K: usize, const PAIRS: bool> Coefficients<A, S>
    for Along<'_, A, K, PAIRS>
{
    type Lanes = [Lanes<A, S>; K];
    const PAIRS: bool = PAIRS;
    #[inline(always)]
    fn reach(&self, len: usize) -> bool {
        let mut reach = true;
        for (row, pairs) in self.rows.iter().zip(self.pairs) {
            reach &= row.len() >= len && (pairs.is_empty() || pairs.len() == row.len());
        }
        reach
    }
    #[inline(always)]
    unsafe fn load(&mut self, at: usize) -> [Lanes<A, S>; K] {
        let mut lanes = [Lanes::zero(); K];
        for (lanes, row) in lanes.iter_mut().zip(self.rows) {
            // SAFETY: by the caller.
            *lanes = unsafe { Lanes::load_unchecked(row, at) };
        }
        lanes
    }
    #[inline(always)]
    fn pairs(&self, at: usize) -> bool {
        at.is_multiple_of(PAIR) && self.pairs.iter().all(|pairs| !pairs.is_empty())
    }
    #[inline(always)]
    unsafe fn load_half(&mut self, at: usize, half: usize) -> [Lanes<A, S>; K] {
        let mut lanes = [Lanes::zero(); K];
        for (lanes, pairs) in lanes.iter_mut().zip(self.pairs) {
            // SAFETY: by the caller, and pairs are as long as rows.
            *lanes = unsafe { Lanes::load_unchecked(pairs, at + half * LANES) };
        }
        lanes
    }
}

/// One of each for every column of a row that repeats.
pub(super) struct Repeated<'a, A, const K: usize> {
    rows: [&'a [A]; K],
    /// The same [`paired`]; empty where there is no use for it.
    pairs: [&'a [A]; K],
    width: usize,
    /// The last column from which a vector does not go beyond the row.
    last: usize,
    /// The element that comes next, and its column.
    at: usize,
    column: usize,
}

impl<'a, A, const K: usize> Repeated<'a, A, K> {
    /// # Panics
    /// If a row does not go on for a vector after `width` columns, or there are none; if pairs are
    /// not `width` columns.
    #[inline(always)]
    pub(super) fn new(rows: [&'a [A]; K], pairs: [&'a [A]; K], width: usize) -> Self {
        for (row, pairs) in rows.iter().zip(pairs) {
            assert!(
                width > 0
                    && row.len() >= width + LANES
                    && (pairs.is_empty() || pairs.len() == width)
            );
        }
        Self { rows, pairs, width, last: width.saturating_sub(LANES), at: 0, column: 0 }
    }
}

impl<A: Real, S: Vectors, const K: usize> Coefficients<A, S> for Repeated<'_, A, K> {
    type Lanes = [Lanes<A, S>; K];
    const PAIRS: bool = true;
    const OWN_POINTERS: bool = true;
    #[inline(always)]
    fn reach(&self, len: usize) -> bool {
        // `load` wraps around once a vector, which is enough where a row is no shorter than one
        self.width >= LANES || len <= LANES
    }
    #[inline(always)]
    unsafe fn load(&mut self, at: usize) -> [Lanes<A, S>; K] {
        let column = if at == self.at { self.column } else { at % self.width };
        let mut lanes = [Lanes::zero(); K];
        for (lanes, row) in lanes.iter_mut().zip(self.rows) {
            // SAFETY: the column is below the width, and `new` has seen that the row goes on for a
            // vector.
            *lanes = unsafe { Lanes::load_unchecked(row, column) };
        }
        self.at = at + LANES;
        // both sums at once, then a choice: a loop waits for nothing else
        self.column = if column < self.last { column + LANES } else { column - self.last };
        lanes
    }
    #[inline(always)]
    fn pairs(&self, at: usize) -> bool {
        // pairs are whole ones, so all columns that are a multiple of 32 are the first of one
        at.is_multiple_of(PAIR) && self.pairs.iter().all(|pairs| !pairs.is_empty())
    }
    #[inline(always)]
    unsafe fn load_half(&mut self, at: usize, half: usize) -> [Lanes<A, S>; K] {
        let column = if at == self.at { self.column } else { at % self.width };
        let mut lanes = [Lanes::zero(); K];
        for (lanes, pairs) in lanes.iter_mut().zip(self.pairs) {
            // SAFETY: `at` and the width are multiples of 32, so the column is, too, and 32 more
            // are at most the width, which is the length of the pairs (`new`).
            *lanes = unsafe { Lanes::load_unchecked(pairs, column + half * LANES) };
        }
        let next = column + PAIR;
        (self.at, self.column) = match half {
            0 => (at, column),
            _ => (at + PAIR, if next < self.width { next } else { 0 }),
        };
        lanes
    }
}
