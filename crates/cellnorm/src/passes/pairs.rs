//! 32 elements at once, as two vectors of 16.
//!
//! Two bf16 are a word of 32 bits: a shift makes an f32 of the one and a mask of the other, and no
//! number changes its place within a register, which costs more than everything else about a bf16.
//! So the two vectors hold the even elements and the odd ones. Elements of other types stay in
//! order.
//!
//! A map does not care which element is where, nor does a sum that has an accumulator for each of
//! 32 elements: at its end, [`in_order`](Pairs::in_order) brings the accumulators to their places,
//! and its bits are those of two vectors in order.

use half::{bf16, f16};

use super::lanes::LANES;
use crate::element::{Element, nearest_bf16};

/// The elements of two vectors.
pub(super) const PAIR: usize = 2 * LANES;

/// How two vectors are made of 32 elements.
#[allow(missing_docs, reason = "not to be named from outside")]
pub trait Pairs: Sized {
    /// Whether two vectors at once cost less than one and another.
    const AT_ONCE: bool;
    fn widen_pair(x: [Self; PAIR]) -> [[Self::Acc; LANES]; 2]
    where
        Self: Element;
    fn narrow_pair(pair: [[Self::Acc; LANES]; 2]) -> [Self; PAIR]
    where
        Self: Element;
    /// Numbers where `widen_pair` puts them, as those of elements 0 to 15 and 16 to 31.
    fn in_order<A: Copy + Default>(pair: [[A; LANES]; 2]) -> [[A; LANES]; 2];
    /// The inverse of `in_order`.
    fn apart<A: Copy + Default>(pair: [[A; LANES]; 2]) -> [[A; LANES]; 2];
}

macro_rules! in_order {
    ($($t:ty),*) => {$(
        impl Pairs for $t {
            const AT_ONCE: bool = false;
            #[inline(always)]
            fn widen_pair(x: [Self; PAIR]) -> [[<Self as Element>::Acc; LANES]; 2] {
                let mut pair = [[Default::default(); LANES]; 2];
                for i in 0..LANES {
                    pair[0][i] = x[i].widen();
                    pair[1][i] = x[LANES + i].widen();
                }
                pair
            }
            #[inline(always)]
            fn narrow_pair(pair: [[<Self as Element>::Acc; LANES]; 2]) -> [Self; PAIR] {
                let mut x = [Default::default(); PAIR];
                for i in 0..LANES {
                    x[i] = <$t>::narrow(pair[0][i]);
                    x[LANES + i] = <$t>::narrow(pair[1][i]);
                }
                x
            }
            #[inline(always)]
            fn in_order<A: Copy + Default>(pair: [[A; LANES]; 2]) -> [[A; LANES]; 2] {
                pair
            }
            #[inline(always)]
            fn apart<A: Copy + Default>(pair: [[A; LANES]; 2]) -> [[A; LANES]; 2] {
                pair
            }
        }
    )*};
}
in_order!(f32, f64, f16);

/// The upper half of a word.
const UPPER: u32 = 0xffff_0000;

impl Pairs for bf16 {
    const AT_ONCE: bool = cfg!(target_endian = "little");

    #[inline(always)]
    fn widen_pair(x: [Self; PAIR]) -> [[f32; LANES]; 2] {
        // SAFETY: both are 64 bytes, without padding, and any bits are a number.
        let words = unsafe { std::mem::transmute::<[Self; PAIR], [u32; LANES]>(x) };
        let mut pair = [[0.0; LANES]; 2];
        for i in 0..LANES {
            pair[0][i] = f32::from_bits(words[i] << 16);
            pair[1][i] = f32::from_bits(words[i] & UPPER);
        }
        if cfg!(target_endian = "little") { pair } else { [pair[1], pair[0]] }
    }

    #[inline(always)]
    fn narrow_pair(pair: [[f32; LANES]; 2]) -> [Self; PAIR] {
        let [low, high] = if cfg!(target_endian = "little") { pair } else { [pair[1], pair[0]] };
        let mut words = [0; LANES];
        for i in 0..LANES {
            words[i] = nearest_bf16(low[i]) >> 16 | nearest_bf16(high[i]) & UPPER;
        }
        // SAFETY: as in `widen_pair`.
        unsafe { std::mem::transmute::<[u32; LANES], [Self; PAIR]>(words) }
    }

    #[inline(always)]
    fn in_order<A: Copy + Default>([even, odd]: [[A; LANES]; 2]) -> [[A; LANES]; 2] {
        let mut pair = [[A::default(); LANES]; 2];
        for i in 0..LANES {
            pair[i / 8][2 * i % LANES] = even[i];
            pair[i / 8][2 * i % LANES + 1] = odd[i];
        }
        pair
    }

    #[inline(always)]
    fn apart<A: Copy + Default>(pair: [[A; LANES]; 2]) -> [[A; LANES]; 2] {
        let mut apart = [[A::default(); LANES]; 2];
        for i in 0..LANES {
            apart[0][i] = pair[i / 8][2 * i % LANES];
            apart[1][i] = pair[i / 8][2 * i % LANES + 1];
        }
        apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_vectors() {
        let x: [bf16; PAIR] = std::array::from_fn(|i| bf16::from_bits((i * 2003) as u16));
        let widened = bf16::in_order(bf16::widen_pair(x));
        for i in 0..PAIR {
            assert_eq!(widened[i / LANES][i % LANES].to_bits(), x[i].widen().to_bits(), "{i}");
        }
        assert_eq!(bf16::apart(bf16::in_order(widened)), widened);
        // ties, numbers that round up to infinity, both infinities, subnormal ones and NaN
        let bits =
            [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 1, 0x0000_8001, 0x7f80_0001];
        let y: [[f32; LANES]; 2] =
            std::array::from_fn(|half| std::array::from_fn(|i| f32::from_bits(bits[(i + half) % bits.len()])));
        let narrowed = bf16::narrow_pair(bf16::apart(y));
        for i in 0..PAIR {
            let expected = bf16::narrow(y[i / LANES][i % LANES]);
            assert_eq!(narrowed[i].to_bits(), expected.to_bits(), "{i}");
        }
    }
}
