//! Which values share one statistic, as one rule for each axis.
//!
//! The set of the value at index i is the product of one range of indices for each axis, so a few words describe it whatever
//! the size of the tensor.

use std::ops::Range;

/// How the values along one axis share statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// Each index has its own.
    Apart,
    /// All indices share.
    Shared,
    /// Neighbouring indices share in blocks of this many.
    Blocks(usize),
    /// Each index has a window of its own, cut off at the ends of the axis.
    Window {
        /// How many indices before it belong to the window.
        before: usize,
        /// How many after it.
        after: usize,
    },
}

impl Along {
    /// The indices that the index `i` of an axis of this length shares a statistic with, itself included.
    pub fn range(self, len: usize, i: usize) -> Range<usize> {
        match self {
            Self::Apart => i..i + 1,
            Self::Shared => 0..len,
            Self::Blocks(size) => {
                let start = i - i % size.max(1);
                start..(start + size).min(len)
            }
            Self::Window { before, after } => {
                i.saturating_sub(before)..i.saturating_add(after).saturating_add(1).min(len)
            }
        }
    }

    /// The number of different ranges on an axis of this length.
    pub fn sets(self, len: usize) -> usize {
        match self {
            Self::Apart | Self::Window { .. } => len,
            Self::Shared => 1,
            Self::Blocks(size) => len.div_ceil(size.max(1)),
        }
    }
}

/// What is computed of the values of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Their mean and variance.
    MeanVariance,
    /// Their mean square.
    MeanSquare,
    /// Their norm √Σx², which is exact: nothing is estimated.
    Norm,
    /// The sum of their squares, in which neighbours compete: nothing is estimated.
    SumOfSquares,
}

/// One statistic of a normalization: its values in a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The short name of the normalization that shares in this way, such as `"instance"`.
    pub name: &'static str,
    /// What is computed.
    pub measure: Measure,
    /// The tensor's shape.
    pub shape: Vec<usize>,
    /// The rule of each axis.
    pub along: Vec<Along>,
}

impl Sharing {
    /// The set of the value at `index`: one range of indices for each axis.
    ///
    /// # Panics
    /// If `index` does not have as many numbers as the tensor has axes.
    pub fn set(&self, index: &[usize]) -> Vec<Range<usize>> {
        assert_eq!(index.len(), self.shape.len(), "one index for each axis");
        (0..index.len()).map(|axis| self.along[axis].range(self.shape[axis], index[axis])).collect()
    }

    /// The number of sets: how often the statistic is computed.
    pub fn sets(&self) -> usize {
        self.along.iter().zip(&self.shape).map(|(along, len)| along.sets(*len)).product()
    }

    /// How many values the smallest and the largest set have. They differ only for windows, which the ends of an axis cut off.
    pub fn values(&self) -> (usize, usize) {
        let of_axis = |(along, len): (&Along, &usize)| match along {
            Along::Window { before, after } => {
                let size = |i: usize| along.range(*len, i).len();
                (size(0).min(size(len - 1)), size((*before).min(len - 1)).max(size((len - 1).saturating_sub(*after))))
            }
            _ => (along.range(*len, 0).len(), along.range(*len, 0).len()),
        };
        self.along.iter().zip(&self.shape).map(of_axis).fold((1, 1), |(a, b), (least, most)| (a * least, b * most))
    }

    /// How far chance moves the statistic; None where nothing is estimated.
    pub fn noise(&self) -> Option<Noise> {
        let n = self.values().0 as f64;
        match self.measure {
            Measure::MeanVariance => {
                Some(Noise { mean: Some(1.0 / n.sqrt()), variance: (n > 1.0).then(|| (2.0 / (n - 1.0)).sqrt()) })
            }
            Measure::MeanSquare => Some(Noise { mean: None, variance: Some((2.0 / n).sqrt()) }),
            Measure::Norm | Measure::SumOfSquares => None,
        }
    }
}

/// The standard errors of a statistic of n independent normal values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Of the mean, in units of σ: 1/√n. None where no mean is taken.
    pub mean: Option<f64>,
    /// Of the variance, relative to it: √(2/(n − 1)), of a mean square √(2/n). None for the variance of one value.
    pub variance: Option<f64>,
}
