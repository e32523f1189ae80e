//! The tables of a batch normalization over ranks.
//!
//! Forward, (n, mean, M2) of each channel on each rank are merged in the order of ranks. Backward, n, S1 = Σ dy and S2 = Σ dy (x − mean)
//! are added, and with r = 1/√(variance + ε):
//!
//! dx = γ r (dy − S1 / n − (x − mean) r² S2 / n)
//!
//! So n weighs ranks of different size rightly, and a rank without samples takes part with zeros.

use super::{Communicator, exchange, merge};
use crate::error::Error;
use crate::moments::Moments;
use crate::passes::Gradient;
use crate::standardize::Statistics;

/// A batch that ranks hold together: the two exchanges of its normalization, for adapters to tensor libraries.
///
/// ```
/// use cellnorm::Moments;
/// use cellnorm::ranks::{Alone, Joined};
/// let joined = Joined { over: &Alone, request: "one channel".into(), epsilon: 1e-12 };
/// let (statistics, values) = joined.statistics(Ok(vec![Moments::of(&[1.0, 5.0])]))?;
/// assert_eq!((statistics.mean[0], statistics.variance[0], values[0]), (3.0, 4.0, 2.0));
/// // dy = (1, 0): n, Σ dy, Σ dy (x - mean)
/// let gradient = joined.gradients(Ok(vec![[2.0, 1.0, -2.0]]), &statistics, None)?[0];
/// let dx = |x: f64, dy: f64| gradient.a * dy + gradient.b * (x - 3.0) + gradient.k;
/// assert!(dx(1.0, 1.0).abs() < 1e-12 && dx(5.0, 0.0).abs() < 1e-12);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Joined<'a> {
    /// What carries the tables.
    pub over: &'a dyn Communicator,
    /// What all ranks must do alike, in words: the layer and its settings.
    pub request: String,
    /// ε inside the root.
    pub epsilon: f64,
}

impl Joined<'_> {
    /// Mean and variance of each channel over all ranks, and the number of their values; the same bits on every rank. `own` are the
    /// moments of this rank's part.
    ///
    /// # Errors
    /// As [`exchange`], or if a statistic is not finite.
    pub fn statistics(&self, own: Result<Vec<Moments>, Error>) -> Result<(Statistics, Vec<f64>), Error> {
        let moments = merge(self.over, &format!("the forward pass of {}", self.request), own)?;
        let mean: Vec<f64> = moments.iter().map(|m| m.mean).collect();
        let variance: Vec<f64> = moments.iter().map(Moments::variance).collect();
        check_finite("x", mean.iter().chain(&variance), moments.len())?;
        Ok((Statistics { mean, variance }, moments.iter().map(|m| m.count).collect()))
    }

    /// The map from dy and x to dx of each channel, about the mean. `own` are the number of values, Σ dy and Σ dy (x − mean) of this
    /// rank's part.
    ///
    /// # Errors
    /// As [`exchange`], or if a sum is not finite.
    pub fn gradients(
        &self,
        own: Result<Vec<[f64; 3]>, Error>,
        statistics: &Statistics,
        gamma: Option<&[f64]>,
    ) -> Result<Vec<Gradient>, Error> {
        let own = own.map(|own| own.concat());
        let tables = exchange(self.over, &format!("the backward pass of {}", self.request), own)?;
        let channels = statistics.variance.len();
        let total = |channel: usize| {
            let of_rank = |sum: [f64; 3], table: &Vec<f64>| [0, 1, 2].map(|i| sum[i] + table[3 * channel + i]);
            tables.iter().fold([0.0; 3], of_rank)
        };
        let totals: Vec<[f64; 3]> = (0..channels).map(total).collect();
        check_finite("dy", totals.iter().flatten(), channels)?;
        let gradient = |(channel, [n, s1, s2]): (usize, [f64; 3])| {
            let r = 1.0 / (statistics.variance[channel] + self.epsilon).sqrt();
            let a = gamma.map_or(1.0, |gamma| gamma[channel]) * r;
            // one value is its own mean, whatever it is
            if n <= 1.0 { Gradient::default() } else { Gradient { a, b: -a * r * r * s2 / n, k: -a * s1 / n } }
        };
        Ok(totals.into_iter().enumerate().map(gradient).collect())
    }
}

fn check_finite<'a>(name: &'static str, mut table: impl Iterator<Item = &'a f64>, sets: usize) -> Result<(), Error> {
    match table.position(|value| !value.is_finite()) {
        Some(at) => Err(Error::NotFinite { name, set: at % sets, sets }),
        None => Ok(()),
    }
}
