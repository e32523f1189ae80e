//! Widening and narrowing of f16 and bf16, bit by bit against the crate `half`.

use cellnorm::Element;
use half::{bf16, f16};

use crate::common::Numbers;

/// The conversions of the crate `half`, as bits.
trait Reference: Element<Acc = f32> {
    fn of_bits(bits: u16) -> Self;
    fn bits(self) -> u16;
    fn to_f32(self) -> f32;
    fn from_f32(value: f32) -> Self;
}

macro_rules! reference {
    ($($t:ty),*) => {$(
        impl Reference for $t {
            fn of_bits(bits: u16) -> Self {
                <$t>::from_bits(bits)
            }
            fn bits(self) -> u16 {
                self.to_bits()
            }
            fn to_f32(self) -> f32 {
                <$t>::to_f32(self)
            }
            fn from_f32(value: f32) -> Self {
                <$t>::from_f32(value)
            }
        }
    )*};
}
reference!(f16, bf16);

fn widens<T: Reference>() {
    for bits in 0..=u16::MAX {
        let element = T::of_bits(bits);
        let (ours, theirs) = (element.widen(), element.to_f32());
        // `half` makes a NaN quiet here, the passes in their first subtraction
        let quiet = if theirs.is_nan() { ours.to_bits() | 1 << 22 } else { ours.to_bits() };
        assert_eq!(quiet, theirs.to_bits(), "{bits:04x} of {}", std::any::type_name::<T>());
        assert_eq!(ours.is_nan(), theirs.is_nan());
    }
}

#[test]
fn all_values_widen() {
    widens::<f16>();
    widens::<bf16>();
}

fn narrows<T: Reference>(bits: u32) {
    let value = f32::from_bits(bits);
    let (ours, theirs) = (T::narrow(value), T::from_f32(value));
    assert_eq!(
        ours.bits(),
        theirs.bits(),
        "{bits:08x} = {value:e} to {}",
        std::any::type_name::<T>()
    );
}

/// Every value of the type, every tie between two neighbours, and the f32 just around each.
fn narrows_around_values<T: Reference>() {
    for bits in 0..u16::MAX {
        let (value, next) = (T::of_bits(bits).to_f32(), T::of_bits(bits + 1).to_f32());
        let middle = ((f64::from(value) + f64::from(next)) / 2.0) as f32;
        for value in [value, middle] {
            for bits in
                [value.to_bits().wrapping_sub(1), value.to_bits(), value.to_bits().wrapping_add(1)]
            {
                narrows::<T>(bits);
            }
        }
    }
}

#[test]
fn values_ties_and_their_neighbours_narrow() {
    narrows_around_values::<f16>();
    narrows_around_values::<bf16>();
    // the tie beyond the largest, where there is no next value
    let limits = [
        65519.996_f32,
        65520.0,
        65536.0,
        f32::MAX,
        f32::INFINITY,
        f32::from_bits(0x7f7f_7fff),
        f32::NAN,
    ];
    let least = [
        2_f32.powi(-24),
        2_f32.powi(-25),
        2_f32.powi(-26),
        f32::from_bits(0x7fff),
        f32::from_bits(0x8000),
    ];
    for value in limits.into_iter().chain(least).flat_map(|value| [value, -value]) {
        for bits in [value.to_bits() - 1, value.to_bits(), value.to_bits() + 1] {
            narrows::<f16>(bits);
            narrows::<bf16>(bits);
        }
    }
}

/// Eight million f32, half of them evenly over all bit patterns, half at random.
#[test]
fn any_f32_narrows() {
    let mut numbers = Numbers::new(16);
    for even in (0..=u32::MAX).step_by(1021) {
        for bits in [even, numbers.bits() as u32] {
            narrows::<f16>(bits);
            narrows::<bf16>(bits);
        }
    }
}

/// Not a sample: all 2³² of them, in about a minute.
#[test]
#[ignore = "takes a minute"]
fn every_f32_narrows() {
    for bits in 0..=u32::MAX {
        narrows::<f16>(bits);
        narrows::<bf16>(bits);
    }
}
