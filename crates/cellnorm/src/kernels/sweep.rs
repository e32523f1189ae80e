//! One sweep over a tensor: reduce its cells, let a table turn each set's partial results into
//! coefficients, apply them.
//!
//! ```text
//! if there are enough sets of runs of memory:        for each batch of sets, in parallel:
//!     partials = reduce the batch's cells
//!     coefficients = table(set, its partials) for each set
//!     apply the coefficients to the batch's cells, if large from the last to the first
//! else if no set reaches beyond its block of rows:   for each block, in parallel: the same
//! else:
//!     partials = reduce all cells, in parallel
//!     coefficients = table(set, its partials) for each set
//!     apply the coefficients to all cells, in parallel
//! ```
//!
//! In the first two orders the elementwise pass finds its data still in the cache. All orders give
//! the same bits: cells are always cut into the same segments, which are joined in index order.

use std::ops::Range;

use super::segments::{
    Apply, Order, Reduce, apply_all, apply_cells, apply_rows, join_rows, reduce_all, reduce_cells,
    reduce_rows, segment, segments,
};
use super::span::Prefetch;
use super::threads;
use crate::machine::Machine;
use crate::shape::{Cells, Sets};

/// From this many values, the cells of a set are mapped in descending order.
const DESCENDING_FROM: usize = 2048;

/// From the partial results of a set to the coefficients of its cells. Not generic: a kernel is not
/// compiled again for each table.
type Table<'a, P, C, Out> = dyn Fn(usize, &[P], &mut [C]) -> Out + Sync + 'a;

/// The results of a sweep.
pub(super) struct Swept<Out, P> {
    /// The results of the tables, by set.
    pub(super) results: Vec<Out>,
    /// The partial result of each cell, where the reduction is asked for them.
    pub(super) partials: Vec<P>,
}

/// Reduces, asks `table(set, partial results of the set, coefficients of its cells)` for each set,
/// and applies.
pub(super) fn sweep<R: Reduce, A: Apply, Out: Send + Default>(
    reduce: &R,
    apply: &A,
    cells: &Cells,
    sets: &Sets,
    table: &Table<'_, R::Partial, A::Coefficients, Out>,
) -> Swept<Out, R::Partial> {
    // sets whose cells lie side by side are cells of their own
    let whole = if R::PER_CELL { None } else { sets.as_cells(cells) };
    if cells.inner == 1 && threads::enough(sets.count()) {
        let weight = cells.len() / sets.count().max(1);
        let parts = threads::map(sets.count(), weight, |range| {
            SetSweep { reduce, apply, cells, sets, whole, table, range }.run()
        });
        return join_sets::<R, Out>(sets, parts);
    }
    if cells.inner > 1 && sets.within_blocks(cells) && threads::enough(cells.outer) {
        let parts = threads::map(cells.outer, cells.block(), |range| {
            BlockSweep { reduce, apply, cells, sets, table, range }.run()
        });
        let mut swept = Swept {
            results: (0..sets.count()).map(|_| Out::default()).collect(),
            partials: vec![],
        };
        for (results, partials) in parts {
            for (set, result) in results {
                swept.results[set] = result;
            }
            swept.partials.extend(partials);
        }
        return swept;
    }
    let partials = reduce_all(reduce, whole.as_ref().unwrap_or(cells));
    let mut coefficients = vec![A::Coefficients::default(); cells.count()];
    let mut results: Vec<Out> = (0..sets.count()).map(|_| Out::default()).collect();
    if whole.is_some() {
        for (set, partial) in partials.iter().enumerate() {
            let members = sets.members(set);
            let range = members[0] as usize..members[0] as usize + members.len();
            results[set] = table(set, std::slice::from_ref(partial), &mut coefficients[range]);
        }
    } else {
        for (set, result) in
            tables(cells, sets, 0..cells.outer, &partials, &mut coefficients, table)
        {
            results[set] = result;
        }
    }
    apply_all(apply, cells, &coefficients);
    Swept { results, partials }
}

/// Sets of cells that are runs of memory, a batch after another.
struct SetSweep<'a, R: Reduce, A: Apply, Out> {
    reduce: &'a R,
    apply: &'a A,
    cells: &'a Cells,
    sets: &'a Sets,
    whole: Option<Cells>,
    table: &'a Table<'a, R::Partial, A::Coefficients, Out>,
    range: Range<usize>,
}

impl<R: Reduce, A: Apply, Out> SetSweep<'_, R, A, Out> {
    /// The results of the tables, and the partial results of all cells, set after set.
    fn run(self) -> (Vec<Out>, Vec<R::Partial>) {
        let Self { reduce, apply, cells, sets, whole, table, range } = self;
        let mut results = Vec::with_capacity(range.len());
        let (mut partials, mut coefficients, mut places) = (Vec::new(), Vec::new(), Vec::new());
        // what was read last is nearest, but memory is fetched ahead in ascending order
        let descending = cells.positions >= DESCENDING_FROM;
        let size = sets.same_size();
        let neighbours = sets.side_by_side().is_some();
        let machine = Machine::current();
        // the results of one set need not wait for those of another
        let elements_at_once = if neighbours { machine.batch() } else { machine.batch_apart() };
        let sets_at_once =
            size.map_or(1, |size| elements_at_once.div_ceil((size * cells.positions).max(1)));
        // neighbours: the next batch; else the same cells of the channels after these
        let ahead = size.map_or(Prefetch::NONE, |size| {
            let elements = sets_at_once * size * cells.positions;
            apply
                .ahead(elements, if neighbours { elements } else { sets_at_once * cells.positions })
        });
        let mut next = range.start;
        while next < range.end {
            let batch = next..(next + sets_at_once).min(range.end);
            next = batch.end;
            let size = sets.members(batch.start).len();
            if !R::PER_CELL {
                partials.clear();
            }
            let first = partials.len();
            let parts = if whole.is_some() { 1 } else { size };
            partials.resize(first + parts * batch.len(), R::Partial::default());
            let count = size * batch.len();
            let first_cell = sets.members(batch.start).first().map_or(0, |cell| *cell as usize);
            if !neighbours {
                order_by_member(&mut places, sets, &batch, size);
            }
            let order = Order { cells, count, first_cell, places: &places, segment: None };
            let reduced = match &whole {
                Some(cells) => Order {
                    cells,
                    count: batch.len(),
                    first_cell: batch.start,
                    places: &[],
                    segment: None,
                },
                None => order,
            };
            reduce_cells(reduce, reduced, &mut partials[first..]);
            coefficients.clear();
            coefficients.resize(count, A::Coefficients::default());
            for (i, set) in batch.clone().enumerate() {
                let partials = &partials[first + i * parts..first + (i + 1) * parts];
                results.push(table(set, partials, &mut coefficients[i * size..(i + 1) * size]));
            }
            apply_cells(apply, order, &coefficients, ahead, descending);
        }
        apply.written();
        (results, partials)
    }
}

/// The cells of sets that are not neighbours, the first members of all sets before the second ones.
fn order_by_member(
    order: &mut Vec<(usize, usize)>,
    sets: &Sets,
    batch: &Range<usize>,
    size: usize,
) {
    order.clear();
    for member in 0..size {
        for (i, set) in batch.clone().enumerate() {
            order.push((sets.members(set)[member] as usize, i * size + member));
        }
    }
}

/// Brings the partial results of sets into the order of cells.
fn join_sets<R: Reduce, Out>(
    sets: &Sets,
    parts: Vec<(Vec<Out>, Vec<R::Partial>)>,
) -> Swept<Out, R::Partial> {
    let mut swept = Swept { results: Vec::with_capacity(sets.count()), partials: vec![] };
    if R::PER_CELL {
        swept.partials.resize(sets.of_cells().len(), R::Partial::default());
    }
    for (results, partials) in parts {
        if R::PER_CELL {
            let start = swept.results.len();
            let members = (start..start + results.len()).flat_map(|set| sets.members(set));
            for (cell, partial) in members.zip(&partials) {
                swept.partials[*cell as usize] = *partial;
            }
        }
        swept.results.extend(results);
    }
    swept
}

/// Blocks of interleaved cells, one after another; no set reaches beyond its block.
struct BlockSweep<'a, R: Reduce, A: Apply, Out> {
    reduce: &'a R,
    apply: &'a A,
    cells: &'a Cells,
    sets: &'a Sets,
    table: &'a Table<'a, R::Partial, A::Coefficients, Out>,
    range: Range<usize>,
}

impl<R: Reduce, A: Apply, Out> BlockSweep<'_, R, A, Out> {
    /// The results of the tables, and the partial results of all cells.
    fn run(self) -> (Vec<(usize, Out)>, Vec<R::Partial>) {
        let Self { reduce, apply, cells, sets, table, range } = self;
        let (mut results, mut all) = (Vec::new(), Vec::new());
        let mut coefficients = vec![A::Coefficients::default(); cells.inner];
        let ahead = apply.ahead(segment(cells, 0, 0).len(), cells.block());
        for o in range {
            coefficients.fill(A::Coefficients::default());
            let mut partials = reduce_rows(reduce, cells, o, 0);
            for i in 1..segments(cells) {
                join_rows::<R>(&mut partials, &reduce_rows(reduce, cells, o, i));
            }
            results.extend(tables(cells, sets, o..o + 1, &partials, &mut coefficients, table));
            for i in (0..segments(cells)).rev() {
                // the last one's memory is no longer needed when the next block begins
                let ahead = if i == 0 { ahead } else { Prefetch::NONE };
                let range = segment(cells, o, i);
                apply_rows(apply, range, o * cells.inner, &coefficients, ahead);
            }
            if R::PER_CELL {
                all.extend(partials);
            }
        }
        apply.written();
        (results, all)
    }
}

/// Runs the table of each set that has its first cell in outer blocks `blocks`; partials and
/// coefficients are those of the blocks' cells.
fn tables<P: Copy, C: Copy + Default, Out>(
    cells: &Cells,
    sets: &Sets,
    blocks: Range<usize>,
    partials: &[P],
    coefficients: &mut [C],
    table: &Table<'_, P, C, Out>,
) -> Vec<(usize, Out)> {
    let range = blocks.start * cells.inner..blocks.end * cells.inner;
    if let Some(size) = sets.side_by_side() {
        let first = range.start / size;
        let of_sets = partials.chunks(size).zip(coefficients.chunks_mut(size)).zip(first..);
        return of_sets
            .map(|((partials, coefficients), set)| (set, table(set, partials, coefficients)))
            .collect();
    }
    let (mut set_partials, mut out, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for (cell, set) in range.clone().zip(&sets.of_cells()[range.clone()]) {
        let members = sets.members(*set as usize);
        if members[0] as usize != cell {
            continue;
        }
        set_partials.clear();
        set_partials.extend(members.iter().map(|member| partials[*member as usize - range.start]));
        out.clear();
        out.resize(members.len(), C::default());
        results.push((*set as usize, table(*set as usize, &set_partials, &mut out)));
        for (member, coefficients_of) in members.iter().zip(&out) {
            coefficients[*member as usize - range.start] = *coefficients_of;
        }
    }
    results
}
