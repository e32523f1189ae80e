//! The numbers a tensor may hold, and the numbers a pass computes with.
//!
//! A pass loads elements, widens them to [`Element::Acc`], computes, and narrows on store. A further element type
//! (f16, bf16) is one implementation of [`Element`] with
//! `Acc = f32`, here: the trait is sealed.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Sub};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A number that tensors are made of: `f32` or `f64`.
pub trait Element: Copy + Default + Debug + PartialEq + Send + Sync + 'static + sealed::Sealed {
    /// The type that passes compute in: at least `f32`.
    type Acc: Real;
    /// The value in the wider type, exactly.
    fn widen(self) -> Self::Acc;
    /// The nearest element to a computed value.
    fn narrow(value: Self::Acc) -> Self;
}

/// A number that passes compute in: `f32` or `f64`.
pub trait Real:
    Element<Acc = Self> + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + PartialOrd
{
    /// The nearest value to `value`.
    fn from_f64(value: f64) -> Self;
    /// The value as `f64`, exactly.
    fn to_f64(self) -> f64;
}

macro_rules! real {
    ($($t:ty),*) => {$(
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
            #[inline(always)]
            fn from_f64(value: f64) -> $t {
                value as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}
real!(f32, f64);
