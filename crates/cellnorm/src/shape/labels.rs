//! To which set each member belongs.

use std::sync::Arc;

use super::{Along, Axis, Cells, Sharing, grid};

/// A label for each member, from 0 to below `count`.
///
/// ```
/// use cellnorm::shape::Labels;
/// // 2 samples × 3 channels
/// let sample = Labels::new(vec![0, 0, 0, 1, 1, 1], 2);
/// let channel = Labels::new(vec![0, 1, 2, 0, 1, 2], 3);
/// assert_eq!(sample.and(&channel).as_slice(), [0, 1, 2, 3, 4, 5]);
/// assert_eq!(channel.map(1, |_| 0).count(), 1);
/// assert!(sample.and(&channel).are_members() && !channel.are_members());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    // shared: tables keep the labels they were made with
    values: Arc<[u32]>,
    count: usize,
}

impl Labels {
    /// From the label of each member and the number of labels.
    ///
    /// # Panics
    /// If a label is not below `count`.
    pub fn new(values: Vec<u32>, count: usize) -> Self {
        assert!(
            values.iter().all(|label| (*label as usize) < count),
            "a label is not below {count}"
        );
        Self { values: values.into(), count }
    }

    /// The label of each member.
    pub fn as_slice(&self) -> &[u32] {
        &self.values
    }

    /// The number of labels, also of those without members.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether each member is a set of its own, in their order: tables of sets are of members.
    pub fn are_members(&self) -> bool {
        // all of them, so that the compiler compares a vector at a time
        let same = |same, (label, member): (&u32, u32)| same & (*label == member);
        self.count == self.values.len() && self.values.iter().zip(0..).fold(true, same)
    }

    /// The pairs of two labels, the other's running fastest.
    pub fn and(&self, other: &Self) -> Self {
        if self.count == 1 && self.values.len() == other.values.len() {
            return other.clone();
        }
        let pair = |(a, b): (&u32, &u32)| a * other.count as u32 + b;
        Self {
            values: self.values.iter().zip(other.as_slice()).map(pair).collect(),
            count: self.count * other.count,
        }
    }

    /// Other labels, `count` of them, as a function of these.
    ///
    /// # Panics
    /// If a label is not below `count`.
    pub fn map(&self, count: usize, to: impl Fn(usize) -> usize) -> Self {
        Self::new(self.values.iter().map(|label| to(*label as usize) as u32).collect(), count)
    }

    /// The value of each member's label.
    pub(crate) fn take(&self, values: &[f64]) -> Vec<f64> {
        self.values.iter().map(|label| values[*label as usize]).collect()
    }

    /// The sums of the members' values, by label.
    pub fn sums(&self, values: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.count];
        for (label, value) in self.as_slice().iter().zip(values) {
            sums[*label as usize] += value;
        }
        sums
    }
}

/// The set of each cell, for each of some statistics, row-major over the axes that the statistic is
/// not shared along; the coordinates are those of [`cells_of`].
///
/// # Panics
/// If a statistic is not shared along an axis inside the cells, or is shared in windows.
///
/// ```
/// use cellnorm::shape::{Measure, Sharing, cells_of, sets_of};
/// let shape = [2, 3, 4];
/// let (cells, coordinates) = cells_of(&shape, &[true, true, false]);
/// let channels = Sharing::over("batch", Measure::MeanVariance, &shape, |axis| axis == 1);
/// assert_eq!(
///     sets_of(&[channels], &coordinates, cells.count())[0].as_slice(),
///     [0, 1, 2, 0, 1, 2]
/// );
/// ```
pub fn sets_of(sharings: &[Sharing], coordinates: &[Option<Labels>], cells: usize) -> Vec<Labels> {
    let set_of = |sharing: &Sharing| {
        let none = Labels::new(vec![0; cells], 1);
        (0..sharing.shape.len()).filter(|axis| !sharing.shares(*axis)).fold(none, |labels, axis| {
            let index = coordinates[axis].as_ref().expect("an axis that numbers the cells");
            let count = sharing.along[axis].sets(sharing.shape[axis]);
            labels.and(&match sharing.along[axis] {
                Along::Blocks(size) => index.map(count, |i| i / size.max(1)),
                Along::Tail(from) => index.map(count, |i| i.min(from)),
                Along::Window { .. } => panic!("windows overlap"),
                Along::Apart | Along::Shared => index.clone(),
            })
        })
    };
    sharings.iter().map(set_of).collect()
}

/// The cells of a row-major tensor that are numbered by some of its axes, and the index of each
/// cell along these.
///
/// ```
/// use cellnorm::shape::cells_of;
/// // channels-last images: sample and channel number the cells
/// let (cells, coordinates) = cells_of(&[2, 4, 4, 3], &[true, false, false, true]);
/// assert_eq!((cells.outer, cells.positions, cells.inner), (2, 16, 3));
/// assert_eq!(coordinates[3].as_ref().unwrap().as_slice(), [0, 1, 2, 0, 1, 2]);
/// ```
pub fn cells_of(shape: &[usize], numbered: &[bool]) -> (Cells, Vec<Option<Labels>>) {
    grid(&Axis::row_major(shape, |axis| (!numbered[axis], false))).expect("row-major has no gaps")
}
