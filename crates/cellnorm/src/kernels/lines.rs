//! Lines of memory: numbers that begin at one, prefetches, and the order of stores past the caches.

use std::ops::{Deref, DerefMut};

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

/// Asks for a line of memory, which may be anywhere: to the first cache with `to_l1`, else to
/// the second.
#[inline(always)]
pub(crate) fn fetch<T>(at: *const T, to_l1: bool) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE is part of x86-64, and a prefetch of an address that is not mapped does nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if to_l1 {
            _mm_prefetch::<_MM_HINT_T0>(at.cast());
        } else {
            _mm_prefetch::<_MM_HINT_T1>(at.cast());
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (at, to_l1);
}

/// A slice of its own memory that begins at a line: a vector of it never lies across two lines,
/// which would cost its load or its store twice.
pub(super) struct Aligned<A> {
    memory: Vec<A>,
    start: usize,
    len: usize,
}

impl<A: Copy> Aligned<A> {
    /// No numbers.
    pub(super) const NONE: Self = Self { memory: vec![], start: 0, len: 0 };

    /// `len` times `value`.
    pub(super) fn new(len: usize, value: A) -> Self {
        if len == 0 {
            return Self::NONE;
        }
        let memory = vec![value; len + LINE / size_of::<A>()];
        let start = memory.as_ptr().align_offset(LINE).min(memory.len() - len);
        Self { memory, start, len }
    }
}

impl<A> Deref for Aligned<A> {
    type Target = [A];

    #[inline(always)]
    fn deref(&self) -> &[A] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl<A> DerefMut for Aligned<A> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [A] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
