//! The set of any processor, which computes on arrays. On x86-64 a tile is stored past the caches
//! by SSE2.

use std::hint::black_box;

use half::{bf16, f16};

use super::{UPPER, Vector, Vectors};
use crate::kernels::lanes::{LANES, end_tile};
use crate::kernels::pairs::PAIR;
use crate::kernels::{Element, Real, nearest_bf16};

/// The set that every processor has.
#[derive(Clone, Copy)]
pub struct Portable;

impl Vectors for Portable {
    type F32 = Array<f32>;
    type F64 = Array<f64>;
    const FOUR_COLUMNS: bool = false;

    #[inline(always)]
    unsafe fn stream<T: Copy, const N: usize>(tile: [T; N], target: *mut T) {
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

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Array<f32> {
        // SAFETY: by the caller.
        widen(unsafe { from.cast::<[f16; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    fn narrow_f16(of: Array<f32>) -> [f16; LANES] {
        narrow(of)
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Array<f32> {
        // SAFETY: by the caller.
        widen(unsafe { from.cast::<[bf16; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_bf16_pair(from: *const bf16) -> [Array<f32>; 2] {
        // SAFETY: by the caller; any bits are a word.
        let words = unsafe { from.cast::<[u32; LANES]>().read_unaligned() };
        let mut pair = [[0.0; LANES]; 2];
        for i in 0..LANES {
            pair[0][i] = f32::from_bits(words[i] << 16);
            pair[1][i] = f32::from_bits(words[i] & UPPER);
        }
        let pair = if cfg!(target_endian = "little") { pair } else { [pair[1], pair[0]] };
        [Array(pair[0]), Array(pair[1])]
    }

    #[inline(always)]
    fn narrow_bf16(of: Array<f32>) -> [bf16; LANES] {
        narrow(of)
    }

    #[inline(always)]
    fn narrow_bf16_pair([even, odd]: [Array<f32>; 2]) -> [bf16; PAIR] {
        let [low, high] =
            if cfg!(target_endian = "little") { [even.0, odd.0] } else { [odd.0, even.0] };
        let mut words = [0; LANES];
        for i in 0..LANES {
            words[i] = nearest_bf16(low[i]) >> 16 | nearest_bf16(high[i]) & UPPER;
        }
        // SAFETY: both are 64 bytes, and any bits are a number.
        unsafe { std::mem::transmute::<[u32; LANES], [bf16; PAIR]>(words) }
    }
}

/// Widens; a loop, not `map`, which becomes a call.
#[inline(always)]
fn widen<T: Element<Acc = f32>>(x: [T; LANES]) -> Array<f32> {
    let mut wide = [0.0; LANES];
    for (wide, x) in wide.iter_mut().zip(x) {
        *wide = x.widen();
    }
    Array(wide)
}

/// Narrows; a loop likewise.
#[inline(always)]
fn narrow<T: Element<Acc = f32>>(of: Array<f32>) -> [T; LANES] {
    let mut narrow = [T::default(); LANES];
    for (narrow, value) in narrow.iter_mut().zip(of.0) {
        *narrow = T::narrow(value);
    }
    narrow
}

/// Registers that the compiler chooses.
#[derive(Clone, Copy)]
pub struct Array<A>([A; LANES]);

macro_rules! array {
    ($($t:ty),*) => {$(
        impl Vector<$t> for Array<$t> {
            #[inline(always)]
            fn splat(value: $t) -> Self {
                Self([value; LANES])
            }
            #[inline(always)]
            fn from_array(of: [$t; LANES]) -> Self {
                Self(of)
            }
            #[inline(always)]
            fn to_array(self) -> [$t; LANES] {
                self.0
            }
            #[inline(always)]
            fn add(mut self, other: Self) -> Self {
                for (a, b) in self.0.iter_mut().zip(other.0) {
                    *a += b;
                }
                self
            }
            #[inline(always)]
            fn sub(mut self, other: Self) -> Self {
                for (a, b) in self.0.iter_mut().zip(other.0) {
                    *a -= b;
                }
                self
            }
            #[inline(always)]
            fn mul(mut self, other: Self) -> Self {
                for (a, b) in self.0.iter_mut().zip(other.0) {
                    *a *= b;
                }
                self
            }
            /// The lanes pass through memory: seeing the halving of several sums, the compiler
            /// would take them one lane at a time.
            #[inline(always)]
            fn sum(self) -> f64 {
                let lanes = black_box(self.0);
                let mut four = [0.0; LANES / 4];
                for i in 0..LANES / 4 {
                    let [a, b, c, d] = [0, 4, 8, 12].map(|quarter| lanes[quarter + i].to_f64());
                    four[i] = (a + c) + (b + d);
                }
                let four = black_box(four);
                (four[0] + four[2]) + (four[1] + four[3])
            }
        }
    )*};
}
array!(f32, f64);
