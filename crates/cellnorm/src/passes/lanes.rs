//! A virtual vector of 16 lanes.
//!
//! Whatever the width of the machine's registers, a reduction adds into the same 16 lanes in the same order, so its bits are
//! the same on AVX-512, AVX2, NEON and without SIMD. Multiplication and addition stay separate (no fused multiply-add) for
//! the same reason. The compiler turns each operation into one to four machine instructions.

use std::hint::black_box;
use std::ops::{Add, Mul, Sub};
use std::sync::atomic::{Ordering, compiler_fence};

use crate::element::{Element, Real};

/// The number of lanes.
pub(super) const LANES: usize = 16;

/// Ends a tile that was stored.
///
/// Without it the compiler takes a loop over tiles for a loop over numbers with a stride of 16 and vectorizes it with gathers
/// and scatters, ten times slower. The fence is for the compiler alone: no instruction comes of it.
#[inline(always)]
pub(super) fn end_tile() {
    compiler_fence(Ordering::SeqCst);
}

/// 16 numbers that are added, subtracted and multiplied lane by lane.
#[derive(Clone, Copy)]
pub(super) struct Lanes<A>(pub(super) [A; LANES]);

impl<A: Real> Lanes<A> {
    #[inline(always)]
    pub(super) fn splat(value: A) -> Self {
        Self([value; LANES])
    }

    /// Widens 16 elements. A loop, not `map`: with a conversion of more than one instruction that becomes a call, to code without
    /// this kernel's instruction set.
    #[inline(always)]
    pub(super) fn widen<T: Element<Acc = A>>(x: [T; LANES]) -> Self {
        let mut out = [A::default(); LANES];
        for (out, x) in out.iter_mut().zip(x) {
            *out = x.widen();
        }
        Self(out)
    }

    /// Narrows to 16 elements; a loop, as in `widen`.
    #[inline(always)]
    pub(super) fn narrow<T: Element<Acc = A>>(self) -> [T; LANES] {
        let mut out = [T::default(); LANES];
        for (out, value) in out.iter_mut().zip(self.0) {
            *out = T::narrow(value);
        }
        out
    }

    /// The lanes from `x[at..at + 16]`.
    #[inline(always)]
    pub(super) fn load<T: Element<Acc = A>>(x: &[T], at: usize) -> Self {
        let tile: &[T; LANES] = x[at..at + LANES].try_into().expect("a slice of 16 is a tile");
        Self::widen(*tile)
    }

    /// The lanes from `x[at..at + 16]`, without a look at its length.
    ///
    /// # Safety
    /// `x` must have `at` + 16 elements.
    #[inline(always)]
    pub(super) unsafe fn load_unchecked<T: Element<Acc = A>>(x: &[T], at: usize) -> Self {
        debug_assert!(at + LANES <= x.len());
        // SAFETY: by the caller.
        Self::widen(unsafe { x.as_ptr().add(at).cast::<[T; LANES]>().read_unaligned() })
    }

    /// Adds to `y[at..at + 16]`, without a look at its length.
    ///
    /// # Safety
    /// `y` must have `at` + 16 elements.
    #[inline(always)]
    pub(super) unsafe fn add_unchecked(y: &mut [A], at: usize, other: Self) {
        debug_assert!(at + LANES <= y.len());
        // SAFETY: by the caller.
        unsafe {
            let y = y.as_mut_ptr().add(at).cast::<[A; LANES]>();
            y.write_unaligned((Self(y.read_unaligned()) + other).0);
        }
        end_tile();
    }

    /// 32 elements, where [`Pairs`](super::Pairs) puts them.
    #[inline(always)]
    pub(super) fn load_pair<T: Element<Acc = A>>(x: &[T; 2 * LANES]) -> [Self; 2] {
        let [a, b] = T::widen_pair(*x);
        [Self(a), Self(b)]
    }

    /// Two vectors of which one belongs to each of [`load_pair`](Self::load_pair)'s, in the order
    /// of the elements.
    #[inline(always)]
    pub(super) fn in_order<T: Element<Acc = A>>([a, b]: [Self; 2]) -> [Self; 2] {
        let [a, b] = T::in_order([a.0, b.0]);
        [Self(a), Self(b)]
    }

    /// As [`load`](Self::load), also where x is shorter than a vector; the lanes past its end are 0.
    #[inline(always)]
    pub(super) fn load_few<T: Element<Acc = A>>(x: &[T], at: usize) -> Self {
        if x.len() >= LANES {
            return Self::load(x, at);
        }
        let mut tile = [T::default(); LANES];
        tile[..x.len()].copy_from_slice(x);
        Self::widen(tile)
    }

    /// Writes the lanes to `y[at..at + 16]`.
    #[inline(always)]
    pub(super) fn store(self, y: &mut [A], at: usize) {
        y[at..at + LANES].copy_from_slice(&self.0);
        end_tile();
    }

    /// The sum of the lanes in f64, by halving.
    ///
    /// The lanes pass through memory: seeing the halving, the compiler would pair up lanes of several accumulators in the loop
    /// before it instead of keeping each in one register, and halve several sums at once, one lane at a time.
    #[inline(always)]
    pub(super) fn sum(self) -> f64 {
        let lanes = black_box(self.0);
        let mut four = [0.0; LANES / 4];
        for i in 0..LANES / 4 {
            let [a, b, c, d] = [0, 4, 8, 12].map(|quarter| lanes[quarter + i].to_f64());
            four[i] = (a + c) + (b + d);
        }
        let four = black_box(four);
        (four[0] + four[2]) + (four[1] + four[3])
    }

    /// f of each lane; `f` must be `#[inline(always)]`.
    #[inline(always)]
    pub(super) fn map(self, f: impl Fn(A) -> A) -> Self {
        let mut out = self.0;
        for lane in &mut out {
            *lane = f(*lane);
        }
        Self(out)
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(A, A) -> A) -> Self {
        let mut out = self.0;
        #[expect(clippy::needless_range_loop, reason = "three arrays by one index")]
        for i in 0..LANES {
            out[i] = f(self.0[i], other.0[i]);
        }
        Self(out)
    }
}

impl<A: Real> Add for Lanes<A> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl<A: Real> Sub for Lanes<A> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl<A: Real> Mul for Lanes<A> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
}
