//! A range of a source and of a destination that one thread maps, 16 elements at a time.

use std::marker::PhantomData;
use std::ops::Range;

use super::lanes::{LANES, Lanes, end_tile};
use crate::element::Element;

/// Shorter spans are written through the caches: their ends would leave half-written lines behind.
const STREAM_LEAST: usize = 2048;
/// What is fetched ahead must not push out what is at hand.
const FETCH_MOST: usize = 128 << 10;
/// What the address of a streamed store must be a multiple of.
const STREAM_ALIGN: usize = 16;

/// A range of a source and of a destination, held by one thread. The destination may be the source.
pub(super) struct Span<'a, T> {
    source: *const T,
    target: *mut T,
    len: usize,
    stream: bool,
    /// How far ahead of what is mapped the memory is fetched; 0 for not at all.
    ahead: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<'a, T: Element> Span<'a, T> {
    /// # Safety
    /// Both pointers must be valid for `len` elements for as long as the span lives, and nobody else may write the source or use
    /// the destination; with `stream`, the two must not overlap.
    #[inline(always)]
    pub(super) unsafe fn new(source: *const T, target: *mut T, len: usize, stream: bool) -> Self {
        Self { source, target, len, stream, ahead: 0, lifetime: PhantomData }
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The part of the span in `range`.
    #[inline(always)]
    pub(super) fn part(&mut self, range: Range<usize>) -> Span<'_, T> {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies in this span, which is borrowed until the part is gone.
        unsafe { Span::new(self.source.add(range.start), self.target.add(range.start), range.len(), self.stream) }
    }

    /// The same span; while it is mapped, what lies `ahead` of it in the sources comes to the cache, unless that is too much.
    ///
    /// A set is read, then mapped; while it is mapped, memory would otherwise wait.
    #[inline(always)]
    pub(super) fn fetching(self, ahead: usize) -> Self {
        Self { ahead: if ahead * size_of::<T>() <= FETCH_MOST { ahead } else { 0 }, ..self }
    }

    /// destination\[i\] = f(i, source\[i\]), 16 elements at a time; `f` gets the index of the first.
    #[inline(always)]
    pub(super) fn map(self, mut f: impl FnMut(usize, Lanes<T::Acc>) -> Lanes<T::Acc>) {
        self.walk(
            None,
            #[inline(always)]
            |at, source, _| f(at, source),
        );
    }

    /// destination\[i\] = f(i, source\[i\], x\[i\]).
    ///
    /// # Panics
    /// If x is not as long as the span.
    #[inline(always)]
    pub(super) fn map_with(self, x: &[T], f: impl FnMut(usize, Lanes<T::Acc>, Lanes<T::Acc>) -> Lanes<T::Acc>) {
        assert_eq!(x.len(), self.len);
        self.walk(Some(x), f);
    }

    /// Two loops, and one place in each that calls `f`: whatever `f` computes is compiled there alone.
    ///
    /// What is left behind the last whole tile is covered by a tile that ends with the span and overlaps the one before: `f` is
    /// a function of its elements alone, so the overlap is written twice with the same values. Where the destination is the
    /// source, that last tile must be computed before anything is written, so it comes first. Less than a tile is mapped in a
    /// buffer of its own.
    #[inline(always)]
    fn walk(self, x: Option<&[T]>, mut f: impl FnMut(usize, Lanes<T::Acc>, Lanes<T::Acc>) -> Lanes<T::Acc>) {
        let (mut few, mut few_x) = ([T::default(); LANES], [T::default(); LANES]);
        let mut ends = Ends {
            source: self.source,
            second: x.map_or(self.source, <[T]>::as_ptr),
            target: self.target,
            ahead: self.ahead,
        };
        let mut len = self.len;
        if len < LANES {
            // SAFETY: the sources are valid for len elements, and the buffers have room for a tile.
            unsafe {
                few.as_mut_ptr().copy_from_nonoverlapping(ends.source, len);
                few_x.as_mut_ptr().copy_from_nonoverlapping(ends.second, len);
            }
            ends = Ends { source: few.as_ptr(), second: few_x.as_ptr(), target: few.as_mut_ptr(), ahead: 0 };
            len = LANES;
        }
        let last = len - LANES;
        if self.stream && size_of::<T>() * self.len >= STREAM_LEAST {
            // where streamed stores may begin
            let head = self.target.align_offset(STREAM_ALIGN).min(LANES);
            let mut at = 0;
            loop {
                // SAFETY: at + 16 ≤ len, and both sources are valid for len elements.
                let tile = unsafe { ends.map(at, &mut f) };
                if at >= head && (at - head).is_multiple_of(LANES) {
                    // SAFETY: as above for the target; `at` is `head` plus whole tiles, each a multiple of 16 bytes.
                    unsafe { ends.stream(at, tile) };
                } else {
                    // SAFETY: as above for the target.
                    unsafe { ends.write(at, tile) };
                }
                if at == last {
                    return;
                }
                at = if at < head { head } else { at + LANES }.min(last);
            }
        }
        let ragged = !len.is_multiple_of(LANES);
        let mut end = [T::default(); LANES];
        let (mut at, mut first) = (if ragged { last } else { 0 }, ragged);
        while at <= last {
            // SAFETY: at + 16 ≤ len, and both sources are valid for len elements.
            let tile = unsafe { ends.map(at, &mut f) };
            if first {
                (end, at, first) = (tile, 0, false);
                continue;
            }
            // SAFETY: as above for the target.
            unsafe { ends.write(at, tile) };
            at += LANES;
        }
        if ragged {
            // SAFETY: as above for the target.
            unsafe { ends.write(last, end) };
        }
        if self.len < LANES {
            // SAFETY: the target is valid for len elements.
            unsafe { self.target.copy_from_nonoverlapping(few.as_ptr(), self.len) };
        }
    }
}

/// Where tiles come from and go to.
struct Ends<T> {
    source: *const T,
    second: *const T,
    target: *mut T,
    ahead: usize,
}

impl<T: Element> Ends<T> {
    /// f(at, source, second) of the tile at `at`.
    ///
    /// # Safety
    /// Both sources must be valid for `at` + 16 elements.
    #[inline(always)]
    unsafe fn map(
        &self,
        at: usize,
        f: &mut impl FnMut(usize, Lanes<T::Acc>, Lanes<T::Acc>) -> Lanes<T::Acc>,
    ) -> [T; LANES] {
        if self.ahead > 0 {
            fetch(self.source.wrapping_add(at + self.ahead));
            if self.second != self.source {
                fetch(self.second.wrapping_add(at + self.ahead));
            }
        }
        // SAFETY: by the caller.
        let [a, b] =
            unsafe { [self.source, self.second].map(|from| from.add(at).cast::<[T; LANES]>().read_unaligned()) };
        f(at, Lanes::widen(a), Lanes::widen(b)).narrow()
    }

    /// Stores a tile.
    ///
    /// # Safety
    /// The target must be valid for `at` + 16 elements.
    #[inline(always)]
    unsafe fn write(&self, at: usize, tile: [T; LANES]) {
        // SAFETY: by the caller.
        unsafe { self.target.add(at).cast::<[T; LANES]>().write_unaligned(tile) };
        end_tile();
    }

    /// Stores a tile past the caches: its lines are not read first, and do not push others out.
    ///
    /// # Safety
    /// As `write`, the address must be a multiple of 16, and other threads may read there only after
    /// [`order_streamed_stores`].
    #[inline(always)]
    unsafe fn stream(&self, at: usize, tile: [T; LANES]) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        for part in 0..size_of_val(&tile) / STREAM_ALIGN {
            use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
            // SAFETY: the part lies within the tile and, by the caller, within the destination, which is aligned; SSE2 is part
            // of x86-64.
            unsafe {
                let value = _mm_loadu_si128(tile.as_ptr().cast::<u8>().add(part * STREAM_ALIGN).cast());
                _mm_stream_si128(self.target.add(at).cast::<u8>().add(part * STREAM_ALIGN).cast(), value);
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        // SAFETY: by the caller.
        unsafe {
            self.write(at, tile);
        }
        end_tile();
    }
}

/// Asks for a line of memory, which may be anywhere.
#[inline(always)]
fn fetch<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE is part of x86-64, and a prefetch of an address that is not mapped does nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
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
