//! Shares items of work among rayon's threads, or does small work on the spot.
//!
//! Items are cut by the tensor's shape alone and results come back in item order, so neither the
//! number of threads nor who does which item changes a bit. The calling thread takes part: it
//! starts at once, while the others wake up, and everyone takes the next few items until none are
//! left.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fork_join;
use crate::machine::Machine;

/// How many elements the calling thread does alone. (Miri takes a second for a hundred, and shall
/// see threads.)
fn alone_below() -> usize {
    if cfg!(miri) { 1 << 4 } else { Machine::current().alone_below() }
}

/// How many of `items` of `weight` elements a thread takes at a time: an equal share of as many
/// tasks for each thread.
fn step(items: usize, weight: usize) -> usize {
    let (elements, threads) = (items * weight, rayon::current_num_threads());
    let task = if cfg!(miri) { 1 << 3 } else { Machine::current().task(elements, threads) };
    let tasks = elements.div_ceil(task).max(1).next_multiple_of(threads);
    items.div_ceil(tasks).max(1)
}

/// Maps items `0..items`, each of about `weight` elements, a range of them at a time and in
/// parallel where that pays; results are in the order of the items.
pub(super) fn map<R: Send>(
    items: usize,
    weight: usize,
    f: impl Fn(Range<usize>) -> R + Sync,
) -> Vec<R> {
    let step = step(items, weight);
    let others = others(items, step, items * weight);
    if others == 0 {
        return vec![f(0..items)];
    }
    let parts = Mutex::new(Vec::with_capacity(items.div_ceil(step)));
    share(items, step, others, |range| {
        let part = (range.start, f(range));
        lock(&parts).push(part);
    });
    let mut parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.sort_unstable_by_key(|(start, _)| *start);
    parts.into_iter().map(|(_, result)| result).collect()
}

/// Fills each `len` elements of `target`, a line, in parallel where that pays; the first line that
/// fails, and why.
pub(crate) fn fill_lines<T: Send, E: Send>(
    target: &mut [T],
    len: usize,
    fill: impl Fn(usize, &mut [T]) -> Result<(), E> + Sync,
) -> Result<(), (usize, E)> {
    let lines = target.len().div_ceil(len.max(1));
    let step = step(lines, len);
    let others = others(lines, step, target.len());
    let parts = Mutex::new(target.chunks_mut(step * len.max(1)).enumerate());
    let first = Mutex::new(None);
    fork_join::run(others, &|| {
        loop {
            let Some((part, lines)) = lock(&parts).next() else { break };
            for (line, target) in (part * step..).zip(lines.chunks_mut(len)) {
                if let Err(error) = fill(line, target) {
                    let mut first = lock(&first);
                    if first.as_ref().is_none_or(|(before, _)| line < *before) {
                        *first = Some((line, error));
                    }
                }
            }
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// How many threads beside this one some items are worth, taken `step` at a time.
fn others(items: usize, step: usize, elements: usize) -> usize {
    if elements < alone_below() {
        return 0;
    }
    (rayon::current_num_threads() - 1).min(items.div_ceil(step).saturating_sub(1))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `items` independent items can keep all threads busy.
pub(super) fn enough(items: usize) -> bool {
    items >= rayon::current_num_threads()
}

/// Has every item done, `step` at a time, by this thread and `others` more.
fn share(items: usize, step: usize, others: usize, work: impl Fn(Range<usize>) + Sync) {
    let next = AtomicUsize::new(0);
    let take_part = || {
        loop {
            let start = next.fetch_add(step, Ordering::Relaxed);
            if start >= items {
                break;
            }
            work(start..(start + step).min(items));
        }
    };
    fork_join::run(others, &take_part);
}
