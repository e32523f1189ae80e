//! Instance normalization: each cell, one channel of one sample, has its own mean and variance.
//!
//! y = γ (x − mean_{n,c}) / √(variance_{n,c} + ε) + β over the positions; γ and β per channel.
//!
//! Source: D. Ulyanov, A. Vedaldi, V. Lempitsky, *Instance Normalization: The Missing Ingredient
//! for Fast Stylization*, 2016. ε as `torch.nn.InstanceNorm*d` of PyTorch 2, but with γ and β
//! (there `affine=True`), as TensorFlow Addons has it.

use super::axes::{HasChannels, sample_and_channel};
use crate::rule::{Norm, NormConfig, ParameterSpec, Rule};
use crate::{error::Error, normalization::Normalization, shape::Roles};

/// Each cell has its own statistics.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
}

/// Instance normalization of tensors \[N, C, …\] or, with another channel axis, \[N, …, C\].
///
/// ```
/// use cellnorm::{GroupNormConfig, InstanceNormConfig};
/// use ndarray::Array3;
/// let x = Array3::from_shape_fn((2, 3, 5), |(n, c, s)| ((n + 1) * (c + 2) * s) as f32);
/// let instance = InstanceNormConfig::new(3).init()?.infer(x.view())?;
/// let group = GroupNormConfig::new(3, 3).init()?.infer(x.view())?;
/// assert_eq!(instance, group);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type InstanceNorm = Norm<Instance>;

/// Makes an [`InstanceNorm`].
pub type InstanceNormConfig = NormConfig<Instance>;

impl NormConfig<Instance> {
    /// `channels` channels on axis 1, with γ and β per channel.
    pub fn new(channels: usize) -> Self {
        Self::custom(Instance { channels, channel_axis: 1 })
    }
}

impl HasChannels for Instance {}

impl Rule for Instance {
    const NAME: &'static str = "instance normalization";
    const NORMALIZATION: Option<Normalization> = Some(Normalization::Instance);

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&[self.channels])
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn roles(&self, shape: &[usize], _affine: bool) -> Result<Option<Roles>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        let axes = (0..shape.len()).map(|axis| (axis != 0 && axis != channel, axis == channel));
        Ok(Some(Roles::new(axes)))
    }
}
