//! AVX-512 with instructions for bf16: those of [`Avx512`], except that a bf16 is rounded by one
//! instruction.
//!
//! That instruction takes subnormal numbers for 0, so they are rounded by [`Avx512`]. Of other
//! numbers it gives the same bits.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Avx512, Vectors, avx512};
use crate::kernels::lanes::LANES;
use crate::kernels::pairs::PAIR;

/// The instruction set.
#[derive(Clone, Copy)]
pub struct Avx512Bf16;

impl Vectors for Avx512Bf16 {
    type F32 = avx512::F32;
    type F64 = avx512::F64;
    const FOUR_COLUMNS: bool = true;

    #[inline(always)]
    unsafe fn stream<T: Copy, const N: usize>(tile: [T; N], target: *mut T) {
        // SAFETY: by the caller.
        unsafe { Avx512::stream(tile, target) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self::F32 {
        // SAFETY: by the caller.
        unsafe { Avx512::load_f16(from) }
    }

    #[inline(always)]
    fn narrow_f16(of: Self::F32) -> [f16; LANES] {
        Avx512::narrow_f16(of)
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self::F32 {
        // SAFETY: by the caller.
        unsafe { Avx512::load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn load_bf16_pair(from: *const bf16) -> [Self::F32; 2] {
        // SAFETY: by the caller.
        unsafe { Avx512::load_bf16_pair(from) }
    }

    #[inline(always)]
    fn narrow_bf16(of: Self::F32) -> [bf16; LANES] {
        let avx512::F32([value]) = of;
        // SAFETY: this set is used where the processor has it; both are 32 bytes, and any bits are
        // a number.
        unsafe {
            if _mm512_fpclass_ps_mask::<SUBNORMAL>(value) != 0 {
                return Avx512::narrow_bf16(of);
            }
            std::mem::transmute::<__m256bh, [bf16; LANES]>(_mm512_cvtneps_pbh(value))
        }
    }

    #[inline(always)]
    fn narrow_bf16_pair(pair: [Self::F32; 2]) -> [bf16; PAIR] {
        let [avx512::F32([even]), avx512::F32([odd])] = pair;
        // SAFETY: as above, of 64 bytes.
        unsafe {
            if _mm512_fpclass_ps_mask::<SUBNORMAL>(even) | _mm512_fpclass_ps_mask::<SUBNORMAL>(odd)
                != 0
            {
                return Avx512::narrow_bf16_pair(pair);
            }
            let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(odd, even));
            let order = std::mem::transmute::<[u16; PAIR], __m512i>(ALTERNATING);
            std::mem::transmute::<__m512i, [bf16; PAIR]>(_mm512_permutexvar_epi16(order, halves))
        }
    }
}

/// The class of subnormal numbers, of either sign.
const SUBNORMAL: i32 = 0x20;

/// The order that takes one of the first 16, then one of the last 16.
const ALTERNATING: [u16; PAIR] = {
    let mut order = [0; PAIR];
    let mut i = 0;
    while i < PAIR {
        order[i] = (i / 2 + i % 2 * LANES) as u16;
        i += 1;
    }
    order
};
