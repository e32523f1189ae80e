//! Shares items of work among rayon's threads, or does small work on the spot.
//!
//! Items are cut by the tensor's shape alone and results come back in item order, so neither the number of threads nor who does
//! which item changes a bit. The calling thread takes part: it starts at once, while the others wake up, and everyone takes the
//! next few items until none are left.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

/// Below this many elements, waking other threads costs more than it saves.
const SERIAL_BELOW: usize = 1 << 16;

/// The least number of elements worth taking at a time.
const GRAIN: usize = 1 << 14;

/// Maps items `0..items`, each of about `weight` elements, a range of them at a time and in parallel where that pays; results are
/// in the order of the items.
pub(super) fn map<R: Send>(items: usize, weight: usize, f: impl Fn(Range<usize>) -> R + Sync) -> Vec<R> {
    let step = GRAIN.div_ceil(weight.max(1));
    let others = (rayon::current_num_threads() - 1).min(items.div_ceil(step).saturating_sub(1));
    if others == 0 || items * weight < SERIAL_BELOW {
        return vec![f(0..items)];
    }
    let parts = Mutex::new(Vec::with_capacity(items.div_ceil(step)));
    share(items, step, others, |range| {
        let part = (range.start, f(range));
        parts.lock().unwrap_or_else(PoisonError::into_inner).push(part);
    });
    let mut parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.sort_unstable_by_key(|(start, _)| *start);
    parts.into_iter().map(|(_, result)| result).collect()
}

/// Fills each `len` elements of `target`, a line, in parallel where that pays; the first line that fails, and why.
pub(crate) fn fill_lines<T: Send, E: Send>(
    target: &mut [T],
    len: usize,
    fill: impl Fn(usize, &mut [T]) -> Result<(), E> + Sync,
) -> Result<(), (usize, E)> {
    let failed = |(line, target)| Some((line, fill(line, target).err()?));
    let first = if target.len() < SERIAL_BELOW {
        target.chunks_mut(len).enumerate().find_map(failed)
    } else {
        let lines = target.par_chunks_mut(len).enumerate().with_min_len(GRAIN.div_ceil(len));
        lines.filter_map(failed).min_by_key(|(line, _)| *line)
    };
    first.map_or(Ok(()), Err)
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
    rayon::in_place_scope(|scope| {
        for _ in 0..others {
            scope.spawn(|_| take_part());
        }
        take_part();
    });
}
