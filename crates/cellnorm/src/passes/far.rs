//! Centers so far from 0 that x − center can leave the computing type: the passes go on in f64, one
//! lane at a time.
//!
//! The difference of two f32 overflows only where one of them is at least 2¹⁰³, half of the largest
//! number's last place. Such a mean is rare, but of bf16 and f32 rows near the largest number it is
//! what the mean is. Their scale can be too small for all digits, too.

use super::affine::Affine;
use super::lanes::Lanes;
use super::vectors::Vectors;
use crate::element::Real;

/// Whether the map cannot be computed in `A` to all its digits.
#[inline(always)]
pub(super) fn is_out<A: Real>(affine: &Affine) -> bool {
    is_far::<A>(affine.center) || affine.scale != 0.0 && affine.scale.abs() < A::LEAST
}

/// Whether x − `center` can be more than `A` holds.
#[inline(always)]
pub(super) fn is_far<A: Real>(center: f64) -> bool {
    center.abs() >= A::FAR
}

/// f of the numbers in each lane, in f64; `f` gets the lane, too.
pub(super) fn map<A: Real, S: Vectors, const K: usize>(
    lanes: [Lanes<A, S>; K],
    f: impl Fn(usize, [f64; K]) -> f64,
) -> Lanes<A, S> {
    let lanes = lanes.map(Lanes::to_array);
    let of_lane = |lane: usize| f(lane, lanes.map(|lanes| lanes[lane].to_f64()));
    Lanes::from_array(std::array::from_fn(|lane| A::from_f64(of_lane(lane))))
}
