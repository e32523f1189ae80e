//! Batch normalization over several axes: each index along them has statistics, γ and β of its own.
//!
//! y = γ_k (x − mean_k) / √(variance_k + ε) + β_k, where k numbers the indices along the axes that
//! are named, and the statistics are over all others. In inference they are the running ones.
//!
//! With the channel axis alone it is batch normalization; with the axes of images or spectra beside
//! it, each pixel or frequency of each channel is normalized by itself, over the samples.
//!
//! Source: tf.keras 2, `BatchNormalization(axis=[1, 2])`; Keras 3 and the others take one axis.

use super::axes::{check_lengths, lengths_of, of_lengths};
use crate::error::Error;
use crate::tables::{
    Coefficients, Figure, Given, Measure, Rule, Sharing, Slot, Table, TableNorm, TableNormConfig,
    Tracked,
};

/// The values at one index along some axes share statistics.
#[derive(Clone, Debug)]
pub struct BatchAxes {
    /// The axes; negative ones count from the last.
    pub axes: Vec<isize>,
    /// Their lengths, in the order of the tensor's axes.
    pub lengths: Vec<usize>,
}

/// Batch normalization over several axes of tensors of any rank; parameters gamma and beta and
/// running averages in the shape of the axes' lengths.
///
/// ```
/// use cellnorm::{AxesBatchNormConfig, BatchNormConfig};
/// use ndarray::Array3;
/// // 5 samples of 2 channels and 3 frequencies, which is 6 channels to batch normalization
/// let x =
///     Array3::from_shape_fn((5, 2, 3), |(n, c, f)| ((5 * n + 3 * n * c + f * f) % 7) as f64);
/// let mut layer = AxesBatchNormConfig::new(&[1, 2], &[2, 3]).init()?;
/// let (y, _) = layer.forward(x.view())?;
/// let flat = x.into_shape_with_order((5, 6)).unwrap();
/// let (expected, _) = BatchNormConfig::new(6).init()?.forward(flat.view())?;
/// assert!(y.iter().zip(&expected).all(|(y, expected)| (y - expected).abs() < 1e-12));
/// assert_eq!(layer.running.unwrap().mean.shape(), [2, 3]);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type AxesBatchNorm = TableNorm<BatchAxes>;

/// Makes an [`AxesBatchNorm`].
pub type AxesBatchNormConfig = TableNormConfig<BatchAxes>;

impl TableNormConfig<BatchAxes> {
    /// Statistics for each index along `axes`, negative ones counted from the last; `lengths` are
    /// in the order of the tensor's axes. [`init`](Self::init) refuses another number of lengths
    /// than of axes.
    ///
    /// [`semantics`](Self::semantics) sets all but the axes.
    pub fn new(axes: &[isize], lengths: &[usize]) -> Self {
        Self::of(BatchAxes { axes: axes.to_vec(), lengths: lengths.to_vec() })
    }
}

impl BatchAxes {
    /// Statistics for each index along these axes of tensors of this shape; negative axes count
    /// from the last.
    ///
    /// # Errors
    /// If an axis does not exist or is named twice.
    pub fn of_shape(axes: &[isize], shape: &[usize]) -> Result<Self, Error> {
        Ok(Self { axes: axes.to_vec(), lengths: lengths_of(axes, shape)? })
    }
}

impl Rule for BatchAxes {
    const NAME: &'static str = "batch normalization over several axes";

    fn slots(&self) -> Vec<Slot> {
        Slot::affine(&self.lengths)
    }

    fn check(&self) -> Result<(), Error> {
        check_lengths(&self.axes, &self.lengths)
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((self.lengths.clone(), 1.0))
    }

    fn sharings(&self, shape: &[usize]) -> Result<Vec<Sharing>, Error> {
        let named = of_lengths(shape, &self.axes, &self.lengths)?;
        Ok(vec![Sharing::over("batch", Measure::MeanVariance, shape, |axis| named[axis])])
    }

    fn estimated(&self) -> Option<usize> {
        Some(0)
    }

    fn table<V: Table>(&self, figure: &Figure<'_, V>, given: &Given<'_, V>) -> Coefficients<V> {
        let sets = &figure.sets[0];
        given.standardize(figure, given.statistics(figure, sets).take(sets), sets)
    }

    fn tracked<V: Table>(
        &self,
        figure: &Figure<'_, V>,
        _given: &Given<'_, V>,
    ) -> Option<Tracked<V>> {
        Some(Tracked::merged(figure, &figure.sets[0]))
    }
}
