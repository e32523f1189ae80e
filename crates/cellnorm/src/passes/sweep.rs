//! One sweep over a tensor: reduce its cells, let a table turn each set's partial results into coefficients, apply them.
//!
//! Sets are finished one after another, small ones a batch after another, where they can be, so that the elementwise pass finds its data still in the cache, the
//! part that was read last first. Where there are fewer sets than threads, or sets that reach across interleaved samples, all
//! cells are reduced before the first is written. Both orders give the same bits: cells are always cut into the same segments,
//! which are joined in index order.

use std::ops::Range;

use super::columns::rows_per_chunk;
use super::dispatch::{Kernel, dispatch};
use super::{BLOCK, threads};
use crate::cells::{Cells, Sets};

/// The values that are joined to one partial result before they meet others: the grain of work inside a cell.
const SEGMENT: usize = 16 * BLOCK;

/// From this many values, the cells of a set are mapped in descending order.
const BACKWARDS_FROM: usize = 2048;

/// Small sets are taken together, about this many values, as many as a thread takes at a time: the results of one need not wait for those of another, and cells of
/// neighbouring channels, which are neighbours in memory, are read in one go.
const TOGETHER: usize = 16 << 10;

/// A pass that reduces cells. Its functions become part of kernels and must be `#[inline(always)]`.
pub(super) trait Reduce: Sync {
    type Partial: Copy + Default + Send + Sync;
    /// Whether each cell's own result is asked for. If not, the cells of a set that lie side by side are reduced as one.
    const OF_CELLS: bool;
    fn join(a: Self::Partial, b: Self::Partial) -> Self::Partial;
    /// Reduces elements `range` of the tensor, a part of one cell.
    fn run(&self, range: Range<usize>, cell: usize) -> Self::Partial;
    /// Reduces rows of `inner` interleaved cells, the first of which is `first_cell`.
    fn rows(&self, range: Range<usize>, first_cell: usize, inner: usize) -> Vec<Self::Partial>;
}

/// A pass that maps elements with the coefficients of their cell. Its functions become part of kernels and must be
/// `#[inline(always)]`.
pub(super) trait Apply: Sync {
    type Coefficients: Copy + Default + Send + Sync;
    /// Maps elements `range` of the tensor, a part of one cell. What lies `ahead` of it is needed next, where that is not 0.
    fn run(&self, range: Range<usize>, cell: usize, coefficients: &Self::Coefficients, ahead: usize);
    /// Maps rows of interleaved cells, the first of which is `first_cell`.
    fn rows(&self, range: Range<usize>, first_cell: usize, coefficients: &[Self::Coefficients]);
    /// Ends what one thread mapped.
    fn written(&self);
}

/// From the partial results of a set to the coefficients of its cells. Not generic: a kernel is not compiled again for each table.
type Table<'a, P, C, S> = dyn Fn(usize, &[P], &mut [C]) -> S + Sync + 'a;

/// What a sweep leaves behind.
pub(super) struct Swept<S, P> {
    /// What the tables returned, by set.
    pub(super) of_sets: Vec<S>,
    /// The partial result of each cell, where the reduction is asked for them.
    pub(super) of_cells: Vec<P>,
}

/// Reduces, asks `table(set, partial results of the set, coefficients of its cells)` for each set, and applies.
pub(super) fn sweep<R: Reduce, A: Apply, S: Send + Default>(
    reduce: &R,
    apply: &A,
    cells: &Cells,
    sets: &Sets,
    table: &Table<'_, R::Partial, A::Coefficients, S>,
) -> Swept<S, R::Partial> {
    // sets whose cells lie side by side are cells of their own
    let whole = if R::OF_CELLS { None } else { sets.as_cells(cells) };
    if cells.inner == 1 && threads::enough(sets.count()) {
        let weight = cells.len() / sets.count().max(1);
        let parts = threads::map(sets.count(), weight, |range| {
            dispatch(OfSets { reduce, apply, cells, sets, whole, table, range })
        });
        return join_sets::<R, S>(sets, parts);
    }
    if cells.inner > 1 && sets.within_blocks(cells) && threads::enough(cells.outer) {
        let parts = threads::map(cells.outer, cells.block(), |range| {
            dispatch(OfBlocks { reduce, apply, cells, sets, table, range })
        });
        let mut swept = Swept { of_sets: (0..sets.count()).map(|_| S::default()).collect(), of_cells: vec![] };
        for (of_sets, of_cells) in parts {
            for (set, result) in of_sets {
                swept.of_sets[set] = result;
            }
            swept.of_cells.extend(of_cells);
        }
        return swept;
    }
    let partials = reduce_all(reduce, whole.as_ref().unwrap_or(cells));
    let mut coefficients = vec![A::Coefficients::default(); cells.count()];
    let mut of_sets: Vec<S> = (0..sets.count()).map(|_| S::default()).collect();
    if whole.is_some() {
        for (set, partial) in partials.iter().enumerate() {
            let members = sets.members(set);
            let range = members[0] as usize..members[0] as usize + members.len();
            of_sets[set] = table(set, std::slice::from_ref(partial), &mut coefficients[range]);
        }
    } else {
        for (set, result) in tables(cells, sets, 0..cells.outer, &partials, &mut coefficients, table) {
            of_sets[set] = result;
        }
    }
    apply_all(apply, cells, &coefficients);
    Swept { of_sets, of_cells: partials }
}

/// Sets of cells that are runs of memory, a batch after another.
struct OfSets<'a, R: Reduce, A: Apply, S> {
    reduce: &'a R,
    apply: &'a A,
    cells: &'a Cells,
    sets: &'a Sets,
    whole: Option<Cells>,
    table: &'a Table<'a, R::Partial, A::Coefficients, S>,
    range: Range<usize>,
}

impl<R: Reduce, A: Apply, S> Kernel for OfSets<'_, R, A, S> {
    /// What the tables returned, and the partial results of all cells, set after set.
    type Output = (Vec<S>, Vec<R::Partial>);

    #[inline(always)]
    fn run(self) -> Self::Output {
        let Self { reduce, apply, cells, sets, whole, table, range } = self;
        let mut results = Vec::with_capacity(range.len());
        let (mut partials, mut coefficients) = (Vec::new(), Vec::new());
        // what was read last is nearest, but memory is fetched ahead in ascending order
        let backwards = cells.positions >= BACKWARDS_FROM;
        let size = sets.same_size();
        let together = size.map_or(1, |size| TOGETHER.div_ceil((size * cells.positions).max(1)));
        let neighbours = sets.side_by_side();
        let ahead = if neighbours { together * size.unwrap_or(0) * cells.positions } else { 0 };
        let mut next = range.start;
        while next < range.end {
            let batch = next..(next + together).min(range.end);
            next = batch.end;
            let size = sets.members(batch.start).len();
            if !R::OF_CELLS {
                partials.clear();
            }
            let first = partials.len();
            let parts = if whole.is_some() { 1 } else { size };
            partials.resize(first + parts * batch.len(), R::Partial::default());
            let (rows, columns) = if neighbours { (batch.len(), parts) } else { (parts, batch.len()) };
            for row in 0..rows {
                for column in 0..columns {
                    let (i, at) = if neighbours { (row, column) } else { (column, row) };
                    let set = batch.start + i;
                    partials[first + i * parts + at] = match &whole {
                        Some(whole) => run(reduce, whole, set),
                        None => run(reduce, cells, sets.members(set)[at] as usize),
                    };
                }
            }
            coefficients.clear();
            coefficients.resize(size * batch.len(), A::Coefficients::default());
            for (i, set) in batch.clone().enumerate() {
                let partials = &partials[first + i * parts..first + (i + 1) * parts];
                results.push(table(set, partials, &mut coefficients[i * size..(i + 1) * size]));
            }
            let (rows, columns) = if neighbours { (batch.len(), size) } else { (size, batch.len()) };
            for row in 0..rows {
                for column in 0..columns {
                    let (i, at) = if neighbours { (row, column) } else { (column, row) };
                    let at = if backwards { size - 1 - at } else { at };
                    let cell = sets.members(batch.start + i)[at] as usize;
                    apply.run(cells.range(cell), cell, &coefficients[i * size + at], ahead);
                }
            }
        }
        apply.written();
        (results, partials)
    }
}

/// Brings the partial results of sets into the order of cells.
fn join_sets<R: Reduce, S>(sets: &Sets, parts: Vec<(Vec<S>, Vec<R::Partial>)>) -> Swept<S, R::Partial> {
    let mut swept = Swept { of_sets: Vec::with_capacity(sets.count()), of_cells: vec![] };
    if R::OF_CELLS {
        swept.of_cells.resize(sets.of_cells().len(), R::Partial::default());
    }
    for (of_sets, partials) in parts {
        if R::OF_CELLS {
            let start = swept.of_sets.len();
            let members = (start..start + of_sets.len()).flat_map(|set| sets.members(set));
            for (cell, partial) in members.zip(&partials) {
                swept.of_cells[*cell as usize] = *partial;
            }
        }
        swept.of_sets.extend(of_sets);
    }
    swept
}

/// Blocks of interleaved cells, one after another; no set reaches beyond its block.
struct OfBlocks<'a, R: Reduce, A: Apply, S> {
    reduce: &'a R,
    apply: &'a A,
    cells: &'a Cells,
    sets: &'a Sets,
    table: &'a Table<'a, R::Partial, A::Coefficients, S>,
    range: Range<usize>,
}

impl<R: Reduce, A: Apply, S> Kernel for OfBlocks<'_, R, A, S> {
    /// What the tables returned, and the partial results of all cells.
    type Output = (Vec<(usize, S)>, Vec<R::Partial>);

    #[inline(always)]
    fn run(self) -> Self::Output {
        let Self { reduce, apply, cells, sets, table, range } = self;
        let (mut results, mut all) = (Vec::new(), Vec::new());
        let mut coefficients = vec![A::Coefficients::default(); cells.inner];
        for o in range {
            coefficients.fill(A::Coefficients::default());
            let first_cell = o * cells.inner;
            let mut partials = reduce.rows(segment(cells, o, 0), first_cell, cells.inner);
            for i in 1..segments(cells) {
                join_rows::<R>(&mut partials, &reduce.rows(segment(cells, o, i), first_cell, cells.inner));
            }
            results.extend(tables(cells, sets, o..o + 1, &partials, &mut coefficients, table));
            for i in (0..segments(cells)).rev() {
                apply.rows(segment(cells, o, i), first_cell, &coefficients);
            }
            if R::OF_CELLS {
                all.extend(partials);
            }
        }
        apply.written();
        (results, all)
    }
}

/// Runs the table of each set that has its first cell in outer blocks `blocks`; partials and coefficients are those of the
/// blocks' cells.
fn tables<P: Copy, C: Copy + Default, S>(
    cells: &Cells,
    sets: &Sets,
    blocks: Range<usize>,
    partials: &[P],
    coefficients: &mut [C],
    table: &Table<'_, P, C, S>,
) -> Vec<(usize, S)> {
    let range = blocks.start * cells.inner..blocks.end * cells.inner;
    if let Some(size) = sets.same_size().filter(|_| sets.side_by_side()) {
        let first = range.start / size;
        let of_sets = partials.chunks(size).zip(coefficients.chunks_mut(size)).zip(first..);
        return of_sets.map(|((partials, coefficients), set)| (set, table(set, partials, coefficients))).collect();
    }
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
    let parts = threads::map(items, weight, |items| dispatch(Segments { reduce, cells, items })).concat();
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

/// The partial results of segments, one after another: one number for a cell that is a run of memory, else a row of them.
struct Segments<'a, R> {
    reduce: &'a R,
    cells: &'a Cells,
    items: Range<usize>,
}

impl<R: Reduce> Kernel for Segments<'_, R> {
    type Output = Vec<R::Partial>;

    #[inline(always)]
    fn run(self) -> Vec<R::Partial> {
        let Self { reduce, cells, items } = self;
        let per_block = segments(cells);
        let mut parts = Vec::with_capacity(items.len() * cells.inner);
        for item in items {
            let (o, i) = (item / per_block, item % per_block);
            if cells.inner == 1 {
                parts.push(reduce.run(segment(cells, o, i), o));
            } else {
                parts.extend(reduce.rows(segment(cells, o, i), o * cells.inner, cells.inner));
            }
        }
        parts
    }
}

/// Maps every cell, the last ranges first: a reduction that came before has left these in the cache.
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

    #[inline(always)]
    fn run(self) {
        let Self { apply, cells, coefficients, items } = self;
        let per_block = segments(cells);
        for item in items {
            let o = item / per_block;
            let part = segment(cells, o, item % per_block);
            if cells.inner == 1 {
                apply.run(part, o, &coefficients[o], 0);
            } else {
                let first_cell = o * cells.inner;
                apply.rows(part, first_cell, &coefficients[first_cell..first_cell + cells.inner]);
            }
        }
        apply.written();
    }
}

/// The partial result of one cell that is a run of memory.
#[inline(always)]
fn run<R: Reduce>(reduce: &R, cells: &Cells, cell: usize) -> R::Partial {
    let mut all = reduce.run(segment(cells, cell, 0), cell);
    for i in 1..segments(cells) {
        all = R::join(all, reduce.run(segment(cells, cell, i), cell));
    }
    all
}

/// Joins the partial results of a further row of cells to those of the rows before.
#[inline(always)]
fn join_rows<R: Reduce>(all: &mut [R::Partial], part: &[R::Partial]) {
    for (all, part) in all.iter_mut().zip(part) {
        *all = R::join(*all, *part);
    }
}

/// The number of segments an outer block is cut into.
#[inline]
fn segments(cells: &Cells) -> usize {
    cells.block().div_ceil(segment_len(cells))
}

/// Segment `i` of outer block `o`: whole rows, by the shape alone.
#[inline]
fn segment(cells: &Cells, o: usize, i: usize) -> Range<usize> {
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
