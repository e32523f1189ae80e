//! Which values of a tensor count.

use ndarray::{ArrayD, ArrayView, Dimension, IxDyn};

use super::axis_index;
use crate::error::{Error, check_number};

/// The treatment of the values that a mask excludes. No statistic sees them.
///
/// ```
/// use cellnorm::{LayerNormConfig, Mask, shape::Excluded};
/// let x = ndarray::array![[1.0_f64, 3.0, 6.0]];
/// let mask = Mask::lengths(&[2], 1);
/// let mut layer = LayerNormConfig::new(&[3]).epsilon(1e-12).init()?;
/// assert_eq!(layer.forward_masked(x.view(), &mask)?.0[[0, 2]], 0.0);
/// layer.excluded = Excluded::Normalized;
/// // mean 2 and standard deviation 1 are those of 1 and 3
/// assert!((layer.forward_masked(x.view(), &mask)?.0[[0, 2]] - 4.0).abs() < 1e-9);
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Excluded {
    /// y and dx are 0 there, whatever x holds, NaN included, and dy is ignored.
    #[default]
    Zero,
    /// They are normalized with the statistics of the valid values, and their dy counts in every
    /// gradient: Keras 3 (batch normalization) and Flax. NaN and infinity pass on to y.
    Normalized,
}

/// Which values of a tensor are valid: statistics are over these alone, whatever the others hold,
/// NaN included. The result and the gradient are 0 at the others, and dy is ignored there, unless
/// the layer says [otherwise](Excluded).
///
/// ```
/// use cellnorm::{BatchNormConfig, Mask};
/// use ndarray::{Array3, s};
/// // two sequences [N, T, C], of three and of one valid step
/// let lengths = Mask::lengths(&[3, 1], 1);
/// let same = Mask::new(
///     ndarray::array![[[true], [true], [true]], [[true], [false], [false]]].view(),
/// );
/// assert_eq!(lengths.over(&[2, 3, 5])?, same.over(&[2, 3, 5])?);
/// // what is masked might as well not be there
/// let x =
///     Array3::from_shape_fn((2, 3, 5), |(n, t, c)| ((7 * n + 3 * t + c * c) % 11) as f64);
/// let mut layer = BatchNormConfig::new(5).channel_axis(-1).init()?;
/// let (masked, _) = layer.forward_masked(x.view(), &Mask::lengths(&[2, 2], 1))?;
/// let (sliced, _) = layer.forward(x.slice(s![.., ..2, ..]))?;
/// assert!((&masked.slice(s![.., ..2, ..]) - &sliced).iter().all(|d| d.abs() < 1e-12));
/// # Ok::<(), cellnorm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// True where a value is valid; as many axes as the tensor, each as long as its or of length 1.
    Values(ArrayD<bool>),
    /// The first `lengths[n]` indices along an axis are valid in sample n.
    Lengths {
        /// One length for each sample.
        lengths: Vec<usize>,
        /// The axis; negative counts from the last.
        axis: isize,
    },
}

impl Mask {
    /// From an array that is true where a value is valid.
    pub fn new<D: Dimension>(valid: ArrayView<'_, bool, D>) -> Self {
        Self::Values(valid.to_owned().into_dyn())
    }

    /// From the length of each sample along an axis.
    pub fn lengths(lengths: &[usize], axis: isize) -> Self {
        Self::Lengths { lengths: lengths.to_vec(), axis }
    }

    /// The mask of every value of a tensor of this shape.
    ///
    /// # Errors
    /// If it does not fit the shape.
    pub fn over(&self, shape: &[usize]) -> Result<ArrayD<bool>, Error> {
        match self {
            Self::Values(valid) => {
                let fits = valid.ndim() == shape.len();
                let full = valid.broadcast(IxDyn(shape)).filter(|_| fits);
                let given = || Error::Broadcast {
                    name: "the mask",
                    given: valid.shape().to_vec(),
                    x: shape.to_vec(),
                };
                full.map(|full| full.to_owned()).ok_or_else(given)
            }
            Self::Lengths { lengths, axis } => {
                let axis = axis_index(*axis, shape.len())?;
                if axis == 0 || lengths.len() != shape[0] {
                    let name = "the lengths along an axis other than 0";
                    let (given, expected) = (vec![lengths.len()], vec![shape[0]]);
                    return Err(Error::Parameter { name, given, expected });
                }
                for length in lengths {
                    let (given, sound) = (*length as f64, *length <= shape[axis]);
                    check_number("a length", given, sound, "at most as long as the axis")?;
                }
                Ok(ArrayD::from_shape_fn(IxDyn(shape), |index| index[axis] < lengths[index[0]]))
            }
        }
    }
}
