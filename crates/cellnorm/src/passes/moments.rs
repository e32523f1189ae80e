//! The moments pass: x → count, mean and M2 of each cell.
//!
//! A block of values is summed about a shift s, the mean of its first sixteenth: with d = x − s, mean = s + Σd / n and
//! M2 = Σd² − (Σd)² / n. Since s is a mean of part of the block, (mean − s)² ≤ 16 · variance: the subtraction loses at most
//! four bits and usually none, whatever the mean; and equal values give d = 0 and M2 = 0 exactly. Blocks are merged in f64. Where a square
//! overflows the computing type, the block is taken again in f64.

use super::buffers::Source;
use super::columns::Columns;
use super::lanes::{LANES, Lanes};
use super::segments::Reduce;
use super::{BLOCK, column_moments};
use crate::element::{Element, Real};
use crate::moments::Moments;
use std::ops::Range;

/// How many of `len` values a shift is taken from: a sixteenth, but of few values 8, so that it is near the mean.
#[inline(always)]
pub(super) fn part(len: usize) -> usize {
    len.div_ceil(16).max(8).min(len)
}

pub(super) struct MomentsPass<'a, T>(pub(super) Source<'a, T>);

impl<T: Element> Reduce for MomentsPass<'_, T> {
    type Partial = Moments;
    const OF_CELLS: bool = false;

    #[inline(always)]
    fn join(a: Moments, b: Moments) -> Moments {
        a.merge(b)
    }

    #[inline(always)]
    fn run(&self, range: Range<usize>, _cell: usize) -> Moments {
        // SAFETY: a pass reduces a set before it writes the set.
        of_run(unsafe { self.0.read(range) })
    }

    #[inline(always)]
    fn rows(&self, range: Range<usize>, _first_cell: usize, inner: usize) -> Vec<Moments> {
        // SAFETY: as above.
        let x = unsafe { self.0.read(range) };
        let mut of_cell = vec![Moments::default(); inner];
        for (part, width) in Columns::new(inner, x.len() / inner).parts(x.len()) {
            column_moments::of_rows(&x[part], width, &mut of_cell);
        }
        of_cell
    }
}

/// The moments of a run of memory.
#[inline(always)]
pub(super) fn of_run<T: Element>(x: &[T]) -> Moments {
    // a loop, not a fold: a closure would be compiled without the kernel's instruction set
    let mut all = Moments::default();
    for x in x.chunks(BLOCK) {
        all = all.merge(block(x));
    }
    all
}

#[inline(always)]
fn block<T: Element>(x: &[T]) -> Moments {
    let first = x[0].widen();
    let part = &x[..part(x.len())];
    let shift = first + T::Acc::from_f64(shifted_sum(part, first) / part.len() as f64);
    let (d, d2) = shifted_sums(x, shift);
    let count = x.len() as f64;
    if d2.is_finite() {
        return Moments { count, mean: shift.to_f64() + d / count, m2: (d2 - d * d / count).max(0.0) };
    }
    one_by_one(x)
}

/// In f64, for values whose squares are too large for the computing type.
#[cold]
fn one_by_one<T: Element>(x: &[T]) -> Moments {
    let one = |x: &T| Moments { count: 1.0, mean: x.widen().to_f64(), m2: 0.0 };
    x.iter().map(one).fold(Moments::default(), Moments::merge)
}

/// Σ (x − shift).
#[inline(always)]
fn shifted_sum<T: Element>(x: &[T], shift: T::Acc) -> f64 {
    let by = Lanes::splat(shift);
    let mut d = [Lanes::splat(T::Acc::default()); 4];
    let (tiles, rest) = x.as_chunks::<{ 4 * LANES }>();
    for tile in tiles {
        for (quarter, d) in d.iter_mut().enumerate() {
            *d = *d + (Lanes::load(tile, quarter * LANES) - by);
        }
    }
    let mut at = 0;
    while at + LANES <= rest.len() {
        d[0] = d[0] + (Lanes::load(rest, at) - by);
        at += LANES;
    }
    let mut left = T::Acc::default();
    for x in &rest[at..] {
        left = left + (x.widen() - shift);
    }
    ((d[0] + d[1]) + (d[2] + d[3])).sum() + left.to_f64()
}

/// Σ (x − shift) and Σ (x − shift)².
#[inline(always)]
fn shifted_sums<T: Element>(x: &[T], shift: T::Acc) -> (f64, f64) {
    let zero = Lanes::splat(T::Acc::default());
    let by = Lanes::splat(shift);
    let (mut d, mut d2) = ([zero; 2], [zero; 2]);
    let (tiles, rest) = x.as_chunks::<{ 2 * LANES }>();
    for tile in tiles {
        for half in 0..2 {
            let delta = Lanes::load(tile, half * LANES) - by;
            d[half] = d[half] + delta;
            d2[half] = d2[half] + delta * delta;
        }
    }
    let mut at = 0;
    if rest.len() >= LANES {
        let delta = Lanes::load(rest, 0) - by;
        d[0] = d[0] + delta;
        d2[0] = d2[0] + delta * delta;
        at = LANES;
    }
    let (mut left, mut left2) = (T::Acc::default(), T::Acc::default());
    for x in &rest[at..] {
        let delta = x.widen() - shift;
        left = left + delta;
        left2 = left2 + delta * delta;
    }
    ((d[0] + d[1]).sum() + left.to_f64(), (d2[0] + d2[1]).sum() + left2.to_f64())
}
