//! AVX2 with conversions of f16 (F16C): registers of 32 bytes.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{UPPER, Vector, Vectors, registers};
use crate::kernels::lanes::{LANES, end_tile};
use crate::kernels::pairs::PAIR;

/// The instruction set.
#[derive(Clone, Copy)]
pub struct Avx2;

registers!(F32: 0 1 of f32 in __m256,
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, sum_f32);
registers!(F64: 0 1 2 3 of f64 in __m256d,
    _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_sub_pd, _mm256_mul_pd, sum_f64);

impl Vectors for Avx2 {
    type F32 = F32;
    type F64 = F64;
    const FOUR_COLUMNS: bool = false;

    #[inline(always)]
    unsafe fn stream<T: Copy, const N: usize>(tile: [T; N], target: *mut T) {
        for part in 0..size_of_val(&tile) / 32 {
            // SAFETY: the part lies within the tile and, by the caller, within the destination,
            // which is aligned; this set is used where the processor has it.
            unsafe {
                let value = _mm256_loadu_si256(tile.as_ptr().cast::<u8>().add(part * 32).cast());
                _mm256_stream_si256(target.cast::<u8>().add(part * 32).cast(), value);
            }
        }
        end_tile();
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> F32 {
        // SAFETY: by the caller, and as above.
        unsafe {
            let [a, b] = [_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(8).cast())];
            F32([_mm256_cvtph_ps(a), _mm256_cvtph_ps(b)])
        }
    }

    #[inline(always)]
    fn narrow_f16(F32([a, b]): F32) -> [f16; LANES] {
        // SAFETY: as above; both are 32 bytes, and any bits are a number.
        unsafe {
            let halves = [_mm256_cvtps_ph::<NEAREST>(a), _mm256_cvtps_ph::<NEAREST>(b)];
            std::mem::transmute::<[__m128i; 2], [f16; LANES]>(halves)
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> F32 {
        // SAFETY: by the caller, and as above.
        unsafe {
            let a = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let b = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
            f32_of([_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b)])
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pair(from: *const bf16) -> [F32; 2] {
        // SAFETY: by the caller, and as above.
        unsafe {
            let [a, b] = [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(16).cast())];
            let even = [_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b)];
            let upper = _mm256_set1_epi32(UPPER as i32);
            let odd = [_mm256_and_si256(a, upper), _mm256_and_si256(b, upper)];
            [f32_of(even), f32_of(odd)]
        }
    }

    #[inline(always)]
    fn narrow_bf16(F32([a, b]): F32) -> [bf16; LANES] {
        // SAFETY: as above; both are 32 bytes, and any bits are a number.
        unsafe {
            let [a, b] = [_mm256_srli_epi32::<16>(nearest(a)), _mm256_srli_epi32::<16>(nearest(b))];
            // the instruction packs each half of the registers by itself, so quarters come as 0 2 1
            // 3
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(a, b));
            std::mem::transmute::<__m256i, [bf16; LANES]>(packed)
        }
    }

    #[inline(always)]
    fn narrow_bf16_pair([F32([a, b]), F32([c, d])]: [F32; 2]) -> [bf16; PAIR] {
        // SAFETY: as above, of 64 bytes.
        unsafe {
            let first = _mm256_blend_epi16::<ODD>(_mm256_srli_epi32::<16>(nearest(a)), nearest(c));
            let second = _mm256_blend_epi16::<ODD>(_mm256_srli_epi32::<16>(nearest(b)), nearest(d));
            std::mem::transmute::<[__m256i; 2], [bf16; PAIR]>([first, second])
        }
    }
}

/// See [`Vector::sum`].
#[inline(always)]
unsafe fn sum_f32([a, b]: [__m256; 2]) -> f64 {
    // SAFETY: as above.
    unsafe {
        let [low_a, high_a] = [_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)];
        let [low_b, high_b] = [_mm256_castps256_ps128(b), _mm256_extractf128_ps::<1>(b)];
        let (low_a, high_a) = (_mm256_cvtps_pd(low_a), _mm256_cvtps_pd(high_a));
        sum_f64([low_a, high_a, _mm256_cvtps_pd(low_b), _mm256_cvtps_pd(high_b)])
    }
}

/// See [`Vector::sum`].
#[inline(always)]
unsafe fn sum_f64([a, b, c, d]: [__m256d; 4]) -> f64 {
    // SAFETY: as above.
    unsafe { sum_of_four(_mm256_add_pd(_mm256_add_pd(a, c), _mm256_add_pd(b, d))) }
}

/// (f₀ + f₂) + (f₁ + f₃).
#[inline(always)]
pub(super) unsafe fn sum_of_four(of: __m256d) -> f64 {
    // SAFETY: as above.
    unsafe {
        let two = _mm_add_pd(_mm256_castpd256_pd128(of), _mm256_extractf128_pd::<1>(of));
        _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
    }
}

/// To the nearest, of two the even one.
pub(super) const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
/// The odd ones of eight.
const ODD: i32 = 0b1010_1010;

/// Bits as numbers.
#[inline(always)]
unsafe fn f32_of([a, b]: [__m256i; 2]) -> F32 {
    // SAFETY: as above.
    unsafe { F32([_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)]) }
}

/// The nearest bf16 of each, in the upper half of a word: see
/// [`nearest_bf16`](crate::kernels::nearest_bf16).
#[inline(always)]
unsafe fn nearest(value: __m256) -> __m256i {
    // SAFETY: as above.
    unsafe {
        let bits = _mm256_castps_si256(value);
        let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, even), _mm256_set1_epi32(0x7fff));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(value, value);
        _mm256_castps_si256(_mm256_blendv_ps(
            _mm256_castsi256_ps(rounded),
            _mm256_castsi256_ps(quiet),
            nan,
        ))
    }
}
