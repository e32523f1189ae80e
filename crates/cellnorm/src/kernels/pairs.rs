//! Elements as vectors of numbers: 16 of them as one, or 32 as two.
//!
//! Two bf16 are a word of 32 bits: a shift makes an f32 of the one and a mask of the other, and no
//! number changes its place within a register, which costs more than everything else about a bf16.
//! So two vectors hold the even elements and the odd ones. Elements of other types stay in order.
//!
//! A map does not care which element is where, nor does a sum that has an accumulator for each of
//! 32 elements: at its end, [`in_order`](Pairs::in_order) brings the accumulators to their places,
//! and its bits are those of two vectors in order.

use half::{bf16, f16};

use super::lanes::LANES;
use super::vectors::{Lane, Vector, Vectors};
use crate::kernels::Element;

/// The elements of two vectors.
pub(super) const PAIR: usize = 2 * LANES;

/// The vector of the numbers that elements are computed with.
type Of<T, S> = <<T as Element>::Acc as Lane>::In<S>;

/// How vectors are made of elements, and elements of vectors.
#[allow(missing_docs, reason = "not to be named from outside")]
pub trait Pairs: Sized {
    /// Whether two vectors at once cost less than one and another.
    const AT_ONCE: bool;
    /// Whether these are bf16, for which some processors have instructions.
    const BF16: bool;
    /// # Safety
    /// `from` must be valid for 16 elements.
    unsafe fn load_vector<S: Vectors>(from: *const Self) -> Of<Self, S>
    where
        Self: Element;
    fn narrow_vector<S: Vectors>(of: Of<Self, S>) -> [Self; LANES]
    where
        Self: Element;
    /// # Safety
    /// `from` must be valid for 32 elements.
    unsafe fn load_pair<S: Vectors>(from: *const Self) -> [Of<Self, S>; 2]
    where
        Self: Element;
    fn narrow_pair<S: Vectors>(pair: [Of<Self, S>; 2]) -> [Self; PAIR]
    where
        Self: Element;
    /// Numbers where `load_pair` puts them, as those of elements 0 to 15 and 16 to 31.
    fn in_order<A: Copy + Default>(pair: [[A; LANES]; 2]) -> [[A; LANES]; 2];
    /// The inverse of `in_order`.
    fn apart<A: Copy + Default>(pair: [[A; LANES]; 2]) -> [[A; LANES]; 2];
}

/// Types whose elements stay in order.
macro_rules! in_order {
    ($t:ty, $load:expr, $narrow:expr) => {
        impl Pairs for $t {
            const AT_ONCE: bool = false;
            const BF16: bool = false;
            #[inline(always)]
            unsafe fn load_vector<S: Vectors>(from: *const Self) -> Of<Self, S> {
                // SAFETY: by the caller.
                unsafe { $load(from) }
            }
            #[inline(always)]
            fn narrow_vector<S: Vectors>(of: Of<Self, S>) -> [Self; LANES] {
                $narrow(of)
            }
            #[inline(always)]
            unsafe fn load_pair<S: Vectors>(from: *const Self) -> [Of<Self, S>; 2] {
                // SAFETY: by the caller.
                unsafe { [$load(from), $load(from.add(LANES))] }
            }
            #[inline(always)]
            fn narrow_pair<S: Vectors>([a, b]: [Of<Self, S>; 2]) -> [Self; PAIR] {
                let mut pair = [Self::default(); PAIR];
                pair.copy_from_slice([$narrow(a), $narrow(b)].as_flattened());
                pair
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
    };
}
in_order!(f32, load_array, Vector::to_array);
in_order!(f64, load_array, Vector::to_array);
in_order!(f16, S::load_f16, S::narrow_f16);

/// 16 numbers as they are.
///
/// # Safety
/// `from` must be valid for 16 numbers.
#[inline(always)]
unsafe fn load_array<A, V: Vector<A>>(from: *const A) -> V {
    // SAFETY: by the caller.
    Vector::from_array(unsafe { from.cast::<[A; LANES]>().read_unaligned() })
}

impl Pairs for bf16 {
    const AT_ONCE: bool = true;
    const BF16: bool = true;

    #[inline(always)]
    unsafe fn load_vector<S: Vectors>(from: *const Self) -> S::F32 {
        // SAFETY: by the caller.
        unsafe { S::load_bf16(from) }
    }

    #[inline(always)]
    fn narrow_vector<S: Vectors>(of: S::F32) -> [Self; LANES] {
        S::narrow_bf16(of)
    }

    #[inline(always)]
    unsafe fn load_pair<S: Vectors>(from: *const Self) -> [S::F32; 2] {
        // SAFETY: by the caller.
        unsafe { S::load_bf16_pair(from) }
    }

    #[inline(always)]
    fn narrow_pair<S: Vectors>(pair: [S::F32; 2]) -> [Self; PAIR] {
        S::narrow_bf16_pair(pair)
    }

    #[inline(always)]
    fn in_order<A: Copy + Default>([even, odd]: [[A; LANES]; 2]) -> [[A; LANES]; 2] {
        let mut pair = [[A::default(); LANES]; 2];
        for i in 0..LANES {
            pair[2 * i / LANES][2 * i % LANES] = even[i];
            pair[2 * i / LANES][2 * i % LANES + 1] = odd[i];
        }
        pair
    }

    #[inline(always)]
    fn apart<A: Copy + Default>(pair: [[A; LANES]; 2]) -> [[A; LANES]; 2] {
        let mut apart = [[A::default(); LANES]; 2];
        for i in 0..LANES {
            apart[0][i] = pair[2 * i / LANES][2 * i % LANES];
            apart[1][i] = pair[2 * i / LANES][2 * i % LANES + 1];
        }
        apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Real;
    use crate::kernels::dispatch::{Kernel, dispatch, instruction_sets, on_instruction_set};

    /// Bits of f32 at which narrowing changes: ties, numbers that round up to infinity, both
    /// infinities, subnormal ones of each type, and NaN.
    const BITS: [u32; 16] = [
        0x3f80_8000,
        0x3f81_8000,
        0x3f80_8001,
        0x7f7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        1,
        0x0000_8001,
        0x7f80_0001,
        0xffff_ffff,
        0x807f_ffff,
        0x477f_f000,
        0x3300_0000,
        0x3300_0001,
        0x387f_f000,
        0xb800_1000,
    ];

    /// The same without subnormal numbers, which a processor may round by other instructions.
    const NORMAL: [u32; 8] = [
        0x3f80_8000,
        0x3f81_8000,
        0x7f80_0001,
        0x7f7f_ffff,
        0x7f80_0000,
        0xffff_ffff,
        0xff80_0000,
        0x3f80_8001,
    ];

    /// 32 elements as numbers and 32 numbers as elements, one vector at a time and in pairs.
    struct Both<T>([T; PAIR], [f32; PAIR]);

    impl<T: Element<Acc = f32>> Kernel for Both<T> {
        type Output = ([[[f32; LANES]; 2]; 2], [Vec<T>; 2]);
        const BF16: bool = T::BF16;
        fn run<S: Vectors>(self) -> Self::Output {
            let Self(x, y) = self;
            // SAFETY: there are 32 elements.
            let (single, pair) = unsafe {
                let single =
                    [T::load_vector::<S>(x.as_ptr()), T::load_vector::<S>(x[LANES..].as_ptr())];
                (single, T::load_pair::<S>(x.as_ptr()))
            };
            let pair = T::in_order([pair[0].to_array(), pair[1].to_array()]);
            let (halves, _) = y.as_chunks::<LANES>();
            let narrow = |half: usize| T::narrow_vector::<S>(Vector::from_array(halves[half]));
            let [even, odd] = T::apart([halves[0], halves[1]]);
            let of_pair = T::narrow_pair::<S>([Vector::from_array(even), Vector::from_array(odd)]);
            (
                [[single[0].to_array(), single[1].to_array()], pair],
                [[narrow(0), narrow(1)].concat(), of_pair.to_vec()],
            )
        }
    }

    /// Compares with `widen` and `narrow`, for all elements and many numbers.
    fn check<T: Element<Acc = f32>>(of_bits: fn(u16) -> T, bits: fn(T) -> u16) {
        /// A processor may make a NaN quiet while it widens it.
        fn quiet(x: f32) -> u32 {
            if x.is_nan() { x.to_bits() | 0x0040_0000 } else { x.to_bits() }
        }
        for set in instruction_sets() {
            for round in 0..2048 {
                let x: [T; PAIR] = std::array::from_fn(|i| of_bits((round * PAIR + i) as u16));
                let y: [f32; PAIR] = std::array::from_fn(|i| {
                    let any = (round * PAIR + i).wrapping_mul(0x9e37_79b1) as u32;
                    let special: &[u32] = if round % 2 == 0 { &BITS } else { &NORMAL };
                    f32::from_bits(match (round + i) % 3 {
                        0 => special[(round + i) / 3 % special.len()],
                        _ if round % 4 == 1 => any | 1 << 30,
                        _ => any,
                    })
                });
                let (wide, narrow) =
                    on_instruction_set(set, || dispatch(Both(x, y))).expect("the set is there");
                for i in 0..PAIR {
                    for wide in wide {
                        assert_eq!(
                            quiet(wide[i / LANES][i % LANES]),
                            quiet(x[i].widen()),
                            "{set} {:?}",
                            x[i]
                        );
                    }
                    for narrow in &narrow {
                        assert_eq!(
                            bits(narrow[i]),
                            bits(T::narrow(y[i])),
                            "{set} {:x}",
                            y[i].to_bits()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn vectors_are_made_as_numbers_are() {
        check(bf16::from_bits, bf16::to_bits);
        check(f16::from_bits, f16::to_bits);
    }

    /// Sums, differences and products lane by lane, and the sum by halves.
    struct Arithmetic<A>([A; LANES], [A; LANES]);

    impl<A: Real> Kernel for Arithmetic<A> {
        type Output = ([[A; LANES]; 3], f64);
        fn run<S: Vectors>(self) -> Self::Output {
            let [a, b] = [self.0, self.1].map(A::In::<S>::from_array);
            ([a.add(b).to_array(), a.sub(b).to_array(), a.mul(b).to_array()], a.sum())
        }
    }

    #[test]
    fn arithmetic_is_that_of_numbers() {
        fn check<A: Real>() {
            let x = |i: usize, by: f64| A::from_f64((i as f64 * by).sin() * 1e3);
            let (a, b) = (std::array::from_fn(|i| x(i, 1.7)), std::array::from_fn(|i| x(i, 0.3)));
            let q = |quarter: usize, i: usize| a[4 * quarter + i].to_f64();
            let f: [f64; 4] = std::array::from_fn(|i| (q(0, i) + q(2, i)) + (q(1, i) + q(3, i)));
            for set in instruction_sets() {
                let ([sum, difference, product], total) =
                    on_instruction_set(set, || dispatch(Arithmetic(a, b)))
                        .expect("the set is there");
                assert_eq!(total, (f[0] + f[2]) + (f[1] + f[3]), "{set}");
                for i in 0..LANES {
                    let expected = [a[i] + b[i], a[i] - b[i], a[i] * b[i]];
                    assert_eq!([sum[i], difference[i], product[i]], expected, "{set}");
                }
            }
        }
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn apart_is_the_inverse_of_in_order() {
        let pair: [[usize; LANES]; 2] =
            std::array::from_fn(|half| std::array::from_fn(|i| half * LANES + i));
        assert_eq!(bf16::apart(bf16::in_order(pair)), pair);
        assert_eq!(bf16::in_order(bf16::apart(pair)), pair);
    }
}
