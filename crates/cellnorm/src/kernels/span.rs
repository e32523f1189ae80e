//! A range of a source and of a destination that one thread maps, a tile of 16 elements at a time.

use std::marker::PhantomData;
use std::ops::Range;

use super::coefficients::Coefficients;
use super::lanes::{LANES, Lanes, end_tile};
use super::lines::{LINE, fetch};
use super::pairs::PAIR;
use super::vectors::Vectors;
use crate::kernels::Element;
use crate::machine::Machine;

/// Spans of fewer lines are written through the caches: the lines at their ends are not filled
/// whole.
const LEAST_LINES: usize = 32;

/// A range of a source and of a destination, held by one thread. The destination may be the source.
pub(super) struct Span<'a, T> {
    source: *const T,
    target: *mut T,
    len: usize,
    stream: bool,
    /// How far ahead of the tile at hand the memory is fetched; 0 fetches nothing.
    ahead: usize,
    /// Whether it is fetched to the first cache.
    to_l1: bool,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<'a, T: Element> Span<'a, T> {
    /// # Safety
    /// Both pointers must be valid for `len` elements for as long as the span lives, and nobody
    /// else may write the source or use the destination; with `stream`, the two must not overlap.
    #[inline(always)]
    pub(super) unsafe fn new(source: *const T, target: *mut T, len: usize, stream: bool) -> Self {
        Self { source, target, len, stream, ahead: 0, to_l1: true, lifetime: PhantomData }
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
        unsafe {
            Span::new(
                self.source.add(range.start),
                self.target.add(range.start),
                range.len(),
                self.stream,
            )
        }
    }

    /// The same span; while it is mapped, the memory `ahead` elements after it comes to the cache.
    #[inline(always)]
    pub(super) fn prefetch(self, Prefetch { distance, to_l1 }: Prefetch) -> Self {
        Self { ahead: distance, to_l1, ..self }
    }

    /// destination\[i\] = f(i, coefficients\[i\], source\[i\]), 16 elements at a time; `f` gets the
    /// index of the first.
    ///
    /// # Panics
    /// If the coefficients do not reach as far as the span.
    #[inline(always)]
    pub(super) fn map<S: Vectors, C: Coefficients<T::Acc, S>>(
        self,
        coefficients: C,
        mut f: impl FnMut(usize, C::Lanes, Lanes<T::Acc, S>) -> Lanes<T::Acc, S>,
    ) {
        self.walk::<S, C, false>(
            self.source,
            coefficients,
            #[inline(always)]
            |at, coefficients, source, _| f(at, coefficients, source),
        );
    }

    /// destination\[i\] = f(i, coefficients\[i\], source\[i\], x\[i\]).
    ///
    /// # Panics
    /// If x is not as long as the span, or the coefficients do not reach as far.
    #[inline(always)]
    pub(super) fn map_with<S: Vectors, C: Coefficients<T::Acc, S>>(
        self,
        x: &[T],
        coefficients: C,
        f: impl FnMut(usize, C::Lanes, Lanes<T::Acc, S>, Lanes<T::Acc, S>) -> Lanes<T::Acc, S>,
    ) {
        assert_eq!(x.len(), self.len);
        self.walk::<S, C, true>(x.as_ptr(), coefficients, f);
    }

    /// Maps tile after tile.
    ///
    /// The last tile ends with the span, and overlaps the one before it where they are not whole
    /// tiles; so does the first one where streamed stores begin after it, at a whole line. `f` is a
    /// function of its elements alone, so the same values are written twice there. The last tile is
    /// computed first and written last, since the destination may be the source.
    #[inline(always)]
    fn walk<S: Vectors, C: Coefficients<T::Acc, S>, const TWO: bool>(
        &self,
        second: *const T,
        mut coefficients: C,
        mut f: impl FnMut(usize, C::Lanes, Lanes<T::Acc, S>, Lanes<T::Acc, S>) -> Lanes<T::Acc, S>,
    ) {
        assert!(coefficients.reach(self.len.max(LANES)), "coefficients end before the span");
        if self.len < LANES {
            return self.few(second, &mut coefficients, &mut f);
        }
        let Self { source, target, len, .. } = *self;
        // tiles up to `head` are written plainly, those from there to `body_end` streamed or not
        let (mut head, mut body_end) = (0, len / LANES * LANES);
        let mut past = false;
        if self.stream && size_of::<T>() * len >= LEAST_LINES * LINE {
            let to_line = target.align_offset(LINE);
            // an address that no whole element brings to a line is none that a slice has
            if to_line < LINE {
                (head, body_end, past) = (to_line, to_line + (len - to_line) / LANES * LANES, true);
            }
        }
        let last = len - LANES;
        let mut end = [T::default(); LANES];
        if body_end < len {
            // SAFETY: both sources are valid for len elements, and the coefficients reach as far.
            end = unsafe {
                let sources = [source, second].map(|x| x.add(last));
                tile(sources, last, &mut coefficients, &mut f)
            };
        }
        let (mut at, mut stop) = (0, body_end);
        if head > 0 {
            (stop, past) = (head, false);
        }
        loop {
            // SAFETY: both sources, the coefficients and the target reach as far as the span.
            unsafe { self.tiles::<S, C, TWO>(second, at..stop, past, &mut coefficients, &mut f) };
            if stop == body_end {
                break;
            }
            (at, stop, past) = (head, body_end, true);
        }
        if body_end < len {
            // SAFETY: the target is valid for len elements.
            unsafe { target.add(last).cast::<[T; LANES]>().write_unaligned(end) };
            end_tile();
        }
    }

    /// Maps the tiles that begin in `range`, streamed or not: whole pairs first, where they may be
    /// taken.
    ///
    /// # Safety
    /// The tiles must lie in the span, `second` and the coefficients must reach as far as it, and
    /// streamed tiles must begin at a line, or, where a tile is less than one, at a multiple of its
    /// size.
    #[inline(always)]
    unsafe fn tiles<S: Vectors, C: Coefficients<T::Acc, S>, const TWO: bool>(
        &self,
        second: *const T,
        range: Range<usize>,
        stream: bool,
        coefficients: &mut C,
        f: &mut impl FnMut(usize, C::Lanes, Lanes<T::Acc, S>, Lanes<T::Acc, S>) -> Lanes<T::Acc, S>,
    ) {
        let base = if C::OWN_POINTERS { range.start } else { 0 };
        // SAFETY: the tiles lie in the span.
        let (sources, target) =
            unsafe { ([self.source.add(base), second.add(base)], self.target.add(base)) };
        let (mut i, end) = (range.start - base, range.end - base);
        if T::AT_ONCE && C::PAIRS && coefficients.pairs(range.start) {
            while i + PAIR <= end {
                self.fetch_ahead::<TWO>(sources, i);
                // SAFETY: as below, for 32 elements.
                unsafe {
                    let pair = pair(sources.map(|x| x.add(i)), base + i, coefficients, f);
                    if stream {
                        S::stream(pair, target.add(i));
                    } else {
                        target.add(i).cast::<[T; PAIR]>().write_unaligned(pair);
                        end_tile();
                    }
                }
                i += PAIR;
            }
        }
        while i < end {
            self.fetch_ahead::<TWO>(sources, i);
            // SAFETY: sources, coefficients and the target are valid for the tile. A streamed tile
            // begins at a line, or, where a tile is less than one, at a multiple of its size.
            unsafe {
                let tile = tile(sources.map(|x| x.add(i)), base + i, coefficients, f);
                if stream {
                    S::stream(tile, target.add(i));
                } else {
                    target.add(i).cast::<[T; LANES]>().write_unaligned(tile);
                    end_tile();
                }
            }
            i += LANES;
        }
    }

    #[inline(always)]
    fn fetch_ahead<const TWO: bool>(&self, sources: [*const T; 2], i: usize) {
        // a fetch of the tile itself would take the place of a load
        if self.ahead > 0 {
            fetch(sources[0].wrapping_add(i + self.ahead), self.to_l1);
            if TWO {
                fetch(sources[1].wrapping_add(i + self.ahead), self.to_l1);
            }
        }
    }

    /// Maps less than a tile, in buffers.
    #[inline(always)]
    fn few<S: Vectors, C: Coefficients<T::Acc, S>>(
        &self,
        second: *const T,
        coefficients: &mut C,
        f: &mut impl FnMut(usize, C::Lanes, Lanes<T::Acc, S>, Lanes<T::Acc, S>) -> Lanes<T::Acc, S>,
    ) {
        let mut sources = [[T::default(); LANES]; 2];
        // SAFETY: sources and target are valid for len elements, the buffers have room for them,
        // and the coefficients reach as far as a tile.
        unsafe {
            sources[0].as_mut_ptr().copy_from_nonoverlapping(self.source, self.len);
            sources[1].as_mut_ptr().copy_from_nonoverlapping(second, self.len);
            let y = tile([sources[0].as_ptr(), sources[1].as_ptr()], 0, coefficients, f);
            self.target.copy_from_nonoverlapping(y.as_ptr(), self.len);
        }
    }
}

/// f(at, coefficients, source, second) of the tile at `at`, where the sources point.
///
/// # Safety
/// Both sources must be valid for 16 elements, and the coefficients reach `at` + 16.
#[inline(always)]
unsafe fn tile<S: Vectors, T: Element, C: Coefficients<T::Acc, S>>(
    sources: [*const T; 2],
    at: usize,
    coefficients: &mut C,
    f: &mut impl FnMut(usize, C::Lanes, Lanes<T::Acc, S>, Lanes<T::Acc, S>) -> Lanes<T::Acc, S>,
) -> [T; LANES] {
    // SAFETY: by the caller.
    unsafe {
        let a = Lanes(T::load_vector::<S>(sources[0]));
        let b = Lanes(T::load_vector::<S>(sources[1]));
        f(at, coefficients.load(at), a, b).narrow()
    }
}

/// f(at, coefficients, source, second) of the 32 elements from `at`, where the sources point, half
/// of them at a time.
///
/// # Safety
/// Both sources must be valid for 32 elements; there must be coefficients of pairs, and reach
/// `at` + 32.
#[inline(always)]
unsafe fn pair<S: Vectors, T: Element, C: Coefficients<T::Acc, S>>(
    sources: [*const T; 2],
    at: usize,
    coefficients: &mut C,
    f: &mut impl FnMut(usize, C::Lanes, Lanes<T::Acc, S>, Lanes<T::Acc, S>) -> Lanes<T::Acc, S>,
) -> [T; PAIR] {
    // SAFETY: by the caller.
    unsafe {
        let [a, c] = T::load_pair::<S>(sources[0]);
        let [b, d] = T::load_pair::<S>(sources[1]);
        let first = f(at, coefficients.load_half(at, 0), Lanes(a), Lanes(b));
        let second = f(at, coefficients.load_half(at, 1), Lanes(c), Lanes(d));
        T::narrow_pair::<S>([first.0, second.0])
    }
}

/// How far ahead of a span memory is fetched, in elements, and whether to the first cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefetch {
    distance: usize,
    to_l1: bool,
}

impl Prefetch {
    pub(super) const NONE: Self = Self { distance: 0, to_l1: true };

    pub(super) fn is_none(self) -> bool {
        self.distance == 0
    }

    /// While `elements` are mapped, as many that lie `distance` after them; none where that would
    /// push out what is at hand. `T` is what a pass reads for each element.
    pub(super) fn new<T>(elements: usize, distance: usize) -> Self {
        match Machine::current().fetches_near(elements * size_of::<T>()) {
            Some(to_l1) => Self { distance, to_l1 },
            None => Self::NONE,
        }
    }
}
