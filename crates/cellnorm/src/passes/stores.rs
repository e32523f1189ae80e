//! Lines of memory: fetches ahead of what is computed, and the order of stores past the caches.

/// The bytes of a line of memory, which streamed stores must fill whole.
pub(crate) const LINE: usize = 64;

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
pub(crate) fn fetch<T>(at: *const T, near: bool) {
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
