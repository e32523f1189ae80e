//! One sweep over a tensor: reduce its cells, let a table turn each set's partial results into coefficients, apply them.
//!
//! Sets are finished one after another where they can be, so that the elementwise pass finds its data still in the cache, the
//! part that was read last first. Where there are fewer sets than threads, or sets that reach across interleaved samples, all
//! cells are reduced before the first is written. Both orders give the same bits: a cell is always cut into the same segments,
//! which are joined in index order.

use std::ops::Range;

use super::{BLOCK, CHUNK, threads};
use crate::cells::{Cells, Sets};

/// The values that are joined to one partial result before they meet others: the grain of work inside a cell.
const SEGMENT: usize = 16 * BLOCK;

/// A pass that reduces cells.
pub(super) trait Reduce: Sync {
    type Partial: Copy + Default + Send + Sync;
    fn join(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    /// Reduces elements `range` of the tensor, a part of one cell.
    fn run(&self, range: Range<usize>, cell: usize) -> Self::Partial;
    /// Reduces rows of `inner` interleaved cells, the first of which is `first_cell`.
    fn rows(&self, range: Range<usize>, first_cell: usize, inner: usize) -> Vec<Self::Partial>;
}

/// A pass that maps elements with the coefficients of their cell.
pub(super) trait Apply: Sync {
    type Coefficients: Copy + Default + Send + Sync;
    /// Maps elements `range` of the tensor, a part of one cell.
    fn run(&self, range: Range<usize>, cell: usize, coefficients: &Self::Coefficients);
    /// Maps rows of interleaved cells, the first of which is `first_cell`.
    fn rows(&self, range: Range<usize>, first_cell: usize, coefficients: &[Self::Coefficients]);
}

/// Reduces, asks `table(set, partials of its cells, their coefficients)` for each set, and applies; returns the tables'
/// results by set.
pub(super) fn sweep<R, A, S>(
    reduce: &R,
    apply: &A,
    cells: &Cells,
    sets: &Sets,
    table: impl Fn(usize, &[R::Partial], &mut [A::Coefficients]) -> S + Sync,
) -> Vec<S>
where
    R: Reduce,
    A: Apply,
    S: Send + Default,
{
    if cells.inner == 1 && threads::enough(sets.count()) {
        return threads::map(sets.count(), cells.len() / sets.count().max(1), |set| {
            let members = sets.members(set);
            let partials: Vec<_> = members.iter().map(|cell| run(reduce, cells, *cell as usize)).collect();
            let mut coefficients = vec![A::Coefficients::default(); members.len()];
            let result = table(set, &partials, &mut coefficients);
            for (cell, coefficients) in members.iter().zip(&coefficients).rev() {
                apply.run(cells.range(*cell as usize), *cell as usize, coefficients);
            }
            result
        });
    }
    let mut results: Vec<S> = (0..sets.count()).map(|_| S::default()).collect();
    if cells.inner > 1 && sets.within_blocks(cells) && threads::enough(cells.outer) {
        let of_blocks = threads::map(cells.outer, cells.block(), |o| {
            let first_cell = o * cells.inner;
            let partials = block(reduce, cells, o);
            let mut coefficients = vec![A::Coefficients::default(); cells.inner];
            let of_block = tables(cells, sets, o..o + 1, &partials, &mut coefficients, &table);
            for i in (0..segments(cells)).rev() {
                apply.rows(segment(cells, o, i), first_cell, &coefficients);
            }
            of_block
        });
        for (set, result) in of_blocks.into_iter().flatten() {
            results[set] = result;
        }
        return results;
    }
    let partials = reduce_all(reduce, cells);
    let mut coefficients = vec![A::Coefficients::default(); cells.count()];
    for (set, result) in tables(cells, sets, 0..cells.outer, &partials, &mut coefficients, &table) {
        results[set] = result;
    }
    apply_all(apply, cells, &coefficients);
    results
}

/// Runs the table of each set that has its first cell in outer blocks `blocks`; partials and coefficients are those of the
/// blocks' cells.
fn tables<P: Copy, C: Copy + Default, S>(
    cells: &Cells,
    sets: &Sets,
    blocks: Range<usize>,
    partials: &[P],
    coefficients: &mut [C],
    table: impl Fn(usize, &[P], &mut [C]) -> S,
) -> Vec<(usize, S)> {
    let range = blocks.start * cells.inner..blocks.end * cells.inner;
    let (mut of_set, mut out, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for (cell, set) in range.clone().zip(&sets.of_cells()[range.clone()]) {
        let members = sets.members(*set as usize);
        if members[0] as usize != cell {
            continue;
        }
        of_set.clear();
        of_set.extend(members.iter().map(|member| partials[*member as usize - range.start]));
        out.clear();
        out.resize(members.len(), C::default());
        results.push((*set as usize, table(*set as usize, &of_set, &mut out)));
        for (member, coefficients_of) in members.iter().zip(&out) {
            coefficients[*member as usize - range.start] = *coefficients_of;
        }
    }
    results
}

/// The partial result of every cell.
pub(super) fn reduce_all<R: Reduce>(reduce: &R, cells: &Cells) -> Vec<R::Partial> {
    let per_block = segments(cells);
    if per_block == 0 {
        return vec![R::Partial::default(); cells.count()];
    }
    let (items, weight) = (cells.outer * per_block, cells.block() / per_block);
    if cells.inner == 1 {
        let parts = threads::map(items, weight, |item| {
            let cell = item / per_block;
            reduce.run(segment(cells, cell, item % per_block), cell)
        });
        let join = |parts: &[R::Partial]| parts.iter().copied().fold(R::Partial::default(), R::join);
        return parts.chunks(per_block).map(join).collect();
    }
    let parts = threads::map(items, weight, |item| {
        let o = item / per_block;
        reduce.rows(segment(cells, o, item % per_block), o * cells.inner, cells.inner)
    });
    parts.chunks(per_block).flat_map(|parts| join_rows::<R>(cells.inner, parts.iter().cloned())).collect()
}

/// Maps every cell.
pub(super) fn apply_all<A: Apply>(apply: &A, cells: &Cells, coefficients: &[A::Coefficients]) {
    let per_block = segments(cells);
    threads::for_each(cells.outer * per_block, cells.block() / per_block.max(1), |item| {
        let o = item / per_block;
        let part = segment(cells, o, item % per_block);
        if cells.inner == 1 {
            apply.run(part, o, &coefficients[o]);
        } else {
            let first_cell = o * cells.inner;
            apply.rows(part, first_cell, &coefficients[first_cell..first_cell + cells.inner]);
        }
    });
}

/// The partial result of one cell that is a run of memory.
fn run<R: Reduce>(reduce: &R, cells: &Cells, cell: usize) -> R::Partial {
    let parts = (0..segments(cells)).map(|i| reduce.run(segment(cells, cell, i), cell));
    parts.fold(R::Partial::default(), R::join)
}

/// The partial results of the interleaved cells of outer block `o`.
fn block<R: Reduce>(reduce: &R, cells: &Cells, o: usize) -> Vec<R::Partial> {
    let rows = |i| reduce.rows(segment(cells, o, i), o * cells.inner, cells.inner);
    join_rows::<R>(cells.inner, (0..segments(cells)).map(rows))
}

fn join_rows<R: Reduce>(inner: usize, parts: impl Iterator<Item = Vec<R::Partial>>) -> Vec<R::Partial> {
    parts.fold(vec![R::Partial::default(); inner], |mut all, part| {
        for (all, part) in all.iter_mut().zip(part) {
            *all = R::join(*all, part);
        }
        all
    })
}

/// The number of segments an outer block is cut into.
fn segments(cells: &Cells) -> usize {
    cells.block().div_ceil(segment_len(cells))
}

/// Segment `i` of outer block `o`: whole rows, by the shape alone.
fn segment(cells: &Cells, o: usize, i: usize) -> Range<usize> {
    let (block, step) = (cells.range(o), segment_len(cells));
    let start = block.start + i * step;
    start..(start + step).min(block.end)
}

fn segment_len(cells: &Cells) -> usize {
    if cells.inner == 1 {
        return SEGMENT;
    }
    // whole chunks even where 16 rows are taken as one
    (SEGMENT / cells.inner.max(1)).max(1).next_multiple_of(16 * CHUNK) * cells.inner.max(1)
}
