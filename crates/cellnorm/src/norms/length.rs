//! The length n = ‖x‖_p of a vector, its divisor D, which a floor keeps from 0, and the slope of n
//! by each value: ∂n/∂x_i = sign(x_i) (|x_i| / n)^(p − 1).
//!
//! A length is scale · relative with scale = max |x| and relative the norm of x / scale: powers of
//! that neither overflow nor vanish. Squares of elements narrower than f64 do neither in f64, so
//! that for p = 1 and 2 the norm is the scale, and relative 1: x is read once.
//!
//! Lines that are runs of memory are computed one at a time, interleaved ones a strip at a time;
//! terms are joined in the same order, so that both give the same bits.

use super::lines::reduce;
use super::lp::Floor;
use super::strips::{Fault, Row, SIDE, Strip};
use crate::kernels::{self, Element};

/// n as a product.
#[derive(Clone, Copy)]
pub(super) struct Length {
    pub(super) scale: f64,
    pub(super) relative: f64,
}

impl Length {
    fn unscaled(norm: f64) -> Self {
        Self { scale: norm, relative: 1.0 }
    }

    /// Whether x was finite.
    pub(super) fn checked(&self) -> Result<(), &'static str> {
        if self.scale.is_finite() && self.relative.is_finite() { Ok(()) } else { Err("x") }
    }
}

/// Whether powers of elements need a scale.
fn scaled<T>(p: f64) -> bool {
    size_of::<T>() >= size_of::<f64>() || (p != 1.0 && p != 2.0)
}

/// ‖x‖_p of a run of memory.
#[inline(always)]
pub(super) fn length<T: Element>(x: &[T], p: f64) -> Length {
    if !scaled::<T>(p) {
        return Length::unscaled(match p {
            1.0 => reduce([x], |[x]| x.abs(), add),
            _ => reduce([x], |[x]| x * x, add).sqrt(),
        });
    }
    let scale = reduce([x], |[x]| x.abs(), larger);
    let unit = Divisor::by(scale, 1.0, 1.0);
    let relative = match p {
        f64::INFINITY => 1.0,
        1.0 => reduce([x], |[x]| unit.divide(x).abs(), add),
        2.0 => reduce([x], |[x]| unit.divide(x).powi(2), add).sqrt(),
        p => reduce([x], |[x]| unit.divide(x).abs().powf(p), add).powf(1.0 / p),
    };
    Length { scale, relative }
}

/// The lengths of the lines of a strip.
pub(super) struct Lengths {
    pub(super) scale: Row,
    relative: Row,
}

impl Lengths {
    #[inline(always)]
    pub(super) fn new<T: Element>(x: &[T], strip: Strip, p: f64) -> Self {
        let terms = Terms { x, strip };
        if !scaled::<T>(p) {
            let scale = match p {
                1.0 => terms.joined(add, f64::abs),
                _ => terms.joined(add, square).map(f64::sqrt),
            };
            return Self { scale, relative: ONES };
        }
        let scale = terms.joined(larger, f64::abs);
        let units = &Divisors::of(&Self { scale, relative: ONES });
        let relative = match p {
            f64::INFINITY => ONES,
            1.0 => terms.joined_divided(units, f64::abs),
            2.0 => terms.joined_divided(units, square).map(f64::sqrt),
            p => terms.joined_divided(units, |x| x.abs().powf(p)).map(|sum| sum.powf(1.0 / p)),
        };
        Self { scale, relative }
    }

    #[inline(always)]
    pub(super) fn of(&self, line: usize) -> Length {
        Length { scale: self.scale.0[line], relative: self.relative.0[line] }
    }

    /// # Errors
    /// The first line whose x was not finite.
    #[inline(always)]
    pub(super) fn checked(&self) -> Result<(), Fault> {
        // 0 times a number is 0 where it is finite
        self.scale.zip(self.relative, |scale, relative| 0.0 * scale + 0.0 * relative).finite("x")
    }
}

const ONES: Row = Row([1.0; SIDE]);

/// The values of a strip, of which terms are joined.
struct Terms<'a, T> {
    x: &'a [T],
    strip: Strip,
}

impl<T: Element> Terms<'_, T> {
    #[inline(always)]
    fn joined(&self, join: impl Fn(f64, f64) -> f64, term: impl Fn(f64) -> f64) -> Row {
        joined(
            self.strip.len,
            join,
            #[inline(always)]
            |i| self.strip.load(self.x, i).map(&term),
        )
    }

    /// The sum of terms of x / n.
    #[inline(always)]
    fn joined_divided(&self, units: &Divisors, term: impl Fn(f64) -> f64) -> Row {
        joined(
            self.strip.len,
            add,
            #[inline(always)]
            |i| units.divide(self.strip.load(self.x, i)).map(&term),
        )
    }
}

#[inline(always)]
fn square(x: f64) -> f64 {
    x * x
}

/// Joins the `len` terms of each line of a strip, those of one index a row, as [`reduce`] joins the
/// terms of a line: first those after whole eights, then what each of 8 lanes joined.
#[inline(always)]
pub(super) fn joined(
    len: usize,
    join: impl Fn(f64, f64) -> f64,
    terms: impl Fn(usize) -> Row,
) -> Row {
    let whole = len / 8 * 8;
    let mut all = Row::ZEROS;
    for i in whole..len {
        all = all.zip(terms(i), &join);
    }
    for first in 0..whole.min(8) {
        let mut lane = Row::ZEROS;
        for i in (first..whole).step_by(8) {
            lane = lane.zip(terms(i), &join);
        }
        all = all.zip(lane, &join);
    }
    all
}

/// Calls `map(line of x, line of out)`, which must be `#[inline(always)]`, for every line of `len`
/// elements, and returns the first that fails; all are mapped.
pub(super) fn for_lines<T: Element>(
    x: &[T],
    out: &mut [T],
    len: usize,
    map: impl Fn(&[T], &mut [T]) -> Result<(), &'static str> + Sync,
) -> Result<(), Fault> {
    kernels::fill_lines(out, len, |line, out| {
        kernels::vectorized(
            #[inline(always)]
            || map(&x[line * len..][..len], out),
        )
    })
}

/// The larger, or the first where it is NaN: a comparison with NaN is false, so that NaN stays.
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if a >= b || a.is_nan() { a } else { b }
}

#[inline(always)]
pub(super) fn add(a: f64, b: f64) -> f64 {
    a + b
}

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
