//! The divisor of a vector: D, its length kept from 0 by a floor.

use super::length::{Length, Lengths};
use super::lp::Floor;
use super::strips::{Row, SIDE};

/// 1 / D as a product, for the same reason as a length is one, and ∂D/∂n.
#[derive(Clone, Copy)]
pub(super) struct Divisor {
    first: f64,
    second: f64,
    pub(super) slope: f64,
}

impl Divisor {
    #[inline(always)]
    pub(super) fn new(length: Length, floor: Floor) -> Self {
        let Floor::AddSquare(epsilon) = floor else { return Self::at_least(least(floor), length) };
        let Length { scale, relative } = length;
        let common = scale.max(epsilon.sqrt());
        let norm = scale / common * relative;
        let both = norm.hypot(epsilon.sqrt() / common);
        Self::by(common, both, norm / both)
    }

    /// D is the length, or `least` where that is larger. No branch in here and in `by`, so that
    /// several lines are done at once.
    #[inline(always)]
    fn at_least(least: f64, Length { scale, relative }: Length) -> Self {
        let below = scale * relative < least;
        let pick = |then: f64, otherwise: f64| if below { then } else { otherwise };
        Self::by(pick(least, scale), pick(1.0, relative), pick(0.0, 1.0))
    }

    /// 1 / n.
    #[inline(always)]
    pub(super) fn of(length: Length) -> Self {
        Self::by(length.scale, length.relative, 1.0)
    }

    /// D = scale · relative; where that is 0, everything divided by it is 0.
    #[inline(always)]
    pub(super) fn by(scale: f64, relative: f64, slope: f64) -> Self {
        // 1 / scale can overflow, or have lost digits below the least normal number; the second
        // factor makes up for both
        let first = f64::min(1.0 / scale, 1e300);
        let second = 1.0 / (scale * first * relative);
        let unless_zero = |value: f64| if scale == 0.0 { 0.0 } else { value };
        Self { first: unless_zero(first), second: unless_zero(second), slope: unless_zero(slope) }
    }

    #[inline(always)]
    pub(super) fn divide(&self, value: f64) -> f64 {
        value * self.first * self.second
    }
}

/// The least length, by a floor that is no sum.
fn least(floor: Floor) -> f64 {
    match floor {
        Floor::Max(epsilon) => epsilon,
        Floor::MaxSquare(epsilon) => epsilon.sqrt(),
        // `Divisor::new` adds instead
        Floor::AddSquare(_) | Floor::None => 0.0,
    }
}

/// The divisors of a strip.
pub(super) struct Divisors {
    first: Row,
    second: Row,
    pub(super) slope: Row,
}

impl Divisors {
    #[inline(always)]
    pub(super) fn new(lengths: &Lengths, floor: Floor) -> Self {
        if let Floor::AddSquare(_) = floor {
            return Self::each(|line| Divisor::new(lengths.of(line), floor));
        }
        let least = least(floor);
        Self::each(
            #[inline(always)]
            |line| Divisor::at_least(least, lengths.of(line)),
        )
    }

    /// 1 / n.
    #[inline(always)]
    pub(super) fn of(lengths: &Lengths) -> Self {
        Self::each(
            #[inline(always)]
            |line| Divisor::of(lengths.of(line)),
        )
    }

    #[inline(always)]
    fn each(divisor: impl Fn(usize) -> Divisor) -> Self {
        let mut all = Self { first: Row::ZEROS, second: Row::ZEROS, slope: Row::ZEROS };
        for line in 0..SIDE {
            let one = divisor(line);
            (all.first.0[line], all.second.0[line], all.slope.0[line]) =
                (one.first, one.second, one.slope);
        }
        all
    }

    #[inline(always)]
    pub(super) fn divide(&self, values: Row) -> Row {
        values
            .zip(self.first, |value, first| value * first)
            .zip(self.second, |value, second| value * second)
    }
}
