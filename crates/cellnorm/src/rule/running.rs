//! Running averages: what a layer keeps of the statistics of the batches.
//!
//! running ← running + weight · (batch − running), where [`Momentum`] says the weight. Inference is
//! given the one pair that every such layer has. A [`Correction`] is a second pair with a pace of
//! its own, which training is given in its place.

use ndarray::{ArrayD, IxDyn};

use super::{Statistics, Tracked};
use crate::error::{Error, check_numbers, check_shape};
use crate::{momentum::Momentum, shape::check_size};

/// Running averages, which inference normalizes with.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// The mean.
    pub mean: ArrayD<f64>,
    /// The variance, or what the rule keeps in its place.
    pub variance: ArrayD<f64>,
}

/// Running averages for training in place of inference's, for rules that see batch and past.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// The averages.
    pub averages: Running,
    /// Their pace.
    pub momentum: Momentum,
}

/// The running averages of a layer as its rule takes them, flat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunningTables {
    /// The statistics of inference.
    pub inference: Option<Statistics>,
    /// The statistics that training is given in their place.
    pub training: Option<Statistics>,
}

impl RunningTables {
    /// The averages of a layer, after checking that they have this shape.
    pub(super) fn new(
        running: Option<&Running>,
        correction: Option<&Correction>,
        shape: &[usize],
    ) -> Result<Self, Error> {
        let flat = |running: Option<&Running>, names| {
            running.map(|running| running.flat(names, shape)).transpose()
        };
        let averages = correction.map(|correction| &correction.averages);
        Ok(Self {
            inference: flat(running, ["running_mean", "running_var"])?,
            training: flat(averages, ["correction_mean", "correction_var"])?,
        })
    }

    /// The averages where statistics are those of x (`batch`), or where they are not.
    pub(super) fn get(&self, batch: bool) -> Option<&Statistics> {
        self.training.as_ref().filter(|_| batch).or(self.inference.as_ref())
    }
}

impl Running {
    /// Before the first batch: the mean is 0, and the second of the averages as the rule says.
    ///
    /// # Errors
    /// If the shape has too many elements.
    pub(super) fn start(shape: &[usize], second: f64) -> Result<Self, Error> {
        check_size(shape)?;
        let (mean, shape) = (ArrayD::zeros(IxDyn(shape)), IxDyn(shape));
        Ok(Self { mean, variance: ArrayD::from_elem(shape, second) })
    }

    /// running += weight · (batch − running), where the batch has any values, with the weight of
    /// the step of this number; the variance times a factor by their number, and not at all where
    /// there is none.
    pub(super) fn follow(
        &mut self,
        to: &Tracked<Vec<f64>>,
        (momentum, step): (Momentum, u64),
        factor: impl Fn(f64) -> Option<f64>,
    ) {
        let weight = momentum.weight(step);
        let spread = momentum.spread(weight);
        for (set, second) in self.variance.iter_mut().enumerate() {
            if let Some(factor) = factor(to.values[set]) {
                *second = Momentum::moved(*second, to.variance[set] * factor, weight);
            }
        }
        if spread != 0.0 {
            for (set, (mean, second)) in self.mean.iter().zip(&mut self.variance).enumerate() {
                // where the second is a variance
                if to.values[set] > 0.0 && to.values[set].is_finite() {
                    *second += spread * (to.mean[set] - mean).powi(2);
                }
            }
        }
        for (set, mean) in self.mean.iter_mut().enumerate() {
            if to.values[set] > 0.0 {
                *mean = Momentum::moved(*mean, to.mean[set], weight);
            }
        }
    }

    /// Whether the squares of the distances to these means are finite.
    pub(super) fn is_near(&self, means: &[f64]) -> bool {
        self.mean.iter().zip(means).all(|(own, mean)| (mean - own).powi(2).is_finite())
    }

    /// The values; the fields may have been set since the layer was made.
    fn flat(&self, names: [&'static str; 2], shape: &[usize]) -> Result<Statistics, Error> {
        let [mean, variance] = [(names[0], &self.mean, f64::MIN), (names[1], &self.variance, 0.0)];
        let flat = |(name, table, least): (_, &ArrayD<f64>, f64)| -> Result<Vec<f64>, Error> {
            check_shape(name, table.shape(), shape)?;
            let sound = |v: f64| v.is_finite() && v >= least;
            check_numbers(name, table, sound, "finite, and a variance not negative")?;
            Ok(table.iter().copied().collect())
        };
        Ok(Statistics { mean: flat(mean)?, variance: flat(variance)? })
    }
}
