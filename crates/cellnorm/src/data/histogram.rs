//! n(v) = how often the integer v occurs. Σ v·n(v) and Σ v²·n(v) are exact, so counts merge in any
//! order without a difference.

use super::forest::Merge;

/// How often each value of an unsigned integer of 8 or 16 bits occurs.
///
/// ```
/// use cellnorm::data::Histogram;
/// let mut pixels = Histogram::default();
/// pixels.add(&[0_u8, 0, 3, 5]);
/// assert_eq!((pixels.count(), pixels.sum(), pixels.sum_of_squares()), (4, 8, 34));
/// assert_eq!((pixels.mean(), pixels.variance()), (2.0, 4.5));
/// assert_eq!(pixels.percentile(50.0), Some(0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// One for each value up to the largest that any was added for; never more than 65,536.
    counts: Vec<u64>,
}

/// Tables that take turns: a value that repeats does not wait for its own count to be written.
const TURNS: usize = 4;

impl Histogram {
    /// The histogram with these counts of 0, 1, 2 and so on; `None` for more than 65,536 of them.
    pub fn of_counts(counts: Vec<u64>) -> Option<Self> {
        (counts.len() <= 1 << 16).then_some(Self { counts })
    }

    /// How often each value occurs, from 0 to the largest one that may have.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Adds values.
    #[inline]
    pub fn add<T: Copy + Into<u16>>(&mut self, values: &[T]) {
        self.make_room::<T>();
        if size_of::<T>() > 1 || values.len() < 1 << 8 {
            for value in values {
                self.counts[usize::from((*value).into())] += 1;
            }
            return;
        }
        let mut turns = [[0_u32; 256]; TURNS];
        // a part is short enough that no count of 32 bits is exceeded
        for part in values.chunks(1 << 30) {
            let (chunks, rest) = part.as_chunks::<TURNS>();
            for chunk in chunks {
                for (table, value) in turns.iter_mut().zip(chunk) {
                    table[usize::from((*value).into()) & 0xff] += 1;
                }
            }
            rest.iter().for_each(|value| turns[0][usize::from((*value).into()) & 0xff] += 1);
            for (value, count) in self.counts.iter_mut().take(256).enumerate() {
                *count += u64::from(turns.iter().map(|table| table[value]).sum::<u32>());
            }
            turns = [[0; 256]; TURNS];
        }
    }

    #[inline]
    fn make_room<T>(&mut self) {
        let values = if size_of::<T>() == 1 { 1 << 8 } else { 1 << 16 };
        if self.counts.len() < values {
            self.counts.resize(values, 0);
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, Σ v.
    pub fn sum(&self) -> u128 {
        self.total(|value| value)
    }

    /// Σ v².
    pub fn sum_of_squares(&self) -> u128 {
        self.total(|value| value * value)
    }

    fn total(&self, term: impl Fn(u128) -> u128) -> u128 {
        self.counts.iter().zip(0..).map(|(count, value)| u128::from(*count) * term(value)).sum()
    }

    /// Their mean; 0 for no values.
    pub fn mean(&self) -> f64 {
        ratio(self.sum(), u128::from(self.count().max(1)))
    }

    /// Σ (v − mean)² = Σ v² − (Σ v)² / n, exact up to the last rounding.
    pub fn m2(&self) -> f64 {
        let (n, sum) = (u128::from(self.count().max(1)), self.sum());
        let square = sum.checked_mul(sum);
        match self.sum_of_squares().checked_mul(n).zip(square) {
            Some((all, square)) => ratio(all - square, n),
            // beyond 2⁴⁸ values of 16 bits; nothing cancels in this form either
            None => {
                let mean = self.mean();
                let counts = self.counts.iter().zip(0_u32..);
                counts.map(|(count, v)| *count as f64 * (f64::from(v) - mean).powi(2)).sum()
            }
        }
    }

    /// Their variance, divided by n; 0 for no values.
    pub fn variance(&self) -> f64 {
        self.m2() / self.count().max(1) as f64
    }

    /// The smallest value.
    pub fn min(&self) -> Option<u16> {
        self.counts.iter().position(|count| *count > 0).map(|value| value as u16)
    }

    /// The largest value.
    pub fn max(&self) -> Option<u16> {
        self.counts.iter().rposition(|count| *count > 0).map(|value| value as u16)
    }

    /// The smallest value that at least `percent` % of the values do not exceed; `None` for none.
    pub fn percentile(&self, percent: f64) -> Option<u16> {
        let needed =
            (percent.clamp(0.0, 100.0) / 100.0 * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= needed
        });
        place.map(|value| value as u16)
    }
}

/// The quotient, rounded once as far as f64 holds both; whole part and rest are divided apart.
fn ratio(above: u128, below: u128) -> f64 {
    let (whole, rest) = (above / below, above % below);
    whole as f64 + rest as f64 / below as f64
}

impl Merge for Histogram {
    fn merge(mut self, later: &Self) -> Self {
        self.counts.resize(self.counts.len().max(later.counts.len()), 0);
        self.counts.iter_mut().zip(&later.counts).for_each(|(count, more)| *count += more);
        self
    }
}
