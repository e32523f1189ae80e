//! Batch normalization: the cells of one channel share a mean and a variance, and running averages
//! serve inference.
//!
//! y = γ_k (x − mean_k) / √(variance_k + ε) + β_k, where k numbers the channels, or the indices
//! along several axes, and the statistics are over all other axes. In training, mean and biased
//! variance are those of the batch, and the running averages move toward them; in inference they
//! are the running averages.
//!
//! With the axes of images or spectra beside the channels', each pixel or frequency of each channel
//! is normalized by itself, over the samples.
//!
//! Source: S. Ioffe, C. Szegedy, *Batch Normalization: Accelerating Deep Network Training by
//! Reducing Internal Covariate Shift*, 2015. Defaults as `torch.nn.BatchNorm*d` of PyTorch 2.
//! Several axes as tf.keras 2, `BatchNormalization(axis=[1, 2])`; Keras 3 and the others take one.

use super::axes::{HasChannels, axis_lengths, channel_axis, check_lengths, named_axes};
use crate::rule::{Norm, NormConfig, ParameterSpec, Rule};
use crate::{error::Error, normalization::Normalization, shape::Roles};

/// The values at one index along some axes, most often the channels', share statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The axes; negative ones count from the last.
    pub axes: Vec<isize>,
    /// Their lengths, in the order of the tensor's axes.
    pub lengths: Vec<usize>,
}

/// Batch normalization of tensors of any rank ≥ 2; γ, β and running averages \[C\], or in the shape
/// of the lengths of several axes.
///
/// ```
/// use cellnorm::{BatchNormConfig, Momentum, RunningVariance};
/// use ndarray::Array4;
/// // the worked example of MXNet Gluon's normalization tutorial
/// let x =
///     Array4::from_shape_fn((2, 2, 2, 2), |(n, c, h, w)| (8 * n + 4 * c + 2 * h + w) as f32);
/// let mut layer = BatchNormConfig::new(2)
///     .momentum(Momentum::Keep(0.9))
///     .running_variance(RunningVariance::Biased)
///     .init()?;
/// let (y, saved) = layer.forward(x.view())?;
/// assert!((y[[0, 0, 0, 0]] + 1.3242440).abs() < 1e-6);
/// assert!((layer.running.as_ref().unwrap().variance[0] - 2.625).abs() < 1e-12);
///
/// let dy = y.mapv(f32::signum);
/// let gradients = layer.backward(&saved, x.view(), dy)?;
/// assert!((gradients.dgamma.unwrap()[0] - 7.7047).abs() < 1e-4);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type BatchNorm = Norm<Batch>;

/// Makes a [`BatchNorm`].
///
/// ```
/// use cellnorm::{BatchNormConfig, Momentum, Normalization, RunningVariance, Semantics};
/// let by_hand = BatchNormConfig::new(64)
///     .channel_axis(-1)
///     .epsilon(1e-3)
///     .momentum(Momentum::Keep(0.99))
///     .running_variance(RunningVariance::Biased)
///     .init()?;
/// let keras = Semantics::preset("keras-3", Normalization::Batch)?;
/// let by_name = BatchNormConfig::new(64).semantics(&keras).init()?;
/// assert_eq!((by_name.epsilon, by_name.momentum), (by_hand.epsilon, by_hand.momentum));
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type BatchNormConfig = NormConfig<Batch>;

impl NormConfig<Batch> {
    /// Batch normalization of `channels` channels on axis 1, with γ and β.
    pub fn new(channels: usize) -> Self {
        Self::custom(Batch::new(channels, 1))
    }

    /// Statistics for each index along several axes, negative ones counted from the last; `lengths`
    /// are in the order of the tensor's axes. [`init`](Self::init) refuses another number of them.
    ///
    /// ```
    /// use cellnorm::BatchNormConfig;
    /// use ndarray::Array3;
    /// // 5 samples of 2 channels and 3 frequencies, which is 6 channels to batch normalization
    /// let x =
    ///     Array3::from_shape_fn((5, 2, 3), |(n, c, f)| ((5 * n + 3 * n * c + f * f) % 7) as f64);
    /// let mut layer = BatchNormConfig::over(&[1, 2], &[2, 3]).init()?;
    /// let (y, _) = layer.forward(x.view())?;
    /// let flat = x.into_shape_with_order((5, 6)).unwrap();
    /// let (expected, _) = BatchNormConfig::new(6).init()?.forward(flat.view())?;
    /// assert!(y.iter().zip(&expected).all(|(y, expected)| (y - expected).abs() < 1e-12));
    /// assert_eq!(layer.running.unwrap().mean.shape(), [2, 3]);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn over(axes: &[isize], lengths: &[usize]) -> Self {
        Self::custom(Batch { axes: axes.to_vec(), lengths: lengths.to_vec() })
    }
}

impl Batch {
    /// `channels` channels on one axis; negative counts from the last.
    pub fn new(channels: usize, channel_axis: isize) -> Self {
        Self { axes: vec![channel_axis], lengths: vec![channels] }
    }

    /// Statistics for each index along axes of tensors of this shape; negative ones from the last.
    ///
    /// # Errors
    /// If an axis does not exist or is named twice.
    pub fn from_shape(axes: &[isize], shape: &[usize]) -> Result<Self, Error> {
        Ok(Self { axes: axes.to_vec(), lengths: axis_lengths(axes, shape)? })
    }
}

impl HasChannels for Batch {}

impl Rule for Batch {
    const NAME: &'static str = "batch normalization";
    const NORMALIZATION: Option<Normalization> = Some(Normalization::Batch);

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&self.lengths)
    }

    fn check(&self) -> Result<(), Error> {
        check_lengths(&self.axes, &self.lengths)
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        if let [axis] = &mut self.axes[..] { Some(axis) } else { None }
    }

    fn running(&self) -> Option<(Vec<usize>, f64)> {
        Some((self.lengths.clone(), 1.0))
    }

    fn roles(&self, shape: &[usize], _affine: bool) -> Result<Option<Roles>, Error> {
        if let ([axis], [channels]) = (&self.axes[..], &self.lengths[..]) {
            let channel = channel_axis(Self::NAME, shape, *axis, *channels, 2)?;
            let axes = (0..shape.len()).map(|axis| (axis != channel, axis == channel));
            return Ok(Some(Roles::new(axes)));
        }
        let named = named_axes(shape, &self.axes, &self.lengths)?;
        Ok(Some(Roles::new(named.into_iter().map(|named| (!named, named)))))
    }
}
