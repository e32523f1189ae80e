//! The length of a vector, and what is divided by it.
//!
//! A length is scale · relative with scale = max |x| and relative the norm of x / scale: powers of that neither overflow nor
//! vanish. Squares of elements narrower than f64 do neither in f64, so that for p = 1 and 2 the norm is the scale, and relative
//! 1: x is read once.
//!
//! Lines that are runs of memory are computed one at a time, interleaved ones a strip at a time; terms are joined in the same
//! order, so that both give the same bits.

use super::lines::reduce;
use super::lp::Floor;
use super::strips::{Few, Row, SIDE, Strip};
use crate::element::Element;
use crate::passes;

/// The number of a line, and the name of what is not finite there.
pub(super) type Fault = (usize, &'static str);

/// n as a product.
#[derive(Clone, Copy)]
pub(super) struct Length {
    pub(super) scale: f64,
    relative: f64,
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

/// The first line of several whose x was not finite.
pub(super) fn all_checked(lengths: &[Length]) -> Result<(), Fault> {
    let fault = |(line, length): (usize, &Length)| Some((line, length.checked().err()?));
    lengths.iter().enumerate().find_map(fault).map_or(Ok(()), Err)
}

/// Whether powers of elements need a scale.
fn scaled<T>(p: f64) -> bool {
    size_of::<T>() >= size_of::<f64>() || (p != 1.0 && p != 2.0)
}

/// ‖x‖_p of a run of memory.
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

/// ‖x‖_p of each line of a strip; of those beyond its width, 0.
#[inline(always)]
pub(super) fn lengths<T: Element>(x: &[T], strip: Strip, p: f64) -> [Length; SIDE] {
    let of = |row: Row, length: &dyn Fn(usize, f64) -> Length| {
        let mut lengths = [Length { scale: 0.0, relative: 0.0 }; SIDE];
        for (lane, all) in lengths[..strip.width].iter_mut().enumerate() {
            *all = length(lane, row[lane]);
        }
        lengths
    };
    if !scaled::<T>(p) {
        if p == 1.0 {
            let norms = joined(
                strip,
                add,
                #[inline(always)]
                |i, lane| each(strip.few(x, i, lane), f64::abs),
            );
            return of(norms, &|_, norm| Length::unscaled(norm));
        }
        let squares = joined(
            strip,
            add,
            #[inline(always)]
            |i, lane| {
                each(
                    strip.few(x, i, lane),
                    #[inline(always)]
                    |x| x * x,
                )
            },
        );
        return of(squares, &|_, square| Length::unscaled(square.sqrt()));
    }
    let scales = joined(
        strip,
        larger,
        #[inline(always)]
        |i, lane| each(strip.few(x, i, lane), f64::abs),
    );
    let mut units = Divisors::default();
    for (lane, scale) in scales.iter().enumerate() {
        units.set(lane, Divisor::by(*scale, 1.0, 1.0));
    }
    let powers = |power: fn(f64, f64) -> f64| {
        joined(strip, add, |i, lane| each(units.divide_few(lane, strip.few(x, i, lane)), |x| power(x, p)))
    };
    let with = |relative: fn(f64, f64) -> f64| {
        move |lane: usize, sum: f64| Length { scale: scales[lane], relative: relative(sum, p) }
    };
    match p {
        f64::INFINITY => of([1.0; SIDE], &with(|one, _| one)),
        1.0 => of(powers(|x, _| x.abs()), &with(|sum, _| sum)),
        2.0 => of(powers(|x, _| x * x), &with(|sum, _| sum.sqrt())),
        _ => of(powers(|x, p| x.abs().powf(p)), &with(|sum, p| sum.powf(1.0 / p))),
    }
}

#[inline(always)]
fn each(mut values: Few, of: impl Fn(f64) -> f64) -> Few {
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
    for (lane, row) in (0..strip.width).step_by(4).zip(row.as_chunks_mut::<4>().0) {
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

/// Calls `map(line of x, line of out)`, which must be `#[inline(always)]`, for every line of `len` elements, and returns the first that fails; all are mapped.
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
        let Length { scale, relative } = length;
        let at_least = |least: f64| match scale * relative < least {
            true => Self::by(least, 1.0, 0.0),
            false => Self::by(scale, relative, 1.0),
        };
        match floor {
            Floor::Max(epsilon) => at_least(epsilon),
            Floor::MaxSquare(epsilon) => at_least(epsilon.sqrt()),
            Floor::AddSquare(epsilon) => {
                let common = scale.max(epsilon.sqrt());
                let norm = scale / common * relative;
                let both = norm.hypot(epsilon.sqrt() / common);
                Self::by(common, both, norm / both)
            }
            Floor::None => Self::by(scale, relative, 1.0),
        }
    }

    /// 1 / n.
    #[inline(always)]
    pub(super) fn of(length: Length) -> Self {
        Self::by(length.scale, length.relative, 1.0)
    }

    /// D = scale · relative; where that is 0, everything divided by it is 0.
    #[inline(always)]
    fn by(scale: f64, relative: f64, slope: f64) -> Self {
        if scale == 0.0 {
            return Self { first: 0.0, second: 0.0, slope: 0.0 };
        }
        // 1 / scale can overflow, or have lost digits below the least normal number; the second factor makes up for both
        let first = f64::min(1.0 / scale, 1e300);
        Self { first, second: 1.0 / (scale * first * relative), slope }
    }

    #[inline(always)]
    pub(super) fn divide(&self, value: f64) -> f64 {
        value * self.first * self.second
    }
}

/// Those of a strip.
pub(super) struct Divisors {
    first: Row,
    second: Row,
    pub(super) slope: Row,
}

impl Default for Divisors {
    fn default() -> Self {
        Self { first: [0.0; SIDE], second: [0.0; SIDE], slope: [0.0; SIDE] }
    }
}

impl Divisors {
    #[inline(always)]
    pub(super) fn new(lengths: &[Length; SIDE], floor: Floor) -> Self {
        let mut all = Self::default();
        for (lane, length) in lengths.iter().enumerate() {
            all.set(lane, Divisor::new(*length, floor));
        }
        all
    }

    #[inline(always)]
    pub(super) fn set(&mut self, lane: usize, to: Divisor) {
        (self.first[lane], self.second[lane], self.slope[lane]) = (to.first, to.second, to.slope);
    }

    #[inline(always)]
    pub(super) fn divide_few(&self, lane: usize, values: Few) -> Few {
        let mut few = values;
        for (i, value) in few.iter_mut().enumerate() {
            *value = *value * self.first[lane + i] * self.second[lane + i];
        }
        few
    }

    #[inline(always)]
    pub(super) fn divide(&self, values: &mut [f64]) {
        for ((value, first), second) in values.iter_mut().zip(&self.first).zip(&self.second) {
            *value = *value * first * second;
        }
    }
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
