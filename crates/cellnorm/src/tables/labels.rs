//! To which set each member belongs.

use std::sync::Arc;

use crate::sharing::{Along, Sharing};

/// A label for each member, from 0 to below `count`.
///
/// ```
/// use cellnorm::tables::Labels;
/// // 2 samples × 3 channels
/// let sample = Labels::new(vec![0, 0, 0, 1, 1, 1], 2);
/// let channel = Labels::new(vec![0, 1, 2, 0, 1, 2], 3);
/// assert_eq!(sample.and(&channel).of(), [0, 1, 2, 3, 4, 5]);
/// assert_eq!(channel.map(1, |_| 0).count(), 1);
/// assert!(sample.and(&channel).are_members() && !channel.are_members());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    // shared: tables keep the labels they were made with
    of: Arc<[u32]>,
    count: usize,
}

impl Labels {
    /// From the label of each member and the number of labels.
    ///
    /// # Panics
    /// If a label is not below `count`.
    pub fn new(of: Vec<u32>, count: usize) -> Self {
        assert!(of.iter().all(|label| (*label as usize) < count), "a label is not below {count}");
        Self { of: of.into(), count }
    }

    /// The label of each member.
    pub fn of(&self) -> &[u32] {
        &self.of
    }

    /// The number of labels, also of those without members.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether each member is a set of its own, in their order: then what belongs to sets belongs
    /// to members.
    pub fn are_members(&self) -> bool {
        // all of them, so that the compiler compares a vector at a time
        let same = |same, (label, member): (&u32, u32)| same & (*label == member);
        self.count == self.of.len() && self.of.iter().zip(0..).fold(true, same)
    }

    /// The pairs of two labels, the other's running fastest.
    pub fn and(&self, other: &Self) -> Self {
        if self.count == 1 && self.of.len() == other.of.len() {
            return other.clone();
        }
        let pair = |(a, b): (&u32, &u32)| a * other.count as u32 + b;
        Self {
            of: self.of.iter().zip(other.of()).map(pair).collect(),
            count: self.count * other.count,
        }
    }

    /// Other labels, `count` of them, as a function of these.
    ///
    /// # Panics
    /// If a label is not below `count`.
    pub fn map(&self, count: usize, to: impl Fn(usize) -> usize) -> Self {
        Self::new(self.of.iter().map(|label| to(*label as usize) as u32).collect(), count)
    }

    /// The set of each cell, row-major over the axes that a statistic is not shared along, from the
    /// cells' coordinates.
    ///
    /// # Panics
    /// If such an axis lies inside the cells, or its values share in windows, which are no sets.
    pub(crate) fn of_sets(sharing: &Sharing, coordinates: &[Option<Self>], cells: usize) -> Self {
        let none = Self::new(vec![0; cells], 1);
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
    }

    /// The sums of the members' values, by label.
    pub fn sums(&self, values: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.count];
        for (label, value) in self.of().iter().zip(values) {
            sums[*label as usize] += value;
        }
        sums
    }
}
