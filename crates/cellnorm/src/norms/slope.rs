//! The slope of a vector's length by each of its values: ∂n/∂x_i = sign(x_i) (|x_i| / n)^(p − 1).

use super::divisor::{Divisor, Divisors};
use super::length::{Length, Lengths};
use super::strips::{Row, SIDE};

/// ∂n/∂x_i.
#[derive(Clone, Copy)]
pub(super) struct Slope {
    p: f64,
    unit: Divisor,
    scale: f64,
    /// 1 / the number of largest values, among which p = ∞ shares the slope.
    share: f64,
}

impl Slope {
    pub(super) fn new<I: Iterator<Item = f64>>(
        p: f64,
        length: Length,
        line: impl FnOnce() -> I,
    ) -> Self {
        let scale = length.scale;
        let share = match p {
            f64::INFINITY => 1.0 / line().filter(|x| x.abs() == scale).count() as f64,
            _ => 1.0,
        };
        Self { p, unit: Divisor::of(length), scale, share }
    }

    #[inline(always)]
    pub(super) fn at(&self, x: f64) -> f64 {
        match self.p {
            2.0 => self.unit.divide(x),
            _ if x == 0.0 => 0.0,
            1.0 => 1.0_f64.copysign(x),
            f64::INFINITY if x.abs() < self.scale => 0.0,
            f64::INFINITY => self.share.copysign(x),
            p => self.unit.divide(x).abs().powf(p - 1.0).copysign(x),
        }
    }
}

/// The slopes of a strip, for any p except 2, where ∂n/∂x is x / n.
pub(super) struct Slopes(Vec<Slope>);

impl Slopes {
    #[inline(always)]
    pub(super) fn new<I: Iterator<Item = f64>>(
        p: f64,
        lengths: &Lengths,
        line: impl Fn(usize) -> I,
    ) -> Self {
        if p == 2.0 {
            return Self(vec![]);
        }
        Self((0..SIDE).map(|number| Slope::new(p, lengths.of(number), || line(number))).collect())
    }

    /// ∂n/∂x of the values of one index; `units` divide by n.
    #[inline(always)]
    pub(super) fn at(&self, units: &Divisors, mut x: Row) -> Row {
        if self.0.is_empty() {
            return units.divide(x);
        }
        for (x, line) in x.0.iter_mut().zip(&self.0) {
            *x = line.at(*x);
        }
        x
    }
}
