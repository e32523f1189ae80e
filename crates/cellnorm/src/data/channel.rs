//! A channel of a data set: its values together, and its samples, each with the same weight.

use super::floats::Floats;
use super::forest::Merge;
use super::histogram::Histogram;
use crate::moments::Moments;

/// One channel of a part of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its values.
    pub values: Values,
    /// Its samples.
    pub samples: Samples,
}

/// The values of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Unsigned integers of 8 or 16 bits, each counted.
    Integers(Histogram),
    /// All other numbers.
    Floats(Floats),
}

/// The samples of a channel, such as images, each with weight 1 however many values it has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Samples {
    /// The moments of the samples' means.
    pub means: Moments,
    /// Σ of the samples' variances, Σ (x − mean)² / n.
    pub variances: f64,
    /// Σ of the samples' deviations, the roots of these.
    pub deviations: f64,
}

impl Samples {
    /// One sample of these moments; nothing if it has no values.
    pub fn one(moments: &Moments) -> Self {
        if moments.count == 0.0 {
            return Self::default();
        }
        let variances = moments.variance();
        let means = Moments { count: 1.0, mean: moments.mean, m2: 0.0 };
        Self { means, variances, deviations: variances.sqrt() }
    }
}

impl Merge for Samples {
    fn merge(self, later: &Self) -> Self {
        Self {
            means: self.means.merge(later.means),
            variances: self.variances + later.variances,
            deviations: self.deviations + later.deviations,
        }
    }
}

impl Merge for Values {
    /// # Panics
    /// If one has integers and the other has not.
    fn merge(self, later: &Self) -> Self {
        match (self, later) {
            (Self::Integers(a), Self::Integers(b)) => Self::Integers(a.merge(b)),
            (Self::Floats(a), Self::Floats(b)) => Self::Floats(a.merge(b)),
            _ => panic!("the parts of one data set have values of one kind"),
        }
    }
}

impl Merge for Channel {
    fn merge(self, later: &Self) -> Self {
        Self {
            values: self.values.merge(&later.values),
            samples: self.samples.merge(&later.samples),
        }
    }
}

/// The statistics of one channel, in the units of the data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many values there are.
    pub count: u64,
    /// Their mean, Σ x / n.
    pub mean: f64,
    /// Their standard deviation, √(Σ (x − mean)² / n).
    pub deviation: f64,
    /// The same divided by n − 1; `None` for fewer than two values.
    pub sample_deviation: Option<f64>,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// How many values were left out because they are NaN.
    pub nan: u64,
    /// How many values were left out because they are infinite.
    pub infinite: u64,
    /// The same with equal weight for each sample; `None` where a sample has one value.
    pub by_sample: Option<BySample>,
}

/// Statistics in which each sample, such as an image, has the same weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BySample {
    /// How many samples there are.
    pub samples: u64,
    /// The mean of their means.
    pub mean: f64,
    /// The deviation of these means.
    pub deviation_of_means: f64,
    /// The deviation of all values, those of a sample sharing its weight.
    pub deviation: f64,
    /// The mean of their deviations: no deviation of the data set, but what is often published as
    /// one. It leaves out how far the samples' means lie apart.
    pub mean_of_deviations: f64,
}

impl Channel {
    /// Whether all moments are finite: not if the squares of distances are beyond f64.
    pub fn is_finite(&self) -> bool {
        let of_values = match &self.values {
            Values::Integers(_) => [0.0; 2],
            Values::Floats(floats) => [floats.moments.mean, floats.moments.m2],
        };
        let Samples { means, variances, deviations } = self.samples;
        let of_samples = [means.mean, means.m2, variances, deviations];
        of_values.into_iter().chain(of_samples).all(f64::is_finite)
    }

    /// How many values were left out because they are NaN, and how many because they are infinite.
    pub fn left_out(&self) -> [u64; 2] {
        match &self.values {
            Values::Integers(_) => [0; 2],
            Values::Floats(floats) => [floats.nan, floats.infinite],
        }
    }

    /// Its statistics; `None` if it has no values.
    pub fn summary(&self) -> Option<Summary> {
        let (moments, count, min, max, nan, infinite) = match &self.values {
            Values::Integers(histogram) => {
                let (count, mean, m2) = (histogram.count(), histogram.mean(), histogram.m2());
                let moments = Moments { count: count as f64, mean, m2 };
                (moments, count, histogram.min()?.into(), histogram.max()?.into(), 0, 0)
            }
            Values::Floats(floats) => {
                let count = floats.moments.count as u64;
                (floats.moments, count, floats.min, floats.max, floats.nan, floats.infinite)
            }
        };
        let Samples { means, variances, deviations } = self.samples;
        let by_sample = (means.count > 0.0).then(|| BySample {
            samples: means.count as u64,
            mean: means.mean,
            deviation_of_means: means.variance().sqrt(),
            deviation: (means.variance() + variances / means.count).sqrt(),
            mean_of_deviations: deviations / means.count,
        });
        (count > 0).then(|| Summary {
            count,
            mean: moments.mean,
            deviation: moments.variance().sqrt(),
            sample_deviation: (count > 1).then(|| (moments.m2 / (moments.count - 1.0)).sqrt()),
            min,
            max,
            nan,
            infinite,
            by_sample,
        })
    }
}

impl Summary {
    /// Whether all values are equal: there is no deviation to divide by.
    pub fn is_constant(&self) -> bool {
        self.min == self.max
    }
}
