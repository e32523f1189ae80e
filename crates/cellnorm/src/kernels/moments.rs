//! The moments pass: x → count, mean and M2 of each cell.
//!
//! A block of values is summed about a shift s, the mean of its first sixteenth: with d = x − s,
//! mean = s + Σd / n and M2 = Σd² − (Σd)² / n. Since s is a mean of part of the block, (mean − s)²
//! ≤ 16 · variance: the subtraction loses at most four bits and usually none, whatever the mean;
//! and equal values give d = 0 and M2 = 0 exactly. Blocks are merged in f64. Where a square
//! overflows the computing type, the block is taken again in f64.

use super::activation::{Activation, Epilogue};
use super::buffers::Source;
use super::columns::Columns;
use super::lanes::{LANES, Lanes, end_tile};
use super::segments::{RUNS_AT_ONCE, Reduce};
use super::vectors::Vectors;
use super::{BLOCK, column_moments};
use crate::kernels::{Element, Real};
use crate::moments::Moments;
use std::ops::Range;

/// How many of `len` values a shift is taken from: a sixteenth, but of few values 8, so that it is
/// near the mean.
#[inline(always)]
pub(super) fn part(len: usize) -> usize {
    len.div_ceil(16).max(8).min(len)
}

pub(super) struct MomentsPass<'a, T>(pub(super) Source<'a, T>);

impl<T: Element> Reduce for MomentsPass<'_, T> {
    type Partial = Moments;
    const PER_CELL: bool = false;
    const ACTIVATED: bool = false;

    #[inline(always)]
    fn join(a: Moments, b: Moments) -> Moments {
        a.merge(b)
    }

    fn activation(&self) -> Activation {
        Activation::Identity
    }

    #[inline(always)]
    fn run<S: Vectors, E: Epilogue>(&self, _: E, range: Range<usize>, _: usize) -> Moments {
        // SAFETY: a pass reduces a set before it writes the set.
        run_moments::<S, _>(unsafe { self.0.read(range) })
    }

    #[inline(always)]
    fn runs<S: Vectors, E: Epilogue>(
        &self,
        _: E,
        ranges: [Range<usize>; RUNS_AT_ONCE],
        _: [usize; RUNS_AT_ONCE],
    ) -> [Moments; RUNS_AT_ONCE] {
        let mut runs = [&[][..]; RUNS_AT_ONCE];
        for (run, range) in runs.iter_mut().zip(ranges) {
            // SAFETY: as above.
            *run = unsafe { self.0.read(range) };
        }
        short_run_moments::<S, _>(runs)
    }

    #[inline(always)]
    fn rows<S: Vectors, E: Epilogue>(
        &self,
        _: E,
        range: Range<usize>,
        cells: Range<usize>,
    ) -> Vec<Moments> {
        // SAFETY: as above.
        let x = unsafe { self.0.read(range) };
        let mut of_cell = vec![Moments::default(); cells.len()];
        for (part, width) in Columns::new(cells.len(), x.len() / cells.len()).parts(x.len()) {
            column_moments::merge_rows::<S, _>(&x[part], width, &mut of_cell);
        }
        of_cell
    }
}

/// The moments of a run of memory.
#[inline(always)]
pub(super) fn run_moments<S: Vectors, T: Element>(x: &[T]) -> Moments {
    // a loop, not a fold: a closure would be compiled without the kernel's instruction set
    let mut all = Moments::default();
    for x in x.chunks(BLOCK) {
        all = all.merge(block::<S, _>(x));
    }
    all
}

/// The moments of runs of the same length, at most a block.
///
/// One step after another for all of them: a run is short, so its next step would wait for the one
/// before.
#[inline(always)]
pub(super) fn short_run_moments<S: Vectors, T: Element>(
    runs: [&[T]; RUNS_AT_ONCE],
) -> [Moments; RUNS_AT_ONCE] {
    let mut shifts = [T::Acc::default(); RUNS_AT_ONCE];
    for (shift, x) in shifts.iter_mut().zip(runs) {
        *shift = shift_of::<S, _>(x);
        end_tile();
    }
    let zero = T::Acc::default();
    let nothing =
        ShiftedSums::<_, S> { d: Lanes::zero(), d2: Lanes::zero(), left: zero, left2: zero };
    let mut sums = [nothing; RUNS_AT_ONCE];
    for ((sums, x), shift) in sums.iter_mut().zip(runs).zip(shifts) {
        *sums = shifted_sums(x, shift);
        end_tile();
    }
    let count = runs[0].len() as f64;
    let (mut d, mut d2) = ([0.0; RUNS_AT_ONCE], [0.0; RUNS_AT_ONCE]);
    for ((d, d2), sums) in d.iter_mut().zip(&mut d2).zip(&sums) {
        (*d, *d2) = sums.sum();
        end_tile();
    }
    let mut moments = [Moments { count, mean: 0.0, m2: 0.0 }; RUNS_AT_ONCE];
    let mut finite = true;
    for k in 0..RUNS_AT_ONCE {
        (moments[k].mean, moments[k].m2) = mean_and_m2(count, shifts[k].to_f64(), d[k], d2[k]);
        finite &= d2[k].is_finite();
    }
    if finite {
        return moments;
    }
    for ((moments, x), d2) in moments.iter_mut().zip(runs).zip(d2) {
        if !d2.is_finite() {
            *moments = one_by_one(x);
        }
    }
    moments
}

#[inline(always)]
fn block<S: Vectors, T: Element>(x: &[T]) -> Moments {
    let shift = shift_of::<S, _>(x);
    moments_from_sums(x, shift, &shifted_sums::<S, _>(x, shift))
}

/// The mean of the first values.
#[inline(always)]
fn shift_of<S: Vectors, T: Element>(x: &[T]) -> T::Acc {
    let first = x[0].widen();
    let part = &x[..part(x.len())];
    first + T::Acc::from_f64(shifted_sum::<S, _>(part, first) / part.len() as f64)
}

#[inline(always)]
fn moments_from_sums<S: Vectors, T: Element>(
    x: &[T],
    shift: T::Acc,
    sums: &ShiftedSums<T::Acc, S>,
) -> Moments {
    let (d, d2) = sums.sum();
    let count = x.len() as f64;
    if d2.is_finite() {
        let (mean, m2) = mean_and_m2(count, shift.to_f64(), d, d2);
        return Moments { count, mean, m2 };
    }
    one_by_one(x)
}

/// The mean and M2 from Σ (x − shift) and Σ (x − shift)².
#[inline(always)]
fn mean_and_m2(count: f64, shift: f64, d: f64, d2: f64) -> (f64, f64) {
    (shift + d / count, (d2 - d * d / count).max(0.0))
}

/// In f64, for values whose squares are too large for the computing type.
#[cold]
fn one_by_one<T: Element>(x: &[T]) -> Moments {
    let one = |x: &T| Moments { count: 1.0, mean: x.widen().to_f64(), m2: 0.0 };
    x.iter().map(one).fold(Moments::default(), Moments::merge)
}

/// Σ (x − shift).
#[inline(always)]
fn shifted_sum<S: Vectors, T: Element>(x: &[T], shift: T::Acc) -> f64 {
    if x.len() < LANES {
        let mut left = T::Acc::default();
        for x in x {
            left = left + (x.widen() - shift);
        }
        // a sum of lanes that are 0, which takes the sign off a 0
        return 0.0 + left.to_f64();
    }
    let by = Lanes::<T::Acc, S>::splat(shift);
    let mut d = [Lanes::zero(); 4];
    let (tiles, rest) = x.as_chunks::<{ 4 * LANES }>();
    for tile in tiles {
        let (pairs, _) = tile.as_chunks::<{ 2 * LANES }>();
        for half in 0..2 {
            let [a, b] = Lanes::load_pair(&pairs[half]);
            d[2 * half] = d[2 * half] + (a - by);
            d[2 * half + 1] = d[2 * half + 1] + (b - by);
        }
    }
    [d[0], d[1]] = Lanes::in_order::<T>([d[0], d[1]]);
    [d[2], d[3]] = Lanes::in_order::<T>([d[2], d[3]]);
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

/// Σ (x − shift) and Σ (x − shift)²: of the lanes, and of what is left after whole vectors.
#[derive(Clone, Copy)]
struct ShiftedSums<A: Real, S: Vectors> {
    d: Lanes<A, S>,
    d2: Lanes<A, S>,
    left: A,
    left2: A,
}

impl<A: Real, S: Vectors> ShiftedSums<A, S> {
    #[inline(always)]
    fn sum(&self) -> (f64, f64) {
        (self.d.sum() + self.left.to_f64(), self.d2.sum() + self.left2.to_f64())
    }
}

#[inline(always)]
fn shifted_sums<S: Vectors, T: Element>(x: &[T], shift: T::Acc) -> ShiftedSums<T::Acc, S> {
    let zero = Lanes::zero();
    let by = Lanes::splat(shift);
    let (mut d, mut d2) = ([zero; 2], [zero; 2]);
    let (tiles, rest) = x.as_chunks::<{ 2 * LANES }>();
    for tile in tiles {
        let x = Lanes::load_pair(tile);
        for half in 0..2 {
            let delta = x[half] - by;
            d[half] = d[half] + delta;
            d2[half] = d2[half] + delta * delta;
        }
    }
    (d, d2) = (Lanes::in_order::<T>(d), Lanes::in_order::<T>(d2));
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
    ShiftedSums { d: d[0] + d[1], d2: d2[0] + d2[1], left, left2 }
}
