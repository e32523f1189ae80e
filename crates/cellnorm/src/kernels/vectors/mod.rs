//! The registers of each instruction set, as virtual vectors of 16 numbers.
//!
//! A virtual vector is one to four registers. Its operations are the set's own instructions, so
//! that what is written as a vector is compiled as one: arithmetic on arrays is rearranged by the
//! compiler, at times into shuffles that take longer than the arithmetic. The portable set computes
//! on arrays, on processors without another.
//!
//! The functions of a set may be called only where the processor has it. So only
//! [`dispatch`](super::dispatch) names a set other than [`Portable`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512_bf16::Avx512Bf16;
pub(super) use portable::Portable;

use half::{bf16, f16};

use super::lanes::LANES;
use super::pairs::PAIR;

/// The upper half of a word.
const UPPER: u32 = 0xffff_0000;

/// An instruction set: its vectors, and how it stores past the caches.
#[allow(missing_docs, reason = "not to be named from outside")]
pub trait Vectors: Copy + Send + Sync + 'static {
    type F32: Vector<f32>;
    type F64: Vector<f64>;
    /// Whether a reduction takes four vectors of columns at once, not two. This needs registers for
    /// three numbers of each column.
    const FOUR_COLUMNS: bool;

    /// Stores a tile: its lines are not read first, and do not push others out.
    ///
    /// # Safety
    /// The target must be valid for a tile, and its address a multiple of the tile's size or of a
    /// line, whichever is less; other threads may read there only after
    /// [`order_streamed_stores`](super::lines::order_streamed_stores).
    unsafe fn stream<T: Copy, const N: usize>(tile: [T; N], target: *mut T);

    /// 16 numbers, widened.
    ///
    /// # Safety
    /// `from` must be valid for 16 numbers.
    unsafe fn load_f16(from: *const f16) -> Self::F32;
    /// The nearest numbers.
    fn narrow_f16(of: Self::F32) -> [f16; LANES];
    /// 16 numbers, widened.
    ///
    /// # Safety
    /// `from` must be valid for 16 numbers.
    unsafe fn load_bf16(from: *const bf16) -> Self::F32;
    /// The even and the odd ones of 32 numbers, widened.
    ///
    /// # Safety
    /// `from` must be valid for 32 numbers.
    unsafe fn load_bf16_pair(from: *const bf16) -> [Self::F32; 2];
    /// The nearest numbers.
    fn narrow_bf16(of: Self::F32) -> [bf16; LANES];
    /// The numbers nearest to the even and the odd ones.
    fn narrow_bf16_pair(pair: [Self::F32; 2]) -> [bf16; PAIR];
}

/// 16 numbers of type `A` in registers.
#[allow(missing_docs, reason = "not to be named from outside")]
pub trait Vector<A>: Copy {
    fn splat(value: A) -> Self;
    fn from_array(of: [A; LANES]) -> Self;
    fn to_array(self) -> [A; LANES];
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// The sum in f64 by halving: with q the four quarters, f = (q₀ + q₂) + (q₁ + q₃), and
    /// (f₀ + f₂) + (f₁ + f₃).
    fn sum(self) -> f64;
}

/// A number that vectors compute with.
#[allow(missing_docs, reason = "not to be named from outside")]
pub trait Lane: Copy {
    type In<S: Vectors>: Vector<Self>;
}

impl Lane for f32 {
    type In<S: Vectors> = S::F32;
}

impl Lane for f64 {
    type In<S: Vectors> = S::F64;
}

/// Registers of one type as a virtual vector.
#[cfg(target_arch = "x86_64")]
macro_rules! registers {
    ($name:ident: $($part:literal)* of $number:ident in $register:ident,
     $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $sum:ident) => {
        #[derive(Clone, Copy)]
        pub struct $name(pub(super) [$register; [$($part),*].len()]);

        // SAFETY, of all: vectors of this set are made only where the processor has it.
        impl Vector<$number> for $name {
            #[inline(always)]
            fn splat(value: $number) -> Self {
                // SAFETY: as above.
                Self([unsafe { $splat(value) }; [$($part),*].len()])
            }
            #[inline(always)]
            fn from_array(of: [$number; LANES]) -> Self {
                const EACH: usize = size_of::<$register>() / size_of::<$number>();
                // SAFETY: as above, and each part lies within the array.
                Self([$(unsafe { $load(of.as_ptr().add($part * EACH)) }),*])
            }
            #[inline(always)]
            fn to_array(self) -> [$number; LANES] {
                const EACH: usize = size_of::<$register>() / size_of::<$number>();
                let mut of = [0.0; LANES];
                // SAFETY: as above.
                $(unsafe { $store(of.as_mut_ptr().add($part * EACH), self.0[$part]) };)*
                of
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: as above.
                Self([$(unsafe { $add(self.0[$part], other.0[$part]) }),*])
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: as above.
                Self([$(unsafe { $sub(self.0[$part], other.0[$part]) }),*])
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                // SAFETY: as above.
                Self([$(unsafe { $mul(self.0[$part], other.0[$part]) }),*])
            }
            #[inline(always)]
            fn sum(self) -> f64 {
                // SAFETY: as above.
                unsafe { $sum(self.0) }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
use registers;
