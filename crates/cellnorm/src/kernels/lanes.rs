//! A virtual vector of 16 lanes.
//!
//! Whatever the width of the machine's registers, a reduction adds into the same 16 lanes in the
//! same order, so its bits are the same on AVX-512, AVX2, NEON and without SIMD. Multiplication and
//! addition stay separate (no fused multiply-add) for the same reason. An operation is one to four
//! machine instructions: see [`vectors`](super::vectors).

use std::ops::{Add, Mul, Sub};
use std::sync::atomic::{Ordering, compiler_fence};

use super::vectors::{Vector, Vectors};
use crate::kernels::{Element, Real};

/// The number of lanes.
pub(super) const LANES: usize = 16;

/// Ends a tile that was stored.
///
/// Without it the compiler takes a loop over tiles of arrays for a loop over numbers with a stride
/// of 16 and vectorizes it with gathers and scatters, ten times slower. The fence is for the
/// compiler alone: no instruction comes of it.
#[inline(always)]
pub(super) fn end_tile() {
    compiler_fence(Ordering::SeqCst);
}

/// 16 numbers that are added, subtracted and multiplied lane by lane, in registers of the set `S`.
#[derive(Clone, Copy)]
pub(super) struct Lanes<A: Real, S: Vectors>(pub(super) A::In<S>);

impl<A: Real, S: Vectors> Lanes<A, S> {
    #[inline(always)]
    pub(super) fn splat(value: A) -> Self {
        Self(Vector::splat(value))
    }

    #[inline(always)]
    pub(super) fn zero() -> Self {
        Self::splat(A::default())
    }

    #[inline(always)]
    pub(super) fn from_array(of: [A; LANES]) -> Self {
        Self(Vector::from_array(of))
    }

    #[inline(always)]
    pub(super) fn to_array(self) -> [A; LANES] {
        self.0.to_array()
    }

    /// Narrows to 16 elements.
    #[inline(always)]
    pub(super) fn narrow<T: Element<Acc = A>>(self) -> [T; LANES] {
        T::narrow_vector::<S>(self.0)
    }

    /// The lanes from `x[at..at + 16]`.
    #[inline(always)]
    pub(super) fn load<T: Element<Acc = A>>(x: &[T], at: usize) -> Self {
        let tile = &x[at..at + LANES];
        // SAFETY: the tile has 16 elements.
        Self(unsafe { T::load_vector::<S>(tile.as_ptr()) })
    }

    /// The lanes from `x[at..at + 16]`, without a look at its length.
    ///
    /// # Safety
    /// `x` must have `at` + 16 elements.
    #[inline(always)]
    pub(super) unsafe fn load_unchecked<T: Element<Acc = A>>(x: &[T], at: usize) -> Self {
        debug_assert!(at + LANES <= x.len());
        // SAFETY: by the caller.
        Self(unsafe { T::load_vector::<S>(x.as_ptr().add(at)) })
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
            let sum = Self::load_unchecked(y, at) + other;
            y.as_mut_ptr().add(at).cast::<[A; LANES]>().write_unaligned(sum.to_array());
        }
        end_tile();
    }

    /// 32 elements, where [`Pairs`](super::Pairs) puts them.
    #[inline(always)]
    pub(super) fn load_pair<T: Element<Acc = A>>(x: &[T; 2 * LANES]) -> [Self; 2] {
        // SAFETY: there are 32 elements.
        let [a, b] = unsafe { T::load_pair::<S>(x.as_ptr()) };
        [Self(a), Self(b)]
    }

    /// Two vectors of which one belongs to each of [`load_pair`](Self::load_pair)'s, in the order
    /// of the elements.
    #[inline(always)]
    pub(super) fn in_order<T: Element<Acc = A>>([a, b]: [Self; 2]) -> [Self; 2] {
        let [a, b] = T::in_order([a.to_array(), b.to_array()]);
        [Self::from_array(a), Self::from_array(b)]
    }

    /// The inverse of [`in_order`](Self::in_order).
    #[inline(always)]
    pub(super) fn apart<T: Element<Acc = A>>([a, b]: [Self; 2]) -> [Self; 2] {
        let [a, b] = T::apart([a.to_array(), b.to_array()]);
        [Self::from_array(a), Self::from_array(b)]
    }

    /// As [`load`](Self::load), also where x is shorter than a vector; the lanes past its end
    /// are 0.
    #[inline(always)]
    pub(super) fn load_few<T: Element<Acc = A>>(x: &[T], at: usize) -> Self {
        if x.len() >= LANES {
            return Self::load(x, at);
        }
        let mut tile = [T::default(); LANES];
        tile[..x.len()].copy_from_slice(x);
        Self::load(&tile, 0)
    }

    /// Writes the lanes to `y[at..at + 16]`.
    #[inline(always)]
    pub(super) fn store(self, y: &mut [A], at: usize) {
        y[at..at + LANES].copy_from_slice(&self.to_array());
        end_tile();
    }

    /// f of the numbers in each lane, in f64; `f` gets the lane, too.
    pub(super) fn map_in_f64<const K: usize>(
        lanes: [Self; K],
        f: impl Fn(usize, [f64; K]) -> f64,
    ) -> Self {
        let lanes = lanes.map(Self::to_array);
        let value = |lane: usize| f(lane, lanes.map(|lanes| lanes[lane].to_f64()));
        Self::from_array(std::array::from_fn(|lane| A::from_f64(value(lane))))
    }

    /// The sum of the lanes in f64.
    #[inline(always)]
    pub(super) fn sum(self) -> f64 {
        self.0.sum()
    }
}

impl<A: Real, S: Vectors> Add for Lanes<A, S> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0.add(other.0))
    }
}

impl<A: Real, S: Vectors> Sub for Lanes<A, S> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0.sub(other.0))
    }
}

impl<A: Real, S: Vectors> Mul for Lanes<A, S> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(self.0.mul(other.0))
    }
}
