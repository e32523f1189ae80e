//! Shares items of work among rayon's threads, or does small work on the spot.
//!
//! Items are cut by the tensor's shape alone and results come back in item order, so the number of threads never changes a
//! bit.

use rayon::prelude::*;

/// Below this many elements, waking other threads costs more than it saves.
const SERIAL_BELOW: usize = 1 << 16;

/// The least number of elements worth handing to a thread.
const GRAIN: usize = 1 << 15;

/// Maps items `0..items`, each of about `weight` elements, in parallel where that pays; results are in item order.
pub(super) fn map<R: Send>(items: usize, weight: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    if !worthwhile(items, weight) {
        return (0..items).map(f).collect();
    }
    (0..items).into_par_iter().with_min_len(GRAIN.div_ceil(weight.max(1))).map(f).collect()
}

/// As [`map`], for items without a result.
pub(super) fn for_each(items: usize, weight: usize, f: impl Fn(usize) + Sync + Send) {
    if !worthwhile(items, weight) {
        return (0..items).for_each(f);
    }
    (0..items).into_par_iter().with_min_len(GRAIN.div_ceil(weight.max(1))).for_each(f)
}

/// Whether `items` independent items can keep all threads busy.
pub(super) fn enough(items: usize) -> bool {
    items >= rayon::current_num_threads()
}

fn worthwhile(items: usize, weight: usize) -> bool {
    items > 1 && items * weight >= SERIAL_BELOW && rayon::current_num_threads() > 1
}
