//! Masks from tensors.

use candle_core::{Result, Tensor};
use cellnorm::tables::Mask;
use ndarray::ArrayD;

use crate::numbers::wrong;

/// The mask that is valid where a tensor of any type is not 0: with as many axes as x, each as long
/// as that of x or 1. For sequences of their own length, `Mask::lengths` needs no tensor.
///
/// # Errors
/// If the tensor cannot be read.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use cellnorm_candle::{InstanceNorm, mask};
/// let x = Tensor::new(&[[[1f32, 3., f32::NAN], [4., 6., f32::NAN]]], &Device::Cpu)?; // the last step is padding
/// let valid = mask(&Tensor::new(&[[[1u8, 1, 0]]], &Device::Cpu)?)?;
/// let y = InstanceNorm::new_no_affine(2, 1e-9).forward_masked(&x, &valid)?;
/// assert_eq!(y.round()?.to_vec3::<f32>()?, [[[-1., 1., 0.], [-1., 1., 0.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn mask(valid: &Tensor) -> Result<Mask> {
    let values: Vec<u8> = valid.ne(0.0)?.flatten_all()?.to_vec1()?;
    let array =
        ArrayD::from_shape_vec(valid.dims(), values.into_iter().map(|value| value != 0).collect());
    Ok(Mask::new(array.map_err(wrong)?.view()))
}
