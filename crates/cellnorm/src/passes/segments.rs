//! Cells cut into segments: the two kinds of passes, and each of them alone over all cells.
//!
//! A segment is a part of a cell, or of the rows of interleaved cells, that has one partial result.
//! The cut depends on the shape alone, so whoever reduces which segment, the partial results and
//! the order they are joined in are the same.

use std::ops::Range;

use super::columns::rows_per_chunk;
use super::dispatch::{Kernel, dispatch};
use super::span::Ahead;
use super::vectors::Vectors;
use super::{BLOCK, threads};
use crate::shape::Cells;

/// The values that are joined to one partial result before they meet others: the grain of work
/// inside a cell.
const SEGMENT: usize = 16 * BLOCK;

/// How many short cells are reduced together.
pub(super) const TOGETHER: usize = 8;

/// The most values of a short cell. The sums of a longer one take many steps, so that the next cell
/// need not wait for its result.
const SHORT: usize = 512;

/// A pass that reduces cells. Its functions become part of kernels and must be `#[inline(always)]`.
pub(super) trait Reduce: Sync {
    type Partial: Copy + Default + Send + Sync;
    /// Whether each cell's own result is asked for. If not, the cells of a set that lie side by
    /// side are reduced as one.
    const OF_CELLS: bool;
    fn join(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    /// Reduces elements `range` of the tensor, a part of one cell.
    fn run<S: Vectors>(&self, range: Range<usize>, cell: usize) -> Self::Partial;
    /// Reduces several cells that are runs of memory of the same length, at most [`SHORT`].
    fn runs<S: Vectors>(
        &self,
        ranges: [Range<usize>; TOGETHER],
        cells: [usize; TOGETHER],
    ) -> [Self::Partial; TOGETHER];
    /// Reduces rows of `inner` interleaved cells, the first of which is `first_cell`.
    fn rows<S: Vectors>(
        &self,
        range: Range<usize>,
        first_cell: usize,
        inner: usize,
    ) -> Vec<Self::Partial>;
}

/// A pass that maps elements with the coefficients of their cell. Its functions become part of
/// kernels and must be `#[inline(always)]`.
pub(super) trait Apply: Sync {
    type Coefficients: Copy + Default + Send + Sync;
    /// Whether it writes bf16.
    const BF16: bool;
    /// Maps elements `range` of the tensor, a part of one cell. What lies `ahead` of it is needed
    /// next.
    fn run<S: Vectors>(
        &self,
        range: Range<usize>,
        cell: usize,
        coefficients: &Self::Coefficients,
        ahead: Ahead,
    );
    /// Maps rows of interleaved cells, the first of which is `first_cell`. What lies `ahead` of
    /// them is needed next.
    fn rows<S: Vectors>(
        &self,
        range: Range<usize>,
        first_cell: usize,
        coefficients: &[Self::Coefficients],
        ahead: Ahead,
    );
    /// The memory to fetch while `elements` are mapped, where the next ones lie `distance` after
    /// them.
    fn ahead(&self, elements: usize, distance: usize) -> Ahead;
    /// Ends what one thread mapped.
    fn written(&self);
}

/// The partial result of every cell.
pub(super) fn reduce_all<R: Reduce>(reduce: &R, cells: &Cells) -> Vec<R::Partial> {
    let per_block = segments(cells);
    if per_block == 0 {
        return vec![R::Partial::default(); cells.count()];
    }
    let (items, weight) = (cells.outer * per_block, cells.block() / per_block);
    let parts =
        threads::map(items, weight, |items| dispatch(Segments { reduce, cells, items })).concat();
    if per_block == 1 {
        return parts;
    }
    let mut all = Vec::with_capacity(cells.count());
    for of_block in parts.chunks(per_block * cells.inner) {
        let first = all.len();
        all.extend_from_slice(&of_block[..cells.inner]);
        for part in of_block[cells.inner..].chunks(cells.inner) {
            join_rows::<R>(&mut all[first..], part);
        }
    }
    all
}

/// The partial results of segments, one after another: one number for a cell that is a run of
/// memory, else a row of them.
struct Segments<'a, R> {
    reduce: &'a R,
    cells: &'a Cells,
    items: Range<usize>,
}

impl<R: Reduce> Kernel for Segments<'_, R> {
    type Output = Vec<R::Partial>;

    #[inline(always)]
    fn run<S: Vectors>(self) -> Vec<R::Partial> {
        let Self { reduce, cells, items } = self;
        let per_block = segments(cells);
        let mut parts = Vec::with_capacity(items.len() * cells.inner);
        if cells.inner == 1 && per_block == 1 {
            runs::<S, _>(
                reduce,
                cells,
                items.len(),
                #[inline(always)]
                |i| items.start + i,
                #[inline(always)]
                |_, part| parts.push(part),
            );
            return parts;
        }
        for item in items {
            let (o, i) = (item / per_block, item % per_block);
            if cells.inner == 1 {
                parts.push(reduce.run::<S>(segment(cells, o, i), o));
            } else {
                parts.extend(reduce.rows::<S>(segment(cells, o, i), o * cells.inner, cells.inner));
            }
        }
        parts
    }
}

/// Maps every cell, the last ranges first: a reduction that came before has left these in the
/// cache.
pub(super) fn apply_all<A: Apply>(apply: &A, cells: &Cells, coefficients: &[A::Coefficients]) {
    let per_block = segments(cells);
    let items = cells.outer * per_block;
    threads::map(items, cells.block() / per_block.max(1), |range| {
        let items = items - range.end..items - range.start;
        dispatch(MapSegments { apply, cells, coefficients, items });
    });
}

struct MapSegments<'a, A: Apply> {
    apply: &'a A,
    cells: &'a Cells,
    coefficients: &'a [A::Coefficients],
    items: Range<usize>,
}

impl<A: Apply> Kernel for MapSegments<'_, A> {
    type Output = ();
    const BF16: bool = A::BF16;

    #[inline(always)]
    fn run<S: Vectors>(self) {
        let Self { apply, cells, coefficients, items } = self;
        let per_block = segments(cells);
        if cells.inner == 1 && per_block == 1 {
            for o in items {
                apply.run::<S>(cells.range(o), o, &coefficients[o], Ahead::NOTHING);
            }
            return apply.written();
        }
        for item in items {
            let o = item / per_block;
            let part = segment(cells, o, item % per_block);
            if cells.inner == 1 {
                apply.run::<S>(part, o, &coefficients[o], Ahead::NOTHING);
            } else {
                let first_cell = o * cells.inner;
                apply.rows::<S>(
                    part,
                    first_cell,
                    &coefficients[first_cell..first_cell + cells.inner],
                    Ahead::NOTHING,
                );
            }
        }
        apply.written();
    }
}

/// The partial result of one cell that is a run of memory.
#[inline(always)]
pub(super) fn run<S: Vectors, R: Reduce>(reduce: &R, cells: &Cells, cell: usize) -> R::Partial {
    let mut all = reduce.run::<S>(segment(cells, cell, 0), cell);
    for i in 1..segments(cells) {
        all = R::join(all, reduce.run::<S>(segment(cells, cell, i), cell));
    }
    all
}

/// The partial results of `count` cells that are runs of memory: `put(i, result of cell(i))`, in
/// order.
#[inline(always)]
pub(super) fn runs<S: Vectors, R: Reduce>(
    reduce: &R,
    cells: &Cells,
    count: usize,
    cell: impl Fn(usize) -> usize,
    mut put: impl FnMut(usize, R::Partial),
) {
    let mut next = 0;
    if cells.positions <= SHORT && cells.positions > 0 {
        while next + TOGETHER <= count {
            let mut of = [0; TOGETHER];
            let mut ranges = [const { 0..0 }; TOGETHER];
            for k in 0..TOGETHER {
                of[k] = cell(next + k);
                ranges[k] = cells.range(of[k]);
            }
            for (k, partial) in reduce.runs::<S>(ranges, of).into_iter().enumerate() {
                put(next + k, partial);
            }
            next += TOGETHER;
        }
    }
    while next < count {
        put(next, run::<S, _>(reduce, cells, cell(next)));
        next += 1;
    }
}

/// Joins the partial results of a further row of cells to those of the rows before.
#[inline(always)]
pub(super) fn join_rows<R: Reduce>(all: &mut [R::Partial], part: &[R::Partial]) {
    for (all, part) in all.iter_mut().zip(part) {
        *all = R::join(*all, *part);
    }
}

/// The number of segments an outer block is cut into.
#[inline]
pub(super) fn segments(cells: &Cells) -> usize {
    cells.block().div_ceil(segment_len(cells))
}

/// Segment `i` of outer block `o`: whole rows, by the shape alone.
#[inline]
pub(super) fn segment(cells: &Cells, o: usize, i: usize) -> Range<usize> {
    let (block, step) = (cells.range(o), segment_len(cells));
    let start = block.start + i * step;
    start..(start + step).min(block.end)
}

#[inline]
fn segment_len(cells: &Cells) -> usize {
    if cells.inner == 1 {
        return SEGMENT;
    }
    let inner = cells.inner.max(1);
    (SEGMENT / inner).max(1).next_multiple_of(rows_per_chunk(inner)) * inner
}
