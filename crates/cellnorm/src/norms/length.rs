//! The length of a vector, ‖x‖_p.
//!
//! A length is scale · relative with scale = max |x| and relative the norm of x / scale: powers of that neither overflow nor
//! vanish. Squares of elements narrower than f64 do neither in f64, so that for p = 1 and 2 the norm is the scale, and relative
//! 1: x is read once.
//!
//! Lines that are runs of memory are computed one at a time, interleaved ones a strip at a time; terms are joined in the same
//! order, so that both give the same bits.

use super::divisor::{Divisor, Divisors};
use super::lines::reduce;
use super::strips::{FEW, Few, Row, SIDE, Strip};
use crate::element::Element;
use crate::passes;

/// The number of a line, and the name of what is not finite there.
pub(super) type Fault = (usize, &'static str);

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

/// The lengths of the lines of a strip; of those beyond its width, 0.
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
                _ => each(terms.joined(add, square), f64::sqrt),
            };
            return Self { scale, relative: [1.0; SIDE] };
        }
        let scale = terms.joined(larger, f64::abs);
        let units = &Divisors::of(&Self { scale, relative: [1.0; SIDE] });
        let relative = match p {
            f64::INFINITY => [1.0; SIDE],
            1.0 => terms.joined_divided(units, f64::abs),
            2.0 => each(terms.joined_divided(units, square), f64::sqrt),
            p => each(terms.joined_divided(units, |x| x.abs().powf(p)), |sum| sum.powf(1.0 / p)),
        };
        Self { scale, relative }
    }

    #[inline(always)]
    pub(super) fn of(&self, lane: usize) -> Length {
        Length { scale: self.scale[lane], relative: self.relative[lane] }
    }

    /// The first line of a strip of this width whose x was not finite.
    #[inline(always)]
    pub(super) fn checked(&self, width: usize) -> Result<(), Fault> {
        // 0 times a number is 0 where it is finite
        let zero = |sum: f64, lane: usize| sum + 0.0 * self.scale[lane] + 0.0 * self.relative[lane];
        if (0..width).fold(0.0, zero) == 0.0 {
            return Ok(());
        }
        let fault = |lane: usize| Some((lane, self.of(lane).checked().err()?));
        (0..width).find_map(fault).map_or(Ok(()), Err)
    }
}

/// The values of a strip, of which terms are joined.
struct Terms<'a, T> {
    x: &'a [T],
    strip: Strip,
}

impl<T: Element> Terms<'_, T> {
    #[inline(always)]
    fn joined(&self, join: impl Fn(f64, f64) -> f64, term: impl Fn(f64) -> f64) -> Row {
        joined(
            self.strip,
            join,
            #[inline(always)]
            |i, lane| each(self.strip.few(self.x, i, lane), &term),
        )
    }

    /// The sum of terms of x / n.
    #[inline(always)]
    fn joined_divided(&self, units: &Divisors, term: impl Fn(f64) -> f64) -> Row {
        joined(
            self.strip,
            add,
            #[inline(always)]
            |i, lane| each(units.divide_few(lane, self.strip.few(self.x, i, lane)), &term),
        )
    }
}

#[inline(always)]
fn square(x: f64) -> f64 {
    x * x
}

#[inline(always)]
fn each<const N: usize>(mut values: [f64; N], of: impl Fn(f64) -> f64) -> [f64; N] {
    for value in &mut values {
        *value = of(*value);
    }
    values
}

/// Joins the terms of each line of a strip, those of index i of a few lines from a lane, as [`reduce`] joins the terms of a line:
/// in 8 lanes, and those that remain in one of their own. A few lines at a time, so that the lanes stay in registers.
#[inline(always)]
pub(super) fn joined(strip: Strip, join: impl Fn(f64, f64) -> f64, terms: impl Fn(usize, usize) -> Few) -> Row {
    let mut row = [0.0; SIDE];
    let tiles = strip.len / 8;
    for (lane, row) in (0..strip.width).step_by(FEW).zip(row.as_chunks_mut::<FEW>().0) {
        let mut lanes = [Few::default(); 8];
        for tile in 0..tiles {
            for (all, i) in lanes.iter_mut().zip(8 * tile..) {
                onto(all, terms(i, lane), &join);
            }
        }
        for i in 8 * tiles..strip.len {
            onto(row, terms(i, lane), &join);
        }
        if tiles > 0 {
            for few in lanes {
                onto(row, few, &join);
            }
        }
    }
    row
}

#[inline(always)]
fn onto(all: &mut Few, few: Few, join: &impl Fn(f64, f64) -> f64) {
    for (all, term) in all.iter_mut().zip(few) {
        *all = join(*all, term);
    }
}

/// Calls `map(line of x, line of out)`, which must be `#[inline(always)]`, for every line of `len` elements, and returns the first
/// that fails; all are mapped.
pub(super) fn for_lines<T: Element>(
    x: &[T],
    out: &mut [T],
    len: usize,
    map: impl Fn(&[T], &mut [T]) -> Result<(), &'static str> + Sync,
) -> Result<(), Fault> {
    passes::fill_lines(out, len, |line, out| {
        passes::vectorized(
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
