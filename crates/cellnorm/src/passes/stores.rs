//! Stores past the caches, and fetches ahead of what is computed: the instructions that a compiler
//! does not choose by itself.
//!
//! A tile is stored by the widest store of the instruction set. Where it is stored in narrower
//! parts, the compiler cuts the arithmetic before the store into the same parts. A store wider than
//! the set is a call to code that is never inlined.

use crate::element::Element;
use crate::passes::lanes::end_tile;

/// The bytes of a line of memory, which streamed stores must fill whole.
pub(super) const LINE: usize = 64;

/// How an instruction set stores a tile past the caches.
pub(super) trait Stores {
    /// Stores a tile: its lines are not read first, and do not push others out.
    ///
    /// # Safety
    /// The target must be valid for a tile and a multiple of the tile's size or of [`LINE`],
    /// whichever is less; the machine has the instruction set; and other threads may read there
    /// only after [`order_streamed_stores`].
    unsafe fn stream<T: Element, const N: usize>(tile: [T; N], target: *mut T);
}

/// Those of 16 bytes, which every x86-64 has; elsewhere plain ones.
pub(super) struct Stores128;

impl Stores for Stores128 {
    #[inline(always)]
    unsafe fn stream<T: Element, const N: usize>(tile: [T; N], target: *mut T) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        for part in 0..size_of_val(&tile) / 16 {
            use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
            // SAFETY: the part lies within the tile and, by the caller, within the destination,
            // which is aligned; SSE2 is part of x86-64.
            unsafe {
                let value = _mm_loadu_si128(tile.as_ptr().cast::<u8>().add(part * 16).cast());
                _mm_stream_si128(target.cast::<u8>().add(part * 16).cast(), value);
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        // SAFETY: by the caller.
        unsafe {
            target.cast::<[T; N]>().write_unaligned(tile);
        }
        end_tile();
    }
}

/// Those of 32 bytes, of AVX2.
#[cfg(target_arch = "x86_64")]
pub(super) struct Stores256;

#[cfg(target_arch = "x86_64")]
impl Stores for Stores256 {
    #[inline(always)]
    unsafe fn stream<T: Element, const N: usize>(tile: [T; N], target: *mut T) {
        use std::arch::x86_64::{_mm256_loadu_si256, _mm256_stream_si256};
        for part in 0..size_of_val(&tile) / 32 {
            // SAFETY: as for 16 bytes; by the caller, the machine has AVX2.
            unsafe {
                let value = _mm256_loadu_si256(tile.as_ptr().cast::<u8>().add(part * 32).cast());
                _mm256_stream_si256(target.cast::<u8>().add(part * 32).cast(), value);
            }
        }
        end_tile();
    }
}

/// Those of 64 bytes, of AVX-512.
#[cfg(target_arch = "x86_64")]
pub(super) struct Stores512;

#[cfg(target_arch = "x86_64")]
impl Stores for Stores512 {
    #[inline(always)]
    unsafe fn stream<T: Element, const N: usize>(tile: [T; N], target: *mut T) {
        use std::arch::x86_64::{_mm512_loadu_si512, _mm512_stream_si512};
        if size_of_val(&tile) < LINE {
            // SAFETY: as for the caller; AVX-512 has all of AVX2.
            return unsafe { Stores256::stream(tile, target) };
        }
        for part in 0..size_of_val(&tile) / 64 {
            // SAFETY: as for 16 bytes; by the caller, the machine has AVX-512.
            unsafe {
                let value = _mm512_loadu_si512(tile.as_ptr().cast::<u8>().add(part * 64).cast());
                _mm512_stream_si512(target.cast::<u8>().add(part * 64).cast(), value);
            }
        }
        end_tile();
    }
}

/// Makes streamed stores visible to other threads before anything this thread stores later.
#[inline(always)]
pub(super) fn order_streamed_stores() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// Asks for a line of memory, which may be anywhere: to the first cache where it is `near`, else to
/// the second.
#[inline(always)]
pub(super) fn fetch<T>(at: *const T, near: bool) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE is part of x86-64, and a prefetch of an address that is not mapped does nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if near {
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        } else {
            _mm_prefetch::<_MM_HINT_T1>(at.cast());
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (at, near);
}
