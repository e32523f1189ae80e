//! What two parts of a data set come to together.

/// Something that two neighbouring parts of a data set have together.
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
