//! Which values share one statistic, as one word for each axis: the figure of the Group
//! Normalization paper.
//!
//! The set of the value at index i is the product of one range of indices for each axis, so a few
//! words describe it whatever the size of the tensor. A [`Rule`](crate::rule::Rule) says so what
//! it computes, and [`explain`](crate::explain) draws it.

use std::ops::Range;

/// How the values along one axis share statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// Each index has its own.
    Apart,
    /// All indices share.
    Shared,
    /// Neighbouring indices share in blocks of so many, at least 1; the last holds the rest.
    Blocks(usize),
    /// Each index has its own, but all from this one on share.
    Tail(usize),
    /// Each index has a window of its own, cut off at the ends of the axis.
    Window {
        /// How many indices before it belong to the window.
        before: usize,
        /// How many after it.
        after: usize,
    },
}

impl Along {
    /// The indices that the index `i` of an axis of this length shares a statistic with, itself
    /// included.
    pub fn range(self, len: usize, i: usize) -> Range<usize> {
        match self {
            Self::Apart => i..i + 1,
            Self::Shared => 0..len,
            Self::Blocks(size) => {
                let size = size.max(1);
                let start = i - i % size;
                start..start.saturating_add(size).min(len)
            }
            Self::Tail(from) if i >= from => from..len,
            Self::Tail(_) => i..i + 1,
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
            Self::Tail(from) => len.min(from.saturating_add(1)),
        }
    }

    /// The lengths of the shortest and the longest range on an axis of this length.
    fn lengths(self, len: usize) -> (usize, usize) {
        let range = |i: usize| self.range(len, i.min(len - 1)).len();
        match self {
            Self::Apart | Self::Shared => (range(0), range(0)),
            Self::Blocks(_) => (range(len - 1), range(0)),
            Self::Tail(_) => (range(0), range(len - 1)),
            Self::Window { before, after } => (
                range(0).min(range(len - 1)),
                range(before).max(range((len - 1).saturating_sub(after))),
            ),
        }
    }
}

/// The number that the values of a set are measured from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Centering {
    /// Their mean: batch, layer, instance and group normalization.
    #[default]
    Mean,
    /// Zero: the RMS variants.
    Zero,
}

/// The statistic that is computed of the values of a set.
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

impl From<Centering> for Measure {
    fn from(centering: Centering) -> Self {
        match centering {
            Centering::Mean => Self::MeanVariance,
            Centering::Zero => Self::MeanSquare,
        }
    }
}

/// One statistic of a normalization: its values in a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The short name of the normalization that shares in this way, such as `"instance"`.
    pub name: &'static str,
    /// The statistic.
    pub measure: Measure,
    /// The tensor's shape.
    pub shape: Vec<usize>,
    /// The rule of each axis.
    pub along: Vec<Along>,
}

impl Sharing {
    /// A statistic that is taken for each index of the axes that are apart, over all others.
    pub fn over(
        name: &'static str,
        measure: Measure,
        shape: &[usize],
        apart: impl Fn(usize) -> bool,
    ) -> Self {
        let along = |axis| if apart(axis) { Along::Apart } else { Along::Shared };
        Self { name, measure, shape: shape.to_vec(), along: (0..shape.len()).map(along).collect() }
    }

    /// Whether all values along an axis share.
    pub fn shares(&self, axis: usize) -> bool {
        self.along[axis] == Along::Shared
    }

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

    /// How many values the smallest and the largest set have: they differ where an axis ends inside
    /// a block or a window, and where a tail is shared.
    ///
    /// # Panics
    /// If an axis has length 0.
    pub fn values(&self) -> (usize, usize) {
        let lengths = |(along, len): (&Along, &usize)| along.lengths(*len);
        let lengths = self.along.iter().zip(&self.shape).map(lengths);
        lengths.fold((1, 1), |(a, b), (least, most)| (a * least, b * most))
    }

    /// How far chance moves the statistic; None where nothing is estimated.
    pub fn noise(&self) -> Option<Noise> {
        let n = self.values().0 as f64;
        match self.measure {
            Measure::MeanVariance => Some(Noise {
                mean: Some(1.0 / n.sqrt()),
                variance: (n > 1.0).then(|| (2.0 / (n - 1.0)).sqrt()),
            }),
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
    /// Of the variance, relative to it: √(2/(n − 1)), of a mean square √(2/n). None for one
    /// value.
    pub variance: Option<f64>,
}
