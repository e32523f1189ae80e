//! AVX-512: registers of 64 bytes.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Avx2, UPPER, Vector, Vectors, avx2, registers};
use crate::kernels::lanes::{LANES, end_tile};
use crate::kernels::lines::LINE;
use crate::kernels::pairs::PAIR;

/// The instruction set.
#[derive(Clone, Copy)]
pub struct Avx512;

registers!(F32: 0 of f32 in __m512,
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, sum_f32);
registers!(F64: 0 1 of f64 in __m512d,
    _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_sub_pd, _mm512_mul_pd, sum_f64);

impl Vectors for Avx512 {
    type F32 = F32;
    type F64 = F64;
    const FOUR_COLUMNS: bool = true;

    #[inline(always)]
    unsafe fn stream<T: Copy, const N: usize>(tile: [T; N], target: *mut T) {
        if size_of_val(&tile) < LINE {
            // SAFETY: by the caller; AVX-512 has all of AVX2.
            return unsafe { Avx2::stream(tile, target) };
        }
        for part in 0..size_of_val(&tile) / 64 {
            // SAFETY: the part lies within the tile and, by the caller, within the destination,
            // which is aligned; this set is used where the processor has it.
            unsafe {
                let value = _mm512_loadu_si512(tile.as_ptr().cast::<u8>().add(part * 64).cast());
                _mm512_stream_si512(target.cast::<u8>().add(part * 64).cast(), value);
            }
        }
        end_tile();
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> F32 {
        // SAFETY: by the caller, and as above.
        unsafe { F32([_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))]) }
    }

    #[inline(always)]
    fn narrow_f16(F32([value]): F32) -> [f16; LANES] {
        // SAFETY: as above; both are 32 bytes, and any bits are a number.
        unsafe {
            std::mem::transmute::<__m256i, [f16; LANES]>(_mm512_cvtps_ph::<{ avx2::NEAREST }>(
                value,
            ))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> F32 {
        // SAFETY: by the caller, and as above.
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            F32([_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))])
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pair(from: *const bf16) -> [F32; 2] {
        // SAFETY: by the caller, and as above.
        unsafe {
            let words = _mm512_loadu_si512(from.cast());
            let even = _mm512_slli_epi32::<16>(words);
            let odd = _mm512_and_si512(words, _mm512_set1_epi32(UPPER as i32));
            [F32([_mm512_castsi512_ps(even)]), F32([_mm512_castsi512_ps(odd)])]
        }
    }

    #[inline(always)]
    fn narrow_bf16(F32([value]): F32) -> [bf16; LANES] {
        // SAFETY: as above; both are 32 bytes, and any bits are a number.
        unsafe {
            let mut nearest = nearest(value);
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value) != 0 {
                nearest = quiet(value, nearest);
            }
            let packed = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(nearest));
            std::mem::transmute::<__m256i, [bf16; LANES]>(packed)
        }
    }

    #[inline(always)]
    fn narrow_bf16_pair([F32([even]), F32([odd])]: [F32; 2]) -> [bf16; PAIR] {
        // SAFETY: as above, of 64 bytes.
        unsafe {
            let [mut low, mut high] = [nearest(even), nearest(odd)];
            // unordered where either is NaN
            if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(even, odd) != 0 {
                [low, high] = [quiet(even, low), quiet(odd, high)];
            }
            let words = _mm512_ternarylogic_epi32::<SELECT>(
                _mm512_set1_epi32(UPPER as i32),
                high,
                _mm512_srli_epi32::<16>(low),
            );
            std::mem::transmute::<__m512i, [bf16; PAIR]>(words)
        }
    }
}

/// See [`Vector::sum`].
#[inline(always)]
unsafe fn sum_f32([of]: [__m512; 1]) -> f64 {
    // SAFETY: as above.
    unsafe {
        let high = _mm512_extractf32x8_ps::<1>(of);
        sum_f64([_mm512_cvtps_pd(_mm512_castps512_ps256(of)), _mm512_cvtps_pd(high)])
    }
}

/// See [`Vector::sum`].
#[inline(always)]
unsafe fn sum_f64([a, b]: [__m512d; 2]) -> f64 {
    // SAFETY: as above.
    unsafe {
        let sum = _mm512_add_pd(a, b);
        avx2::sum_of_four(_mm256_add_pd(
            _mm512_castpd512_pd256(sum),
            _mm512_extractf64x4_pd::<1>(sum),
        ))
    }
}

/// The bits of b where a has ones, else those of c.
const SELECT: i32 = 0b1100_1010;

/// The nearest bf16 of each, in the upper half of a word: see
/// [`nearest_bf16`](crate::kernels::nearest_bf16).
#[inline(always)]
unsafe fn nearest(value: __m512) -> __m512i {
    // SAFETY: as above.
    unsafe {
        let bits = _mm512_castps_si512(value);
        let even = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), even)
    }
}

/// The same with a quiet NaN for a NaN.
#[inline(always)]
unsafe fn quiet(value: __m512, nearest: __m512i) -> __m512i {
    // SAFETY: as above.
    unsafe {
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
        _mm512_mask_or_epi32(
            nearest,
            nan,
            _mm512_castps_si512(value),
            _mm512_set1_epi32(0x0040_0000),
        )
    }
}
