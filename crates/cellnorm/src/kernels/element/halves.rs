//! f16 (IEEE binary16) and bf16 (the upper half of an f32), computed with in f32.
//!
//! The conversions are a few additions, shifts and selects without a branch, so that a compiler
//! makes vector instructions of them on any processor. The passes convert by the instructions that
//! a set has for it (F16C, AVX-512 BF16), with the same bits. They give what the crate `half`
//! gives, bit by bit, except that a signalling NaN becomes quiet in the first addition only.
//!
//! | | bits | exponent | largest | least normal | least |
//! |---|---|---|---|---|---|
//! | f16 | 1 + 5 + 10 | −14 to 15 | 65504 | 2⁻¹⁴ | 2⁻²⁴ |
//! | bf16 | 1 + 8 + 7 | −126 to 127 | 3.39e38 | 2⁻¹²⁶ | 2⁻¹³³ |

use half::{bf16, f16};

use super::Element;

const SIGN: u32 = 0x8000_0000;
/// The bits of an f32's exponent, which is infinity.
const INFINITY: u32 = 0x7f80_0000;
/// The bit of an f32 that makes a NaN quiet.
const QUIET: u32 = 0x0040_0000;
/// Between the exponents of an f32 and of an f16, in place.
const REBIAS: u32 = (127 - 15) << 23;
/// The exponent of an f16, where it lies in an f32.
const EXPONENT: u32 = 31 << 23;
/// The digits of an f16 after its exponent, likewise.
const DIGITS: u32 = 0x03ff << 13;
/// 2⁻¹⁴, the least normal f16.
const LEAST: u32 = 113 << 23;

/// All ones where the condition holds, else 0.
#[inline(always)]
fn mask(condition: bool) -> u32 {
    u32::from(condition).wrapping_neg()
}

/// The bits of the nearest bf16, in the upper half of a word.
#[inline(always)]
pub(crate) fn nearest_bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    // half a unit of the last place kept, less a little where that place is even: ties go to even
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    if value.is_nan() { bits | QUIET } else { rounded }
}

impl Element for bf16 {
    type Acc = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = nearest_bf16(value);
        // a signed shift, since SSE2 packs signed numbers alone
        Self::from_bits((bits as i32 >> 16) as u16)
    }
}

impl Element for f16 {
    type Acc = f32;

    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = (i32::from(self.to_bits() as i16) as u32) << 13;
        let (sign, exponent) = (bits & SIGN, bits & EXPONENT);
        let near = f32::from_bits((bits & (SIGN | EXPONENT | DIGITS)) + REBIAS);
        // m · 2⁻²⁴, a subnormal, has now become 2⁻¹⁵ + m · 2⁻²⁵: twice that less 2⁻¹⁴, and no f32
        // on the way is subnormal
        let twice = mask(exponent == 0) & (near - f32::from_bits(sign | LEAST)).to_bits();
        let special = mask(exponent == EXPONENT) & REBIAS;
        f32::from_bits(((near + f32::from_bits(twice)).to_bits() + special) | sign)
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let size = f32::from_bits(bits & !SIGN);
        // beyond the largest f16; from 65520 the rounding leads there, too
        let size = if size < 65536.0 { size } else { 65536.0 };
        // 2¹³ times the power of two below `size`, or 2¹³ times the least normal f16: an f32 of
        // that size has the last place that the f16 will have, so adding it rounds, and leaves the
        // f16's digits at the end
        let unit = f32::from_bits((size.to_bits() & INFINITY) + (13 << 23));
        let unit = if unit > 0.5 { unit } else { 0.5 };
        let digits = (size + unit).to_bits().wrapping_sub(unit.to_bits());
        let rounded = digits.wrapping_add(unit.to_bits().wrapping_sub(0.5_f32.to_bits()) >> 13);
        let nan = 0x7e00 | (bits >> 13 & 0x03ff);
        let size = if value.is_nan() { nan } else { rounded & 0x7fff };
        Self::from_bits(((bits as i32 >> 16 & !0x7fff) | size as i32) as u16)
    }
}
