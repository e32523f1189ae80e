//! The tables of a batch normalization over ranks.
//!
//! Forward, (n, mean, M2) of each channel on each rank are merged in the order of ranks. Backward,
//! n, S1 = Σ dy and S2 = Σ dy (x − mean) are added, and with r = 1/√(variance + ε):
//!
//! dx = γ r (dy − S1 / n − (x − mean) r² S2 / n), dγ = r S2, dβ = S1
//!
//! So n weighs ranks of different size rightly, and a rank without samples takes part with zeros.
//! On each rank, passes run over *cells*, of which a channel may have many.

use super::{Communicator, exchange, merge};
use crate::error::Error;
use crate::moments::Moments;
use crate::passes::{Affine, Gradient, Sums};
use crate::standardize::Statistics;

/// A batch that ranks hold together: the two exchanges of its normalization, for adapters to tensor
/// libraries.
///
/// ```
/// use cellnorm::Moments;
/// use cellnorm::passes::Sums;
/// use cellnorm::ranks::{Alone, CellSums, Joined};
/// let joined = Joined {
///     over: &Alone,
///     request: "one channel".into(),
///     epsilon: 1e-12,
///     channels: 1,
///     of_cell: &[0],
/// };
/// let (statistics, values) = joined.statistics(Ok(&[Moments::of(&[1.0, 5.0])]))?;
/// assert_eq!((statistics.mean[0], statistics.variance[0], values[0]), (3.0, 4.0, 2.0));
/// let sums = [Sums { dy: 1.0, dy_x: -2.0 }]; // dy = (1, 0)
/// let own = CellSums { counts: &[2.0], centers: &[3.0], sums: &sums };
/// let slopes = joined.slopes(Ok(own), &statistics, None)?;
/// let dx = |x: f64, dy: f64| {
///     slopes.of_cell[0].a * dy + slopes.of_cell[0].b * (x - 3.0) + slopes.of_cell[0].k
/// };
/// assert!(dx(1.0, 1.0).abs() < 1e-12 && dx(5.0, 0.0).abs() < 1e-12);
/// assert_eq!(slopes.dbeta, [1.0]);
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
    /// The number of channels.
    pub channels: usize,
    /// The channel of each cell of this rank's part.
    pub of_cell: &'a [u32],
}

/// What this rank's cells have added up for the backward pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct CellSums<'a> {
    /// The number of values of each cell.
    pub counts: &'a [f64],
    /// What x was taken from in its sums.
    pub centers: &'a [f64],
    /// Σ dy and Σ dy (x − center) of each cell.
    pub sums: &'a [Sums],
}

/// What the backward pass has of its exchange.
#[derive(Clone, Debug, Default)]
pub struct Slopes {
    /// The map from dy and x to dx of each cell, about its center.
    pub of_cell: Vec<Gradient>,
    /// This rank's share of dγ, for each channel.
    pub dgamma: Vec<f64>,
    /// This rank's share of dβ.
    pub dbeta: Vec<f64>,
}

impl Slopes {
    /// Those of a rank without samples that exchanges nothing.
    pub(super) fn none(channels: usize) -> Self {
        Self { of_cell: vec![], dgamma: vec![0.0; channels], dbeta: vec![0.0; channels] }
    }
}

impl Joined<'_> {
    /// Mean and variance of each channel over all ranks, and the number of their values; the same
    /// bits on every rank. `own` are the moments of this rank's cells.
    ///
    /// # Errors
    /// As [`exchange`], or if a statistic is not finite.
    ///
    /// # Panics
    /// If there are not as many moments as cells, or a cell is of a channel that there is not.
    pub fn statistics(
        &self,
        own: Result<&[Moments], Error>,
    ) -> Result<(Statistics, Vec<f64>), Error> {
        assert_eq!(
            own.as_ref().map_or(self.of_cell.len(), |own| own.len()),
            self.of_cell.len(),
            "moments of each cell"
        );
        let own = own.map(|own| self.in_channels(own.iter().copied(), Moments::merge));
        let moments = merge(self.over, &format!("the forward pass of {}", self.request), own)?;
        let mean: Vec<f64> = moments.iter().map(|m| m.mean).collect();
        let variance: Vec<f64> = moments.iter().map(Moments::variance).collect();
        check_finite("x", mean.iter().chain(&variance), moments.len())?;
        Ok((Statistics { mean, variance }, moments.iter().map(|m| m.count).collect()))
    }

    /// The map from x to y of each cell.
    ///
    /// # Panics
    /// If a table is shorter than the channels.
    pub fn affines(
        &self,
        of: &Statistics,
        gamma: Option<&[f64]>,
        beta: Option<&[f64]>,
    ) -> Vec<Affine> {
        let affine = |channel: &u32| {
            let channel = *channel as usize;
            let scale = gamma.map_or(1.0, |gamma| gamma[channel]) * self.r(of, channel);
            Affine {
                center: of.mean[channel],
                scale,
                offset: beta.map_or(0.0, |beta| beta[channel]),
            }
        };
        self.of_cell.iter().map(affine).collect()
    }

    /// The map from dy and x to dx of each cell, and this rank's share of dγ and dβ. `statistics`
    /// are those of all ranks.
    ///
    /// # Errors
    /// As [`exchange`], or if a sum is not finite.
    ///
    /// # Panics
    /// If there are not as many counts, centers and sums as cells, or a table is shorter than the
    /// channels.
    pub fn slopes(
        &self,
        own: Result<CellSums<'_>, Error>,
        statistics: &Statistics,
        gamma: Option<&[f64]>,
    ) -> Result<Slopes, Error> {
        if let Ok(CellSums { counts, centers, sums }) = &own {
            let lens = [counts.len(), centers.len(), sums.len()];
            assert_eq!(lens, [self.of_cell.len(); 3], "counts, centers and sums of each cell");
        }
        let centers = own.as_ref().map(|own| own.centers).unwrap_or_default();
        // a cell's sums are about its own center: Σ dy (x − mean) = Σ dy (x − center) + (center −
        // mean) Σ dy
        let apart = |cell: usize, channel: usize| centers[cell] - statistics.mean[channel];
        let of_cells = |CellSums { counts, sums, .. }: CellSums<'_>| {
            let of_cell = |(cell, (Sums { dy, dy_x }, channel)): (usize, (&Sums, &u32))| {
                [counts[cell], *dy, dy_x + apart(cell, *channel as usize) * dy]
            };
            self.in_channels(sums.iter().zip(self.of_cell).enumerate().map(of_cell), add)
        };
        let own = own.map(of_cells);
        let request = format!("the backward pass of {}", self.request);
        let tables = exchange(
            self.over,
            &request,
            own.as_ref().map(|own| own.concat()).map_err(Clone::clone),
        )?;
        let own = own?;
        let of_rank = |table: &Vec<f64>, channel: usize| [0, 1, 2].map(|i| table[3 * channel + i]);
        let total =
            |channel| tables.iter().map(|table| of_rank(table, channel)).fold([0.0; 3], add);
        let totals: Vec<[f64; 3]> = (0..self.channels).map(total).collect();
        let sums = [0, 1, 2].map(|i| totals.iter().map(move |total| &total[i]));
        check_finite("dy", sums.into_iter().flatten(), self.channels)?;
        let of_channel = |(channel, [n, s1, s2]): (usize, &[f64; 3])| {
            let r = self.r(statistics, channel);
            let a = gamma.map_or(1.0, |gamma| gamma[channel]) * r;
            // one value is its own mean, whatever it is
            if *n <= 1.0 {
                Gradient::default()
            } else {
                Gradient { a, b: -a * r * r * s2 / n, k: -a * s1 / n }
            }
        };
        let of_channel: Vec<Gradient> = totals.iter().enumerate().map(of_channel).collect();
        let of_cell = |(cell, channel): (usize, &u32)| {
            let Gradient { a, b, k } = of_channel[*channel as usize];
            Gradient { a, b, k: k + b * apart(cell, *channel as usize) }
        };
        Ok(Slopes {
            of_cell: self.of_cell.iter().enumerate().map(of_cell).collect(),
            dgamma: own
                .iter()
                .enumerate()
                .map(|(channel, [_, _, s2])| self.r(statistics, channel) * s2)
                .collect(),
            dbeta: own.iter().map(|[_, s1, _]| *s1).collect(),
        })
    }

    /// 1/√(variance + ε).
    fn r(&self, of: &Statistics, channel: usize) -> f64 {
        1.0 / (of.variance[channel] + self.epsilon).sqrt()
    }

    /// What the cells hold, joined in each channel in the order of cells.
    fn in_channels<V: Copy + Default>(
        &self,
        cells: impl Iterator<Item = V>,
        join: impl Fn(V, V) -> V,
    ) -> Vec<V> {
        let mut of_channel = vec![V::default(); self.channels];
        for (value, channel) in cells.zip(self.of_cell) {
            let all = &mut of_channel[*channel as usize];
            *all = join(*all, value);
        }
        of_channel
    }
}

fn add(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [0, 1, 2].map(|i| a[i] + b[i])
}

fn check_finite<'a>(
    name: &'static str,
    mut table: impl Iterator<Item = &'a f64>,
    sets: usize,
) -> Result<(), Error> {
    match table.position(|value| !value.is_finite()) {
        Some(at) => Err(Error::NotFinite { name, set: at % sets, sets }),
        None => Ok(()),
    }
}
