//! The speed of memory: a copy, and a sum of two arrays, that move the bytes a forward and a
//! backward pass must move, with stores past the cache (which spare reading the destination first)
//! or plain ones.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many floats a thread takes at a time: long enough for the prefetchers, short enough to share
/// out evenly.
const CHUNK: usize = 1 << 17;

/// Whether stores go past the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stores {
    Streamed,
    Plain,
}

/// to = from.
pub fn copy(from: &[f32], to: &mut [f32], stores: Stores) {
    run(&[from], to, stores);
}

/// to = a + b.
pub fn add(a: &[f32], b: &[f32], to: &mut [f32], stores: Stores) {
    run(&[a, b], to, stores);
}

/// A destination that threads write in chunks apart.
struct Target(*mut f32);
// SAFETY: `run` gives each chunk to one thread.
unsafe impl Sync for Target {}

fn run(sources: &[&[f32]], to: &mut [f32], stores: Stores) {
    let len = to.len();
    assert!(sources.iter().all(|source| source.len() == len));
    let streams = stores == Stores::Streamed && to.as_ptr().align_offset(64) == 0;
    let (next, target) = (AtomicUsize::new(0), Target(to.as_mut_ptr()));
    let (next, target) = (&next, &target);
    let take_part = move || {
        loop {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            if start >= len {
                break;
            }
            let size = CHUNK.min(len - start);
            // SAFETY: the chunks lie in the destination and apart from each other, and `to` is
            // borrowed until all are done.
            let to = unsafe { std::slice::from_raw_parts_mut(target.0.add(start), size) };
            let part = |source: usize| &sources[source][start..start + size];
            match sources.len() {
                1 => copy_chunk(part(0), to, streams),
                _ => add_chunk(part(0), part(1), to, streams),
            }
        }
    };
    let others = (rayon::current_num_threads() - 1).min(len.div_ceil(CHUNK).saturating_sub(1));
    if others == 0 {
        return take_part();
    }
    rayon::in_place_scope(|scope| {
        (0..others).for_each(|_| scope.spawn(move |_| take_part()));
        take_part();
    });
}

fn copy_chunk(from: &[f32], to: &mut [f32], streams: bool) {
    #[cfg(target_arch = "x86_64")]
    if streams && is_x86_feature_detected!("avx512f") {
        // SAFETY: the instructions are there, and the chunk starts at a multiple of 64 bytes (see
        // `run` and CHUNK).
        return unsafe { x86::copy_512(from, to) };
    } else if streams && is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        return unsafe { x86::copy_256(from, to) };
    }
    let _ = streams;
    to.copy_from_slice(from);
}

fn add_chunk(a: &[f32], b: &[f32], to: &mut [f32], streams: bool) {
    #[cfg(target_arch = "x86_64")]
    if streams && is_x86_feature_detected!("avx512f") {
        // SAFETY: as in `copy_chunk`.
        return unsafe { x86::add_512(a, b, to) };
    } else if streams && is_x86_feature_detected!("avx2") {
        // SAFETY: as in `copy_chunk`.
        return unsafe { x86::add_256(a, b, to) };
    }
    let _ = streams;
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = a + b;
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// A function that stores f(sources) past the cache, a vector at a time, and the rest plainly.
    macro_rules! stream {
        ($name:ident, $feature:literal, $lanes:literal, $load:ident, $store:ident, ($($source:ident),+), $vector:expr, $plain:expr) => {
            /// # Safety
            /// The feature is there, the slices are equally long, and `to` starts at a multiple of
            /// the vector's size.
            #[target_feature(enable = $feature)]
            pub unsafe fn $name($($source: &[f32],)+ to: &mut [f32]) {
                let whole = to.len() / $lanes * $lanes;
                let mut at = 0;
                while at < whole {
                    // SAFETY: at + lanes ≤ len of every slice, and `to` is aligned.
                    unsafe {
                        $(let $source = $load($source.as_ptr().add(at));)+
                        $store(to.as_mut_ptr().add(at), $vector);
                    }
                    at += $lanes;
                }
                for at in whole..to.len() {
                    $(let $source = $source[at];)+
                    to[at] = $plain;
                }
                // other threads see the stores once this one says that it is done
                _mm_sfence();
            }
        };
    }
    stream!(copy_256, "avx2", 8, _mm256_loadu_ps, _mm256_stream_ps, (a), a, a);
    stream!(copy_512, "avx512f", 16, _mm512_loadu_ps, _mm512_stream_ps, (a), a, a);
    stream!(
        add_256,
        "avx2",
        8,
        _mm256_loadu_ps,
        _mm256_stream_ps,
        (a, b),
        _mm256_add_ps(a, b),
        a + b
    );
    stream!(
        add_512,
        "avx512f",
        16,
        _mm512_loadu_ps,
        _mm512_stream_ps,
        (a, b),
        _mm512_add_ps(a, b),
        a + b
    );
}
