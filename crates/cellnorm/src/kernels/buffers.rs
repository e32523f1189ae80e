//! Where an elementwise pass reads and writes: from one buffer to another, or over itself.
//!
//! Cells of one set may lie apart in memory and are written by several threads, so the passes share
//! the destination through a pointer.

use std::marker::PhantomData;
use std::ops::Range;

use super::lines;
use super::span::Span;
use crate::kernels::Element;
use crate::machine::Machine;

/// The source and the destination of an elementwise pass.
#[derive(Debug)]
pub enum Buffers<'a, T> {
    /// Reads the slice, writes into the vector's room: it is cleared, grown where needed, and not
    /// zeroed first, since that would be one more pass over memory.
    Into(&'a [T], &'a mut Vec<T>),
    /// Reads the first slice, writes every element of the second.
    Apart(&'a [T], &'a mut [T]),
    /// Writes the result over the source.
    Over(&'a mut [T]),
}

impl<T> Buffers<'_, T> {
    /// The elements to read.
    pub fn source(&self) -> &[T] {
        match self {
            Self::Into(source, _) | Self::Apart(source, _) => source,
            Self::Over(both) => both,
        }
    }
}

/// Whether a pass over `tensors` tensors of the destination's length streams it past the caches.
fn streams<T>(destination: &[T], tensors: usize) -> bool {
    size_of_val(destination) >= Machine::current().stream_bytes(tensors)
}

/// Asks for huge pages behind a large fresh vector: touching 50 MB in pages of 4 KB costs five
/// times as much as filling it.
///
/// Linux grants this for memory that asks, in its usual setting; elsewhere, and where it refuses,
/// nothing changes.
fn in_huge_pages<T>(vector: &mut Vec<T>) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let huge = Machine::current().huge_page;
        let (start, bytes) = (vector.as_mut_ptr() as usize, vector.capacity() * size_of::<T>());
        let first = start.next_multiple_of(PAGE);
        let Some(length) = (start + bytes).checked_sub(first) else { return };
        if huge > 0 && bytes >= huge.saturating_mul(4) {
            // SAFETY: the pages from `first` lie within the vector's own allocation, and the advice
            // changes no content.
            unsafe { libc::madvise(first as *mut _, length, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = vector;
}

/// [`Buffers`] that several threads hold at once.
pub(super) struct Shared<'a, T> {
    source: *const T,
    target: *mut T,
    len: usize,
    fresh: Option<&'a mut Vec<T>>,
    /// Whether the destination is written past the caches.
    stream: bool,
}

// SAFETY: `Shared` only hands out ranges, and whoever takes one promises (see `span`) that no other
// thread uses it.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<'_, T> {}

impl<'a, T: Element> Shared<'a, T> {
    /// The buffers of a pass, which touches source, destination and `others` more tensors of their
    /// length.
    ///
    /// # Panics
    /// If source and destination differ in length.
    pub(super) fn new(buffers: Buffers<'a, T>, others: usize) -> Self {
        let tensors = 2 + others;
        match buffers {
            Buffers::Into(source, vector) => {
                // the system clears fresh memory into the cache when it is first written: it is not
                // streamed
                let stream = vector.capacity() >= source.len() && streams(source, tensors);
                vector.clear();
                vector.reserve(source.len());
                in_huge_pages(vector);
                let target = vector.as_mut_ptr();
                Self {
                    source: source.as_ptr(),
                    target,
                    len: source.len(),
                    fresh: Some(vector),
                    stream,
                }
            }
            Buffers::Apart(source, target) => {
                assert_eq!(source.len(), target.len(), "source and destination differ in length");
                let stream = streams(target, tensors);
                Self {
                    source: source.as_ptr(),
                    target: target.as_mut_ptr(),
                    len: source.len(),
                    fresh: None,
                    stream,
                }
            }
            Buffers::Over(both) => {
                let target = both.as_mut_ptr();
                // what was just read is in the cache, where it is written cheapest
                Self {
                    source: target.cast_const(),
                    target,
                    len: both.len(),
                    fresh: None,
                    stream: false,
                }
            }
        }
    }

    /// The same buffers, but the destination is written through the caches: it is read next.
    pub(super) fn cached(self) -> Self {
        Self { stream: false, ..self }
    }

    /// From the destination of these buffers, a sum of two tensors, range by range once that is
    /// written, to `y`.
    ///
    /// # Panics
    /// If they differ in length.
    pub(super) fn then(&self, y: &'a mut [T]) -> Self {
        assert_eq!(y.len(), self.len, "y is not as long as what it is made of");
        let stream = streams(y, 4);
        Self {
            source: self.target.cast_const(),
            target: y.as_mut_ptr(),
            len: self.len,
            fresh: None,
            stream,
        }
    }

    /// Ends the pass: a fresh vector now holds the result.
    ///
    /// # Safety
    /// Spans that together cover all `len` elements must have been written.
    pub(super) unsafe fn finish(self) {
        if let Some(vector) = self.fresh {
            // SAFETY: `new` reserved room for `len` elements, and the caller wrote them all.
            unsafe { vector.set_len(self.len) };
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The source alone, for a reduction that runs before the destination is written.
    pub(super) fn source(&self) -> Source<'_, T> {
        Source { start: self.source, len: self.len, lifetime: PhantomData }
    }

    /// The right to read the source in `range` and to write the destination there.
    ///
    /// # Safety
    /// No other span or source slice that overlaps the range may be alive.
    pub(super) unsafe fn span(&self, range: Range<usize>) -> Span<'_, T> {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies in both buffers, which were borrowed for 'a.
        let (source, target) =
            unsafe { (self.source.add(range.start), self.target.add(range.start)) };
        // SAFETY: both pointers are valid for the range's length, and the caller keeps others away.
        unsafe { Span::new(source, target, range.len(), self.stream) }
    }

    /// Must be called by each thread that wrote spans, after the last.
    #[inline(always)]
    pub(super) fn written(&self) {
        if self.stream {
            lines::order_streamed_stores();
        }
    }
}

/// The source of a pass, which may be its destination too.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, T> {
    start: *const T,
    len: usize,
    lifetime: PhantomData<&'a [T]>,
}

// SAFETY: a source only reads, and whoever does promises (see `read`) that nobody writes there.
unsafe impl<T: Sync> Send for Source<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Source<'_, T> {}

impl<'a, T> Source<'a, T> {
    pub(super) fn new(x: &'a [T]) -> Self {
        Self { start: x.as_ptr(), len: x.len(), lifetime: PhantomData }
    }

    /// The elements in `range`.
    ///
    /// # Safety
    /// Nobody may write the range (through a [`Span`] of the same buffers) while the slice is
    /// alive.
    pub(super) unsafe fn read(&self, range: Range<usize>) -> &'a [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range lies in the source, which was borrowed for 'a; the caller keeps writers
        // away.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }
}
