//! f16 (IEEE binary16) and bf16 (the upper half of an f32), computed with in f32.
//!
//! The conversions are a few operations on 32-bit integers without a branch, so that 16 lanes at a time become vector
//! instructions on any instruction set, and the bits are the same on all of them; the instructions that some machines have for
//! this (F16C, AVX-512 BF16) are not used. They give what the crate `half` gives, bit by bit.
//!
//! | | bits | exponent | largest | least normal | least |
//! |---|---|---|---|---|---|
//! | f16 | 1 + 5 + 10 | −14 to 15 | 65504 | 2⁻¹⁴ | 2⁻²⁴ |
//! | bf16 | 1 + 8 + 7 | −126 to 127 | 3.39e38 | 2⁻¹²⁶ | 2⁻¹³³ |

use half::{bf16, f16};

use super::Element;

const SIGN: u32 = 0x8000_0000;
const INFINITY: u32 = 0x7f80_0000;
/// The bit of an f32 that makes a NaN quiet.
const QUIET: u32 = 0x0040_0000;
/// Between the exponents of an f32 and of an f16, in place.
const REBIAS: u32 = (127 - 15) << 23;
/// The f32 whose last bit is worth 2⁻²⁴, as is that of the least f16: 0.5.
const HALF: u32 = 126 << 23;

/// All ones where the condition holds, else 0: a select that stays arithmetic.
#[inline(always)]
fn mask(condition: bool) -> u32 {
    u32::from(condition).wrapping_neg()
}

#[inline(always)]
fn select(condition: bool, yes: u32, no: u32) -> u32 {
    let mask = mask(condition);
    (yes & mask) | (no & !mask)
}

impl Element for bf16 {
    type Acc = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits()) << 16;
        f32::from_bits(bits | (mask(bits & !SIGN > INFINITY) & QUIET))
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        // half a unit of the last place kept, less a little where that place is even: ties go to even
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let bits = select(bits & !SIGN > INFINITY, bits | QUIET, rounded);
        Self::from_bits((bits >> 16) as u16)
    }
}

impl Element for f16 {
    type Acc = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let (sign, magnitude) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
        let (special, nan) = (magnitude >= 0x7c00 << 13, magnitude > 0x7c00 << 13);
        let normal = magnitude + REBIAS + (mask(special) & REBIAS) | (mask(nan) & QUIET);
        // m · 2⁻²⁴, the subnormal: the difference is exact, and no f32 in it is subnormal
        let subnormal = f32::from_bits(HALF | (magnitude >> 13)) - f32::from_bits(HALF);
        f32::from_bits(sign | select(magnitude < 0x0400 << 13, subnormal.to_bits(), normal))
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let (sign, magnitude) = (bits >> 16 & 0x8000, bits & !SIGN);
        let rounded = magnitude.wrapping_sub(REBIAS).wrapping_add(0x0fff + (magnitude >> 13 & 1)) >> 13;
        // the sum's last bit is that of the least f16, so the addition rounds where an f16 does
        let subnormal = (f32::from_bits(magnitude) + f32::from_bits(HALF)).to_bits().wrapping_sub(HALF);
        let finite = select(magnitude < REBIAS + (1 << 23), subnormal, rounded);
        let nan = mask(magnitude > INFINITY) & (0x0200 | (magnitude >> 13 & 0x03ff));
        let bits = select(magnitude >= REBIAS + (31 << 23), 0x7c00 | nan, finite);
        Self::from_bits((sign | bits) as u16)
    }
}
