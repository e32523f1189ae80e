//! Sums over neighbouring channels.

use candle_core::{Result, Tensor};

/// The sum over each value along an axis, `before` values before it and `after` after it, where
/// there are so many.
pub(crate) fn window_sums(
    values: &Tensor,
    axis: usize,
    before: usize,
    after: usize,
) -> Result<Tensor> {
    let len = values.dim(axis)?;
    let (before, after) = (before.min(len - 1), after.min(len - 1));
    let padded = values.pad_with_zeros(axis, before, after)?;
    let shifted = |by: usize| padded.narrow(axis, by, len);
    (1..=before + after).try_fold(shifted(0)?, |sum, by| sum + shifted(by)?)
}
