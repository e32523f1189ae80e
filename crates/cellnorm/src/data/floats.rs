//! Moments of floats in f64, block by block in the first cache: the mean about the first value, then Σ (x − mean)² about that mean.
//!
//! The second reading corrects the first: with d = x − m, mean = m + Σ d / n and M2 = Σ d² − (Σ d)² / n, whatever m was rounded to.
//! What is NaN or infinite is counted and left out.
//!
//! A mean of 10⁶ in f64 is off by up to 10⁻¹⁰, and so would be the distance of two means, whose square enters M2 when blocks are
//! merged. So each mean keeps what its f64 leaves over (`low`), as the sum of two f64 without an error (D. Knuth, 1969).

use std::hint::black_box;

use super::merge::Merge;
use crate::element::{Element, Real};
use crate::moments::Moments;
use crate::passes::vectorized;

/// Moments, range and irregular values of some floats.
///
/// ```
/// use cellnorm::data::Floats;
/// let some = Floats::of(&[1.0_f32, f32::NAN, 4.0, 4.0, f32::INFINITY]);
/// assert_eq!((some.moments.count, some.moments.mean, some.moments.variance()), (3.0, 3.0, 2.0));
/// assert_eq!((some.min, some.max, some.nan, some.infinite), (1.0, 4.0, 1, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floats {
    /// Count, mean and Σ (x − mean)² of the finite values.
    pub moments: Moments,
    /// What the mean is more than `moments.mean`, less than half a unit of its last place.
    pub low: f64,
    /// The smallest finite value; infinity if there is none.
    pub min: f64,
    /// The largest finite value; −infinity if there is none.
    pub max: f64,
    /// How many are NaN.
    pub nan: u64,
    /// How many are infinite.
    pub infinite: u64,
}

impl Default for Floats {
    fn default() -> Self {
        let moments = Moments::default();
        Self { moments, low: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, nan: 0, infinite: 0 }
    }
}

/// Values that are read twice: few enough for the first cache.
const BLOCK: usize = 1 << 12;

/// Sums side by side; the bits depend on their number, so it is the same on every machine.
const LANES: usize = 16;

impl Floats {
    /// Of values.
    pub fn of<T: Element>(values: &[T]) -> Self {
        values.chunks(BLOCK).fold(Self::default(), |all, block| all.merge(&Self::of_block(block)))
    }

    fn of_block<T: Element>(values: &[T]) -> Self {
        let Some(first) = values.first() else { return Self::default() };
        vectorized(
            #[inline(always)]
            || {
                let n = values.len() as f64;
                let first = first.widen().to_f64();
                let [sum, min, max] = about(values, first);
                // a value that is not finite leaves no sum that is
                if !sum.is_finite() {
                    return None;
                }
                let mean = first + sum / n;
                let [sum, squares] = squares(values, mean);
                Some(Self::corrected(n, mean, sum, squares, [min, max]))
            },
        )
        .unwrap_or_else(|| Self::of_some(values))
    }

    /// Of `n` values, from an approximate mean and the sums Σ d and Σ d² of the distances to it.
    #[inline(always)]
    fn corrected(n: f64, mean: f64, sum: f64, squares: f64, [min, max]: [f64; 2]) -> Self {
        let [mean, low] = two_sum(mean, sum / n);
        let moments = Moments { count: n, mean, m2: (squares - sum * sum / n).max(0.0) };
        Self { moments, low, min, max, nan: 0, infinite: 0 }
    }

    /// Of values of which some are not finite, or are so large that their sum is not.
    fn of_some<T: Element>(values: &[T]) -> Self {
        let mut all = Self::default();
        let mut finite = Vec::new();
        for value in values.iter().map(|value| value.widen().to_f64()) {
            match value {
                value if value.is_nan() => all.nan += 1,
                value if value.is_infinite() => all.infinite += 1,
                value => finite.push(value),
            }
        }
        finite.into_iter().fold(all, |all, value| all.merge(&Self::corrected(1.0, value, 0.0, 0.0, [value, value])))
    }

    /// Of each column of rows of `width` values.
    ///
    /// # Panics
    /// If the values are no whole rows.
    pub fn of_columns<T: Element>(values: &[T], width: usize) -> Vec<Self> {
        assert!(width > 0 && values.len().is_multiple_of(width), "whole rows");
        let rows = (BLOCK / width).max(8);
        let mut all = vec![Self::default(); width];
        for block in values.chunks(rows * width) {
            for (all, more) in all.iter_mut().zip(columns(block, width)) {
                *all = all.merge(&more);
            }
        }
        all
    }
}

impl Merge for Floats {
    fn merge(&self, later: &Self) -> Self {
        let (a, b) = (&self.moments, &later.moments);
        let (moments, low) = match (a.count, b.count) {
            (_, 0.0) => (*a, self.low),
            (0.0, _) => (*b, later.low),
            _ => {
                let count = a.count + b.count;
                let delta = (b.mean - a.mean) + (later.low - self.low);
                let share = b.count / count;
                let [mean, low] = two_sum(a.mean, self.low + delta * share);
                (Moments { count, mean, m2: a.m2 + b.m2 + delta * delta * a.count * share }, low)
            }
        };
        Self {
            moments,
            low,
            min: self.min.min(later.min),
            max: self.max.max(later.max),
            nan: self.nan.saturating_add(later.nan),
            infinite: self.infinite.saturating_add(later.infinite),
        }
    }
}

/// a + b as the nearest f64 and what is left.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> [f64; 2] {
    let sum = a + b;
    let part = sum - a;
    [sum, (a - (sum - part)) + (b - part)]
}

/// Σ (x − shift), the smallest and the largest.
#[inline(always)]
fn about<T: Element>(values: &[T], shift: f64) -> [f64; 3] {
    let (mut sums, mut least, mut most) = ([0.0; LANES], [f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut take = |lane: usize, value: T| {
        let value = value.widen().to_f64();
        sums[lane] += value - shift;
        least[lane] = if value < least[lane] { value } else { least[lane] };
        most[lane] = if value > most[lane] { value } else { most[lane] };
    };
    for chunk in chunks {
        (0..LANES).for_each(|lane| take(lane, chunk[lane]));
    }
    rest.iter().enumerate().for_each(|(lane, value)| take(lane, *value));
    // added up at the end as they are, the lanes would not be kept in vectors
    let (sums, least, most) = black_box((sums, least, most));
    let sum = sums.iter().sum();
    [sum, least.into_iter().fold(f64::INFINITY, f64::min), most.into_iter().fold(f64::NEG_INFINITY, f64::max)]
}

/// Σ (x − mean) and Σ (x − mean)².
#[inline(always)]
fn squares<T: Element>(values: &[T], mean: f64) -> [f64; 2] {
    let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut take = |lane: usize, value: T| {
        let distance = value.widen().to_f64() - mean;
        sums[lane] += distance;
        squares[lane] += distance * distance;
    };
    for chunk in chunks {
        (0..LANES).for_each(|lane| take(lane, chunk[lane]));
    }
    rest.iter().enumerate().for_each(|(lane, value)| take(lane, *value));
    let (sums, squares) = black_box((sums, squares));
    [sums.iter().sum(), squares.iter().sum()]
}

/// What each column of some rows comes to, row by row with all columns side by side.
fn columns<T: Element>(values: &[T], width: usize) -> Vec<Floats> {
    let n = (values.len() / width) as f64;
    let first: Vec<f64> = values[..width].iter().map(|value| value.widen().to_f64()).collect();
    let (mut sums, mut least, mut most) = (vec![0.0; width], first.clone(), first.clone());
    let (mut rests, mut squares) = (vec![0.0; width], vec![0.0; width]);
    vectorized(
        #[inline(always)]
        || {
            for row in values.chunks_exact(width) {
                let sums = sums.iter_mut().zip(&first);
                let ends = least.iter_mut().zip(&mut most);
                for ((value, (sum, first)), (least, most)) in row.iter().zip(sums).zip(ends) {
                    let value = value.widen().to_f64();
                    *sum += value - first;
                    *least = if value < *least { value } else { *least };
                    *most = if value > *most { value } else { *most };
                }
            }
            sums.iter_mut().zip(&first).for_each(|(sum, first)| *sum = first + *sum / n);
            for row in values.chunks_exact(width) {
                for ((value, mean), (rest, squares)) in row.iter().zip(&sums).zip(rests.iter_mut().zip(&mut squares)) {
                    let distance = value.widen().to_f64() - mean;
                    *rest += distance;
                    *squares += distance * distance;
                }
            }
        },
    );
    let of = |column: usize| {
        if !sums[column].is_finite() {
            let column: Vec<T> = values[column..].iter().step_by(width).copied().collect();
            return Floats::of_some(&column);
        }
        Floats::corrected(n, sums[column], rests[column], squares[column], [least[column], most[column]])
    };
    (0..width).map(of).collect()
}
