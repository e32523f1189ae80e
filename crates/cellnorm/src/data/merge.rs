//! Merging the parts of a data set.

/// A value of a part of a data set that can be merged with that of the part after it.
pub trait Merge {
    /// Of both; `self` is of what comes first.
    fn merge(self, later: &Self) -> Self;
}

impl<T: Merge> Merge for Vec<T> {
    /// One by one.
    ///
    /// # Panics
    /// If there are not equally many.
    fn merge(self, later: &Self) -> Self {
        assert_eq!(self.len(), later.len(), "the parts of one data set have the same channels");
        self.into_iter().zip(later).map(|(a, b)| a.merge(b)).collect()
    }
}
