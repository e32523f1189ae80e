//! Cells cut into segments: the two kinds of passes, and each of them alone over all cells.
//!
//! A segment is a part of a cell, or of the rows of interleaved cells, that has one partial result.
//! The cut depends on the shape alone, so whoever reduces which segment, the partial results and
//! the order they are joined in are the same.

use std::ops::Range;

use super::activation::{Activation, Epilogue, NoEpilogue};
use super::columns::rows_per_chunk;
use super::dispatch::{Kernel, dispatch, vectorized};
use super::span::Prefetch;
use super::vectors::Vectors;
use super::{BLOCK, threads};
use crate::shape::Cells;

/// The values that are joined to one partial result before they meet others: the grain of work
/// inside a cell.
const SEGMENT: usize = 16 * BLOCK;

/// How many short cells are reduced together.
pub(super) const RUNS_AT_ONCE: usize = 8;

/// The most values of a short cell. The sums of a longer one take many steps, so that the next cell
/// need not wait for its result.
const SHORT: usize = 512;

/// A pass that reduces cells. Its functions become part of kernels, one for each epilogue, and must
/// be `#[inline(always)]`.
pub(super) trait Reduce: Sync {
    type Partial: Copy + Default + Send + Sync;
    /// Whether each cell's own result is asked for. If not, the cells of a set that lie side by
    /// side are reduced as one.
    const PER_CELL: bool;
    /// Whether it can run after an activation.
    const ACTIVATED: bool;
    fn join(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    /// The activation that follows the cells' maps.
    fn activation(&self) -> Activation;
    /// Reduces elements `range` of the tensor, a part of one cell.
    fn run<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        cell: usize,
    ) -> Self::Partial;
    /// Reduces several cells that are runs of memory of the same length, at most [`SHORT`].
    fn runs<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        ranges: [Range<usize>; RUNS_AT_ONCE],
        cells: [usize; RUNS_AT_ONCE],
    ) -> [Self::Partial; RUNS_AT_ONCE];
    /// Reduces rows of interleaved cells.
    fn rows<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        cells: Range<usize>,
    ) -> Vec<Self::Partial>;
}

/// A pass that maps elements with the coefficients of their cell. Its functions become part of
/// kernels, one for each epilogue, and must be `#[inline(always)]`.
pub(super) trait Apply: Sync {
    type Coefficients: Copy + Default + Send + Sync;
    /// Whether it writes bf16.
    const BF16: bool;
    /// The activation that follows the cells' maps.
    fn activation(&self) -> Activation;
    /// Maps elements `range` of the tensor, a part of one cell. The next pass needs the
    /// values `ahead` of it.
    fn run<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        cell: usize,
        coefficients: &Self::Coefficients,
        ahead: Prefetch,
    );
    /// Maps rows of interleaved cells, the first of which is `first_cell`. The next pass
    /// needs the values `ahead` of them.
    fn rows<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        first_cell: usize,
        coefficients: &[Self::Coefficients],
        ahead: Prefetch,
    );
    /// The memory to fetch while `elements` are mapped, where the next ones lie `distance` after
    /// them.
    fn ahead(&self, elements: usize, distance: usize) -> Prefetch;
    /// Ends what one thread mapped.
    fn written(&self);
}

/// Cells that are runs of memory, one after another, and where the numbers of each belong.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) cells: &'a Cells,
    pub(super) count: usize,
    /// The first of neighbouring cells, whose numbers are in the same order.
    pub(super) first_cell: usize,
    /// Of other cells, each with the place of its numbers.
    pub(super) places: &'a [(usize, usize)],
    /// The one segment of each cell that is meant, where it is not the whole cell.
    pub(super) segment: Option<usize>,
}

impl Order<'_> {
    /// The cell at number `i`, and the place of its numbers.
    #[inline(always)]
    fn place(&self, i: usize) -> (usize, usize) {
        if self.places.is_empty() { (self.first_cell + i, i) } else { self.places[i] }
    }
}

/// The partial result of every cell.
pub(super) fn reduce_all<R: Reduce>(reduce: &R, cells: &Cells) -> Vec<R::Partial> {
    let per_block = segments(cells);
    if per_block == 0 {
        return vec![R::Partial::default(); cells.count()];
    }
    let (items, weight) = (cells.outer * per_block, cells.block() / per_block);
    let parts = threads::map(items, weight, |items| reduce_segments(reduce, cells, items)).concat();
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
fn reduce_segments<R: Reduce>(reduce: &R, cells: &Cells, items: Range<usize>) -> Vec<R::Partial> {
    let per_block = segments(cells);
    let mut parts = Vec::new();
    if cells.inner > 1 {
        parts.reserve(items.len() * cells.inner);
        for item in items {
            parts.extend(reduce_rows(reduce, cells, item / per_block, item % per_block));
        }
        return parts;
    }
    parts.resize(items.len(), R::Partial::default());
    let order = Order { cells, count: 1, first_cell: 0, places: &[], segment: None };
    if per_block == 1 {
        let order = Order { count: items.len(), first_cell: items.start, ..order };
        reduce_cells(reduce, order, &mut parts);
        return parts;
    }
    for (item, part) in items.zip(&mut parts) {
        let segment = Some(item % per_block);
        let order = Order { first_cell: item / per_block, segment, ..order };
        reduce_cells(reduce, order, std::slice::from_mut(part));
    }
    parts
}

/// Maps every cell, the last ranges first: a reduction that came before has left these in the
/// cache.
pub(super) fn apply_all<A: Apply>(apply: &A, cells: &Cells, coefficients: &[A::Coefficients]) {
    let per_block = segments(cells);
    let items = cells.outer * per_block;
    threads::map(items, cells.block() / per_block.max(1), |range| {
        apply_segments(apply, cells, coefficients, items - range.end..items - range.start);
        apply.written();
    });
}

fn apply_segments<A: Apply>(
    apply: &A,
    cells: &Cells,
    coefficients: &[A::Coefficients],
    items: Range<usize>,
) {
    let (per_block, ahead) = (segments(cells), Prefetch::NONE);
    let order = Order { cells, count: 1, first_cell: 0, places: &[], segment: None };
    if cells.inner == 1 && per_block == 1 {
        let coefficients = &coefficients[items.clone()];
        let order = Order { count: items.len(), first_cell: items.start, ..order };
        return apply_cells(apply, order, coefficients, ahead, false);
    }
    let mut item = items.start;
    while item < items.end {
        let (o, i) = (item / per_block, item % per_block);
        let of_block = &coefficients[o * cells.inner..(o + 1) * cells.inner];
        if cells.inner == 1 {
            let order = Order { first_cell: o, segment: Some(i), ..order };
            apply_cells(apply, order, of_block, ahead, false);
            item += 1;
            continue;
        }
        // rows of the same cells in one go, since their coefficients are spread out first
        let count = (per_block - i).min(items.end - item);
        let range = segment(cells, o, i).start..segment(cells, o, i + count - 1).end;
        apply_rows(apply, range, o * cells.inner, of_block, ahead);
        item += count;
    }
}

/// Puts the partial results of cells to their places.
pub(super) fn reduce_cells<R: Reduce>(reduce: &R, order: Order<'_>, partials: &mut [R::Partial]) {
    match reduce.activation() {
        activation if R::ACTIVATED && activation != Activation::Identity => {
            dispatch(ReduceCells { reduce, epilogue: activation, order, partials });
        }
        _ => dispatch(ReduceCells { reduce, epilogue: NoEpilogue, order, partials }),
    }
}

struct ReduceCells<'a, R: Reduce, E> {
    reduce: &'a R,
    epilogue: E,
    order: Order<'a>,
    partials: &'a mut [R::Partial],
}

impl<R: Reduce, E: Epilogue> Kernel for ReduceCells<'_, R, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vectors>(self) {
        let Self { reduce, epilogue, order, partials } = self;
        let cells = order.cells;
        let mut next = 0;
        if order.segment.is_none() && cells.positions <= SHORT && cells.positions > 0 {
            while next + RUNS_AT_ONCE <= order.count {
                let mut of = [0; RUNS_AT_ONCE];
                let mut ranges = [const { 0..0 }; RUNS_AT_ONCE];
                for k in 0..RUNS_AT_ONCE {
                    of[k] = order.place(next + k).0;
                    ranges[k] = cells.range(of[k]);
                }
                for (k, partial) in
                    reduce.runs::<S, _>(epilogue, ranges, of).into_iter().enumerate()
                {
                    partials[order.place(next + k).1] = partial;
                }
                next += RUNS_AT_ONCE;
            }
        }
        let parts = order.segment.map_or(0..segments(cells), |segment| segment..segment + 1);
        while next < order.count {
            let (cell, place) = order.place(next);
            let mut all = R::Partial::default();
            for i in parts.clone() {
                let part = reduce.run::<S, _>(epilogue, segment(cells, cell, i), cell);
                all = if i == parts.start { part } else { R::join(all, part) };
            }
            partials[place] = all;
            next += 1;
        }
    }
}

/// The partial results of the cells of a block's segment.
pub(super) fn reduce_rows<R: Reduce>(
    reduce: &R,
    cells: &Cells,
    block: usize,
    i: usize,
) -> Vec<R::Partial> {
    let range = segment(cells, block, i);
    let cells = block * cells.inner..(block + 1) * cells.inner;
    match reduce.activation() {
        activation if R::ACTIVATED && activation != Activation::Identity => {
            dispatch(ReduceRows { reduce, epilogue: activation, range, cells })
        }
        _ => dispatch(ReduceRows { reduce, epilogue: NoEpilogue, range, cells }),
    }
}

struct ReduceRows<'a, R, E> {
    reduce: &'a R,
    epilogue: E,
    range: Range<usize>,
    cells: Range<usize>,
}

impl<R: Reduce, E: Epilogue> Kernel for ReduceRows<'_, R, E> {
    type Output = Vec<R::Partial>;

    #[inline(always)]
    fn run<S: Vectors>(self) -> Vec<R::Partial> {
        self.reduce.rows::<S, _>(self.epilogue, self.range, self.cells)
    }
}

/// Maps cells with the coefficients at their places; the last first, if `descending`.
pub(super) fn apply_cells<A: Apply>(
    apply: &A,
    order: Order<'_>,
    coefficients: &[A::Coefficients],
    ahead: Prefetch,
    descending: bool,
) {
    match apply.activation() {
        Activation::Identity => {
            let epilogue = NoEpilogue;
            dispatch(ApplyCells { apply, epilogue, order, coefficients, ahead, descending });
        }
        epilogue => {
            dispatch(ApplyCells { apply, epilogue, order, coefficients, ahead, descending });
        }
    }
}

struct ApplyCells<'a, A: Apply, E> {
    apply: &'a A,
    epilogue: E,
    order: Order<'a>,
    coefficients: &'a [A::Coefficients],
    ahead: Prefetch,
    descending: bool,
}

impl<A: Apply, E: Epilogue> Kernel for ApplyCells<'_, A, E> {
    type Output = ();
    const BF16: bool = A::BF16;

    #[inline(always)]
    fn run<S: Vectors>(self) {
        let Self { apply, epilogue, order, coefficients, ahead, descending } = self;
        let Order { cells, count, .. } = order;
        // the range of cell 0, moved by the cell at hand: no branch for each cell
        let Range { start, end } = match order.segment {
            None => cells.range(0),
            Some(i) => segment(cells, 0, i),
        };
        for i in 0..count {
            let (cell, place) = order.place(if descending { count - 1 - i } else { i });
            let moved = cell * cells.positions;
            let range = start + moved..end + moved;
            apply.run::<S, _>(epilogue, range, cell, &coefficients[place], ahead);
        }
    }
}

/// Maps rows of interleaved cells, the first of which is `first_cell`, with their coefficients.
pub(super) fn apply_rows<A: Apply>(
    apply: &A,
    range: Range<usize>,
    first_cell: usize,
    coefficients: &[A::Coefficients],
    ahead: Prefetch,
) {
    match apply.activation() {
        // without a distance the loop has a register more
        Activation::Identity if ahead.is_none() => {
            let (epilogue, ahead) = (NoEpilogue, NoPrefetch);
            dispatch(ApplyRows { apply, epilogue, range, first_cell, coefficients, ahead });
        }
        Activation::Identity => {
            let epilogue = NoEpilogue;
            dispatch(ApplyRows { apply, epilogue, range, first_cell, coefficients, ahead });
        }
        epilogue => {
            dispatch(ApplyRows { apply, epilogue, range, first_cell, coefficients, ahead });
        }
    }
}

/// No prefetch, known to the compiler.
struct NoPrefetch;

impl From<NoPrefetch> for Prefetch {
    #[inline(always)]
    fn from(_: NoPrefetch) -> Self {
        Self::NONE
    }
}

struct ApplyRows<'a, A: Apply, E, P> {
    apply: &'a A,
    epilogue: E,
    range: Range<usize>,
    first_cell: usize,
    coefficients: &'a [A::Coefficients],
    ahead: P,
}

impl<A: Apply, E: Epilogue, P: Into<Prefetch>> Kernel for ApplyRows<'_, A, E, P> {
    type Output = ();
    const BF16: bool = A::BF16;

    #[inline(always)]
    fn run<S: Vectors>(self) {
        let Self { apply, epilogue, range, first_cell, coefficients, ahead } = self;
        apply.rows::<S, _>(epilogue, range, first_cell, coefficients, ahead.into());
    }
}

/// Joins the partial results of a further row of cells to those of the rows before.
pub(super) fn join_rows<R: Reduce>(all: &mut [R::Partial], part: &[R::Partial]) {
    vectorized(
        #[inline(always)]
        || {
            for (all, part) in all.iter_mut().zip(part) {
                *all = R::join(*all, *part);
            }
        },
    );
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
