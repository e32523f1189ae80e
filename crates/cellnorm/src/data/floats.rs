//! Moments of floats in f64, block by block in the first cache: the mean about the first value,
//! then Σ (x − mean)² about that mean.
//!
//! The second reading corrects the first: with d = x − m, mean = m + Σ d / n and M2 = Σ d² − (Σ d)²
//! / n, whatever m was rounded to. What is NaN or infinite is counted and left out.
//!
//! A mean of 10⁶ in f64 is off by up to 10⁻¹⁰, and so would be the distance of two means, whose
//! square enters M2 when blocks are merged. So each mean keeps what its f64 leaves over (`low`), as
//! the sum of two f64 without an error (D. Knuth, 1969).

use std::hint::black_box;

use super::forest::Merge;
use crate::kernels::{Element, Real};
use crate::{kernels::vectorized, moments::Moments};

/// Moments, range and irregular values of some floats.
///
/// ```
/// use cellnorm::data::Floats;
/// let some = Floats::of(&[1.0_f32, f32::NAN, 4.0, 4.0, f32::INFINITY]);
/// assert_eq!(
///     (some.moments.count, some.moments.mean, some.moments.variance()),
///     (3.0, 3.0, 2.0)
/// );
/// assert_eq!((some.min, some.max, some.nan, some.infinite), (1.0, 4.0, 1, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floats {
    /// Count, mean and Σ (x − mean)² of the finite values.
    pub moments: Moments,
    /// The low part of the mean: it less `moments.mean`, at most half a unit of the last place.
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
        values.chunks(BLOCK).fold(Self::default(), |all, block| all.merge(&Self::block(block)))
    }

    fn block<T: Element>(values: &[T]) -> Self {
        let Some(first) = values.first() else { return Self::default() };
        let first = first.widen().to_f64();
        vectorized(
            #[inline(always)]
            || {
                let n = values.len() as f64;
                let [sums, least, most] = about(values, LANES, &[first; LANES]);
                let sum: f64 = sums.iter().sum();
                // a value that is not finite leaves no sum that is
                if !sum.is_finite() {
                    return None;
                }
                let mean = first + sum / n;
                let [sums, all_squares] = squares(values, LANES, &[mean; LANES]);
                let least = least.into_iter().fold(f64::INFINITY, f64::min);
                let most = most.into_iter().fold(f64::NEG_INFINITY, f64::max);
                let [sum, squares] = [sums, all_squares].map(|lanes| lanes.iter().sum());
                Some(Self::corrected(n, mean, sum, squares, [least, most]))
            },
        )
        .unwrap_or_else(|| Self::finite(values))
    }

    /// Of `n` values, from an approximate mean and the sums Σ d and Σ d² of the distances to it.
    #[inline(always)]
    fn corrected(n: f64, mean: f64, sum: f64, squares: f64, [min, max]: [f64; 2]) -> Self {
        let [mean, low] = two_sum(mean, sum / n);
        let moments = Moments { count: n, mean, m2: (squares - sum * sum / n).max(0.0) };
        Self { moments, low, min, max, nan: 0, infinite: 0 }
    }

    /// Of values of which some are not finite, or are so large that their sum is not.
    fn finite<T: Element>(values: &[T]) -> Self {
        let mut all = Self::default();
        let mut finite = Vec::new();
        for value in values.iter().map(|value| value.widen().to_f64()) {
            match value {
                value if value.is_nan() => all.nan += 1,
                value if value.is_infinite() => all.infinite += 1,
                value => finite.push(value),
            }
        }
        finite.into_iter().fold(all, |all, value| {
            all.merge(&Self::corrected(1.0, value, 0.0, 0.0, [value, value]))
        })
    }

    /// Of each column of rows of `width` values.
    ///
    /// # Panics
    /// If the values are no whole rows.
    pub fn of_columns<T: Element>(values: &[T], width: usize) -> Vec<Self> {
        assert!(width > 0 && values.len().is_multiple_of(width), "whole rows");
        // short rows are taken together, so that they fill the lanes
        let together = (2 * LANES / width).max(1);
        let rows = (BLOCK / width).max(8).next_multiple_of(together);
        let mut all = vec![Self::default(); width];
        for block in values.chunks(rows * width) {
            let (whole, rest) = block.split_at(block.len() - block.len() % (width * together));
            for (rows, width_of_rows) in [(whole, width * together), (rest, width)] {
                for (column, more) in columns(rows, width_of_rows).iter().enumerate() {
                    all[column % width] = all[column % width].merge(more);
                }
            }
        }
        all
    }
}

impl Merge for Floats {
    fn merge(self, later: &Self) -> Self {
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

/// A row of values side by side.
type Row<T> = [T; LANES];

/// Σ (x − shift), the smallest and the largest of each lane of rows of `stride` values.
#[inline(always)]
fn about<T: Element>(values: &[T], stride: usize, shift: &Row<f64>) -> [Row<f64>; 3] {
    let take = |[sum, least, most]: [&mut f64; 3], value: T, shift: f64| {
        let value = value.widen().to_f64();
        *sum += value - shift;
        *least = if value < *least { value } else { *least };
        *most = if value > *most { value } else { *most };
    };
    let (mut sums, mut least, mut most) =
        ([0.0; LANES], [f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    for row in values.chunks(stride) {
        let Some(row) = row.first_chunk::<LANES>() else { break };
        for lane in 0..LANES {
            take([&mut sums[lane], &mut least[lane], &mut most[lane]], row[lane], shift[lane]);
        }
    }
    // with a lane that is not known beforehand they would not be kept in vectors
    let [mut sums, mut least, mut most] = black_box([sums, least, most]);
    for (lane, value) in rest(values, stride).iter().enumerate() {
        take([&mut sums[lane], &mut least[lane], &mut most[lane]], *value, shift[lane]);
    }
    [sums, least, most]
}

/// Σ (x − mean) and Σ (x − mean)² of each lane of rows of `stride` values.
#[inline(always)]
fn squares<T: Element>(values: &[T], stride: usize, mean: &Row<f64>) -> [Row<f64>; 2] {
    let take = |[sum, squares]: [&mut f64; 2], value: T, mean: f64| {
        let distance = value.widen().to_f64() - mean;
        *sum += distance;
        *squares += distance * distance;
    };
    let (mut sums, mut squares) = ([0.0; LANES], [0.0; LANES]);
    for row in values.chunks(stride) {
        let Some(row) = row.first_chunk::<LANES>() else { break };
        for lane in 0..LANES {
            take([&mut sums[lane], &mut squares[lane]], row[lane], mean[lane]);
        }
    }
    let [mut sums, mut squares] = black_box([sums, squares]);
    for (lane, value) in rest(values, stride).iter().enumerate() {
        take([&mut sums[lane], &mut squares[lane]], *value, mean[lane]);
    }
    [sums, squares]
}

/// The values after the last whole row, where rows lie close together.
#[inline(always)]
fn rest<T>(values: &[T], stride: usize) -> &[T] {
    if stride == LANES { values.as_chunks::<LANES>().1 } else { &[] }
}

/// The result of each column of some rows, `LANES` columns side by side.
fn columns<T: Element>(values: &[T], width: usize) -> Vec<Floats> {
    if values.is_empty() {
        return Vec::new();
    }
    if width < LANES {
        // the first value again and again in the columns that are missing
        let wide = |row: &[T]| {
            std::array::from_fn::<T, LANES, _>(|lane| row[if lane < width { lane } else { 0 }])
        };
        let wide: Vec<Row<T>> = values.chunks_exact(width).map(wide).collect();
        let mut all = columns(wide.as_flattened(), LANES);
        all.truncate(width);
        return all;
    }
    let n = (values.len() / width) as f64;
    let mut all = vec![Floats::default(); width];
    // the last columns overlap with those before
    for first in (0..width).step_by(LANES).map(|column| column.min(width - LANES)) {
        let group = &values[first..];
        let shift = std::array::from_fn(|lane| group[lane].widen().to_f64());
        let [means, least, most, rests, all_squares] = vectorized(
            #[inline(always)]
            || {
                let [sums, least, most] = about(group, width, &shift);
                let means = std::array::from_fn(|lane| shift[lane] + sums[lane] / n);
                let [rests, squares] = squares(group, width, &means);
                [means, least, most, rests, squares]
            },
        );
        for lane in 0..LANES {
            all[first + lane] = if means[lane].is_finite() {
                let range = [least[lane], most[lane]];
                Floats::corrected(n, means[lane], rests[lane], all_squares[lane], range)
            } else {
                let column: Vec<T> = group[lane..].iter().step_by(width).copied().collect();
                Floats::finite(&column)
            };
        }
    }
    all
}
