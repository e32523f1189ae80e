//! Count, mean and M2 of a collection of values, and the merge that joins two collections.
//!
//! M2 = Σ (x − mean)². For collections a and b with δ = mean_b − mean_a and n = n_a + n_b:
//!
//! mean = mean_a + δ n_b / n,   M2 = M2_a + M2_b + δ² n_a n_b / n
//!
//! (T. F. Chan, G. H. Golub, R. J. LeVeque: *Updating formulae and a pairwise algorithm for
//! computing sample variances*, 1979.) Unlike E\[x²\] − E\[x\]², nothing cancels when the mean is
//! large, and equal values have variance exactly 0.

/// Count, mean and sum of squared deviations of some values, in f64.
///
/// ```
/// use cellnorm::Moments;
/// let all = Moments::of(&[1.0, 2.0, 3.0, 4.0]);
/// let halves = Moments::of(&[1.0, 2.0]).merge(Moments::of(&[3.0, 4.0]));
/// assert_eq!(all, halves);
/// assert_eq!((all.mean, all.variance()), (2.5, 1.25));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// The number of values.
    pub count: f64,
    /// Their mean; 0 for no values.
    pub mean: f64,
    /// Σ (x − mean)².
    pub m2: f64,
}

impl Moments {
    /// The moments of a few values, by two passes.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count.max(1.0);
        let m2 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        Self { count, mean, m2 }
    }

    /// The moments of two collections together.
    #[inline]
    pub fn merge(self, other: Self) -> Self {
        if self.count == 0.0 {
            return other;
        }
        if other.count == 0.0 {
            return self;
        }
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        let share = other.count / count;
        Self {
            count,
            mean: self.mean + delta * share,
            m2: self.m2 + other.m2 + delta * delta * self.count * share,
        }
    }

    /// The moments of several collections together, in the order given.
    ///
    /// Collections of n values each, k of them, with δ = mean − mean₁ and its average δ̄, need no
    /// division for each: mean = mean₁ + δ̄ and M2 = Σ M2ᵢ + n Σ (δᵢ − δ̄)².
    #[inline]
    pub fn merge_all<'a>(parts: impl IntoIterator<Item = &'a Self, IntoIter: Clone>) -> Self {
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else { return Self::default() };
        if parts.clone().next().is_none() {
            return *first;
        }
        if parts.clone().any(|part| part.count != first.count) {
            return parts.fold(*first, |all, part| all.merge(*part));
        }
        let (mut k, mut delta, mut m2) = (1.0, 0.0, first.m2);
        for part in parts.clone() {
            k += 1.0;
            delta += part.mean - first.mean;
            m2 += part.m2;
        }
        let delta = delta / k;
        let mut between = delta * delta;
        for part in parts {
            let rest = part.mean - first.mean - delta;
            between += rest * rest;
        }
        Self { count: k * first.count, mean: first.mean + delta, m2: m2 + first.count * between }
    }

    /// The biased variance M2 / n; 0 for no values.
    #[inline]
    pub fn variance(&self) -> f64 {
        self.m2 / self.count.max(1.0)
    }

    /// The mean of the squares, variance + mean².
    #[inline]
    pub fn mean_square(&self) -> f64 {
        self.variance() + self.mean * self.mean
    }
}
