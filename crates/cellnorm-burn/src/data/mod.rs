//! Normalization of the data that a network gets: y = (x − mean)/deviation for each channel, with
//! constants of the data set.
//!
//! [`Normalize`] is a module, so that a saved network keeps the numbers that it was trained with,
//! and `invert` goes back. [`Pixels`] does the same to bytes, v → (v/255 − mean)/deviation, in one
//! pass that also moves the channels to where the network wants them; with the feature `dataset` it
//! is a `Mapper` of Burn's data sets.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use cellnorm_burn::data::{Normalize, NormalizeConfig};
//! let device = Device::flex();
//! let normalize = NormalizeConfig::imagenet().init(&device)?;
//! let batch = [124u8; 2 * 4 * 4 * 3]; // two images, the channels of a pixel beside each other
//! let x: Tensor<4> = normalize.pixels(-1)?.tensor(&batch, [2, 4, 4, 3], &device)?;
//! assert_eq!(x.dims(), [2, 3, 4, 4]);
//! let shown = normalize.invert(x); // in [0, 1]
//! assert!((shown.mean().into_scalar::<f32>() - 124.0 / 255.0).abs() < 1e-6);
//! # Ok::<(), cellnorm_burn::cellnorm::Error>(())
//! ```

mod normalize;
mod pixels;

pub use normalize::{Normalize, NormalizeConfig};
pub use pixels::Pixels;

use cellnorm::Error;
use cellnorm::shape::axis_index;

/// The axis counted from the first, if it is as long as there are channels.
fn index_of_channels(axis: isize, shape: &[usize], channels: usize) -> Result<usize, Error> {
    let axis = axis_index(axis, shape.len())?;
    if shape[axis] == channels {
        Ok(axis)
    } else {
        Err(Error::Channels { axis, shape: shape.to_vec(), channels })
    }
}
