//! The numbers a tensor may hold, and the numbers a pass computes with.
//!
//! A pass loads elements, widens them to [`Element::Acc`], computes, and narrows on store. A
//! further element type is one implementation of [`Element`], here: the trait is sealed, since
//! passes rely on widening that is exact and on conversions that are inlined into each instruction
//! set's kernels. The 16-bit types are in `halves`.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Sub};

mod exp;
mod halves;

use crate::kernels::{Compiled, Lane, Pairs};

pub(crate) use halves::nearest_bf16;

/// A number that tensors are made of: `f32`, `f64`, [`half::f16`] or [`half::bf16`].
///
/// The 16-bit types are stored and nothing else: passes compute in f32, and tables, statistics, γ
/// and β are f64 whatever the tensor holds. So y and dx are rounded once, to the nearest element,
/// and what PyTorch calls mixed precision — bf16 data with f32 parameters — is the only way there
/// is.
///
/// ```
/// use cellnorm::LayerNormConfig;
/// use half::bf16;
/// use ndarray::array;
///
/// let x = array![[1.0, 2.0, 3.0, 6.0]].mapv(bf16::from_f64);
/// let y = LayerNormConfig::new(&[4]).init()?.infer(x)?;
/// assert_eq!(y, array![[-1.07, -0.535, 0.0, 1.6]].mapv(bf16::from_f64));
/// # Ok::<(), cellnorm::Error>(())
/// ```
///
/// The trait is sealed: it cannot be implemented for other types.
pub trait Element:
    Copy + Default + Debug + PartialEq + Send + Sync + 'static + Compiled + Pairs
{
    /// The type that passes compute in: at least `f32`.
    type Acc: Real;
    /// The value in the wider type, exactly; NaN keeps its digits, and the first operation makes it
    /// quiet.
    fn widen(self) -> Self::Acc;
    /// The nearest element to a computed value, of two the even one; infinity where it is beyond
    /// the largest, as IEEE 754 has it; NaN becomes a quiet NaN.
    fn narrow(value: Self::Acc) -> Self;
}

/// A number that passes compute in: `f32` or `f64`.
pub trait Real:
    Element<Acc = Self>
    + Lane
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + PartialOrd
{
    /// Centers from here on are subtracted in f64, since the difference of two numbers of this type
    /// may not fit it; infinity where f64 holds no more.
    const FAR: f64;
    /// Scales below are subnormal and have fewer digits; 0 where f64 holds no more.
    const LEAST: f64;
    /// The nearest value to `value`.
    fn from_f64(value: f64) -> Self;
    /// The value as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// eˣ within a few units in the last place, the same bits on every machine; 0 and infinity
    /// where it is near the range's ends.
    fn exp(self) -> Self;
}

macro_rules! real {
    ($($t:ty, $exp:ident, $far:expr, $least:expr);*) => {$(
        impl Element for $t {
            type Acc = $t;
            #[inline(always)]
            fn widen(self) -> $t {
                self
            }
            #[inline(always)]
            fn narrow(value: $t) -> $t {
                value
            }
        }
        impl Real for $t {
            const FAR: f64 = $far;
            const LEAST: f64 = $least;
            #[inline(always)]
            fn from_f64(value: f64) -> $t {
                value as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn exp(self) -> $t {
                exp::$exp(self)
            }
        }
    )*};
}
// of f32, half of the last place of the largest number
real!(f32, exp_f32, (1_u128 << 103) as f64, f32::MIN_POSITIVE as f64; f64, exp_f64, f64::INFINITY, 0.0);
