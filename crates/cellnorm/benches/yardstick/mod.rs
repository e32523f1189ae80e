//! The speed of memory: a copy and a sum of two buffers, each thread a half, with stores that
//! stream past the caches.

use rayon::prelude::*;

/// target = x.
pub fn copy(x: &[f32], target: &mut [f32]) {
    map(target, |at, target| stream(target, &x[at..], None));
}

/// target = x + dy.
pub fn add(x: &[f32], dy: &[f32], target: &mut [f32]) {
    map(target, |at, target| stream(target, &x[at..], Some(&dy[at..])));
}

fn map(target: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    let part = target.len().div_ceil(rayon::current_num_threads()).next_multiple_of(1024);
    if target.len() < 1 << 15 {
        return f(0, target);
    }
    target.par_chunks_mut(part).enumerate().for_each(|(i, target)| f(i * part, target));
}

fn stream(target: &mut [f32], x: &[f32], dy: Option<&[f32]>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: AVX is there.
        return unsafe { stream_avx(target, x, dy) };
    }
    plain(target, x, dy);
}

fn plain(target: &mut [f32], x: &[f32], dy: Option<&[f32]>) {
    match dy {
        None => target.copy_from_slice(&x[..target.len()]),
        Some(dy) => target.iter_mut().zip(x).zip(dy).for_each(|((target, x), dy)| *target = x + dy),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn stream_avx(target: &mut [f32], x: &[f32], dy: Option<&[f32]>) {
    use std::arch::x86_64::*;
    let head = target.as_ptr().align_offset(32).min(target.len());
    plain(&mut target[..head], x, dy);
    let whole = head + (target.len() - head) / 8 * 8;
    let small = target.len() * 4 < 4 << 20;
    for at in (head..whole).step_by(8) {
        // SAFETY: 8 elements from `at` lie in all buffers, and the target's are aligned to 32
        // bytes.
        unsafe {
            let mut value = _mm256_loadu_ps(x.as_ptr().add(at));
            if let Some(dy) = dy {
                value = _mm256_add_ps(value, _mm256_loadu_ps(dy.as_ptr().add(at)));
            }
            if small {
                _mm256_store_ps(target.as_mut_ptr().add(at), value);
            } else {
                _mm256_stream_ps(target.as_mut_ptr().add(at), value);
            }
        }
    }
    _mm_sfence();
    plain(&mut target[whole..], &x[whole..], dy.map(|dy| &dy[whole..]));
}
