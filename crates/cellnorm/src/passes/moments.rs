//! The moments pass: x → count, mean and M2 of each cell.
//!
//! A block of values is summed about a shift s taken from its first sixteenth: with d = x − s, mean = s + Σd / n and
//! M2 = Σd² − (Σd)² / n. Since s is a mean of part of the block, (mean − s)² ≤ 16 · variance: the subtraction loses at most
//! four bits and usually none, whatever the mean; and equal values give d = 0 and M2 = 0 exactly. Blocks are merged in f64. Where a square
//! overflows the computing type, the block is taken again in f64.

use super::buffers::Source;
use super::columns::Columns;
use super::dispatch::{Kernel, dispatch};
use super::lanes::{LANES, Lanes};
use super::sweep::Reduce;
use super::{BLOCK, CHUNK};
use crate::element::{Element, Real};
use crate::moments::Moments;
use std::ops::Range;

/// The part of a block that its shift is taken from: 1/16.
const PART: usize = 16;

pub(super) struct MomentsPass<'a, T>(pub(super) Source<'a, T>);

impl<T: Element> Reduce for MomentsPass<'_, T> {
    type Partial = Moments;

    fn join(a: Moments, b: Moments) -> Moments {
        a.merge(b)
    }

    fn run(&self, range: Range<usize>, _cell: usize) -> Moments {
        // SAFETY: a pass reduces a set before it writes the set.
        dispatch(Run(unsafe { self.0.read(range) }))
    }

    fn rows(&self, range: Range<usize>, _first_cell: usize, inner: usize) -> Vec<Moments> {
        // SAFETY: as above.
        dispatch(Rows(unsafe { self.0.read(range) }, inner))
    }
}

/// The moments of a run of memory.
pub(super) struct Run<'a, T>(pub(super) &'a [T]);

impl<T: Element> Kernel for Run<'_, T> {
    type Output = Moments;

    #[inline(always)]
    fn run(self) -> Moments {
        // a loop, not a fold: a closure would be compiled without this kernel's instruction set
        let mut all = Moments::default();
        for x in self.0.chunks(BLOCK) {
            all = all.merge(block(x));
        }
        all
    }
}

#[inline(always)]
fn block<T: Element>(x: &[T]) -> Moments {
    let first = x[0].widen();
    let part = &x[..(BLOCK / PART).min(x.len())];
    let (d, _) = shifted_sums(part, first);
    let shift = first + T::Acc::from_f64(d / part.len() as f64);
    let (d, d2) = shifted_sums(x, shift);
    let count = x.len() as f64;
    if d2.is_finite() {
        return Moments { count, mean: shift.to_f64() + d / count, m2: (d2 - d * d / count).max(0.0) };
    }
    let one = |x: &T| Moments { count: 1.0, mean: x.widen().to_f64(), m2: 0.0 };
    x.iter().map(one).fold(Moments::default(), Moments::merge)
}

/// Σ (x − shift) and Σ (x − shift)².
#[inline(always)]
fn shifted_sums<T: Element>(x: &[T], shift: T::Acc) -> (f64, f64) {
    let zero = Lanes::splat(T::Acc::default());
    let by = Lanes::splat(shift);
    let (mut d, mut d2) = ([zero; 2], [zero; 2]);
    let mut at = 0;
    while at < x.len() {
        for half in 0..2 {
            let start = (at + half * LANES).min(x.len());
            let delta = Lanes::load(x, start, shift) - by;
            d[half] = d[half] + delta;
            d2[half] = d2[half] + delta * delta;
        }
        at += 2 * LANES;
    }
    ((d[0] + d[1]).sum(), (d2[0] + d2[1]).sum())
}

struct Rows<'a, T>(&'a [T], usize);

impl<T: Element> Kernel for Rows<'_, T> {
    type Output = Vec<Moments>;

    #[inline(always)]
    fn run(self) -> Vec<Moments> {
        let Self(x, inner) = self;
        let mut of_cell = vec![Moments::default(); inner];
        for (part, width) in Columns::new(inner, x.len() / inner).parts(x.len()) {
            let mut of_column = ColumnMoments::new(width);
            for chunk in x[part].chunks(CHUNK * width) {
                of_column.add_chunk(chunk);
            }
            for j in 0..width {
                let (count, mean, m2) = (of_column.count, of_column.mean[j], of_column.m2[j]);
                of_cell[j % inner] = of_cell[j % inner].merge(Moments { count, mean, m2 });
            }
        }
        of_cell
    }
}

/// The moments of each column, an array for each number so that they are merged a vector at a time.
struct ColumnMoments {
    count: f64,
    mean: Vec<f64>,
    m2: Vec<f64>,
}

impl ColumnMoments {
    fn new(width: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; width], m2: vec![0.0; width] }
    }

    #[inline(always)]
    fn add_chunk<T: Element>(&mut self, x: &[T]) {
        let width = self.mean.len();
        let rows = x.len() / width;
        let part = (CHUNK / PART).min(rows);
        let zero = T::Acc::default();
        let padded = width.next_multiple_of(LANES);
        let mut shift: Vec<T::Acc> = x[..width].iter().map(|x| x.widen()).collect();
        shift.resize(padded, zero);
        let (mut d, mut d2) = (vec![zero; padded], vec![zero; padded]);
        add_rows(&x[..part * width], width, &shift, &mut d, &mut d2);
        for (shift, d) in shift.iter_mut().zip(&d) {
            *shift = *shift + *d / T::Acc::from_f64(part as f64);
        }
        d.fill(zero);
        d2.fill(zero);
        add_rows(x, width, &shift, &mut d, &mut d2);
        if d2.iter().all(|d2| d2.to_f64().is_finite()) {
            self.merge(
                rows as f64,
                #[inline(always)]
                |j| (shift[j].to_f64(), d[j].to_f64(), d2[j].to_f64()),
            );
        } else {
            for row in x.chunks_exact(width) {
                self.merge(
                    1.0,
                    #[inline(always)]
                    |j| (row[j].widen().to_f64(), 0.0, 0.0),
                );
            }
        }
    }

    /// Merges `n` values of each column, given their shift, Σd and Σd².
    #[inline(always)]
    fn merge(&mut self, n: f64, sums: impl Fn(usize) -> (f64, f64, f64)) {
        let share = n / (self.count + n);
        let weight = self.count * share;
        for j in 0..self.mean.len() {
            let (shift, d, d2) = sums(j);
            let delta = shift + d / n - self.mean[j];
            self.mean[j] += delta * share;
            self.m2[j] += (d2 - d * d / n).max(0.0) + delta * (delta * weight);
        }
        self.count += n;
    }
}

/// Adds (x − shift) and (x − shift)² of each row to `d` and `d2`.
#[inline(always)]
fn add_rows<T: Element>(x: &[T], width: usize, shift: &[T::Acc], d: &mut [T::Acc], d2: &mut [T::Acc]) {
    let zero = T::Acc::default();
    for row in x.chunks_exact(width) {
        let mut j = 0;
        while j < width {
            let delta = Lanes::load(row, j, zero) - Lanes::load(shift, j, zero);
            (Lanes::load(d, j, zero) + delta).store(d, j);
            (Lanes::load(d2, j, zero) + delta * delta).store(d2, j);
            j += LANES;
        }
    }
}
