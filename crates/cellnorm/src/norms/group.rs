//! Group normalization: the cells of a group of channels of one sample share a mean and a variance.
//!
//! y = γ (x − mean_{n,g}) / √(variance_{n,g} + ε) + β over the positions and the C/G neighbouring
//! channels of group g; γ and β per channel, or per group as MXNet 1.6 to 1.9 and ONNX 18 have it.
//! One group is layer normalization over all features, C groups is instance normalization.
//!
//! Source: Y. Wu, K. He, *Group Normalization*, 2018. Defaults as `torch.nn.GroupNorm`, PyTorch 2.

use super::axes::{HasChannels, sample_and_channel};
use crate::error::{Error, check_groups, check_number};
use crate::rule::{Norm, NormConfig, ParameterSpec, Rule};
use crate::semantics::{GroupParameters, Semantics};
use crate::{normalization::Normalization, shape::Roles};

/// The cells of one group of channels of one sample share statistics.
#[derive(Clone, Debug)]
pub struct Group {
    /// The number of groups.
    pub groups: usize,
    /// The number of channels.
    pub channels: usize,
    /// Their axis; negative counts from the last.
    pub channel_axis: isize,
    /// The owners of γ and β: channels or groups.
    pub parameters: GroupParameters,
}

/// Group normalization of tensors \[N, C, …\] or, with another channel axis, \[N, …, C\].
///
/// ```
/// use cellnorm::{GroupNormConfig, LayerNormConfig};
/// use ndarray::{Array4, s};
/// let x = Array4::from_shape_fn((2, 4, 3, 3), |(n, c, h, w)| (n * 7 + c * c + h * w) as f64);
/// let y = GroupNormConfig::new(2, 4).init()?.infer(x.view())?;
/// let group = y.slice(s![0, 2..4, .., ..]);
/// assert!(group.mean().unwrap().abs() < 1e-12);
/// assert!((group.std(0.0) - 1.0).abs() < 1e-5);
/// // one group is layer normalization over all features
/// let one = GroupNormConfig::new(1, 4).init()?.infer(x.view())?;
/// assert_eq!(one, LayerNormConfig::per_channel(4).init()?.infer(x.view())?);
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub type GroupNorm = Norm<Group>;

/// Makes a [`GroupNorm`].
pub type GroupNormConfig = NormConfig<Group>;

impl NormConfig<Group> {
    /// `channels` channels on axis 1 in `groups` groups of neighbours, with γ and β per channel.
    pub fn new(groups: usize, channels: usize) -> Self {
        let parameters = GroupParameters::PerChannel;
        Self::custom(Group { groups, channels, channel_axis: 1, parameters })
    }

    /// [`new`](Self::new) with the number of groups as Keras writes it: −1 is a group for each
    /// channel, which is instance normalization.
    ///
    /// # Errors
    /// If `groups` is 0 or another negative number.
    ///
    /// ```
    /// use cellnorm::{GroupNormConfig, InstanceNormConfig};
    /// let x = ndarray::Array3::from_shape_fn((2, 4, 3), |(n, c, s)| (n * 7 + c * c + s) as f64);
    /// let y = GroupNormConfig::signed(-1, 4)?.init()?.infer(x.view())?;
    /// assert_eq!(y, InstanceNormConfig::new(4).init()?.infer(x.view())?);
    /// assert_eq!(
    ///     GroupNormConfig::signed(-2, 4).unwrap_err().to_string(),
    ///     "groups is -2; it must be at least 1, or -1 for a group for each channel"
    /// );
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn signed(groups: isize, channels: usize) -> Result<Self, Error> {
        let expected = "at least 1, or -1 for a group for each channel";
        check_number("groups", groups as f64, groups >= 1 || groups == -1, expected)?;
        Ok(Self::new(usize::try_from(groups).unwrap_or(channels), channels))
    }

    /// Whether γ and β have a value for each channel or for each group. Default: each channel.
    pub fn parameters(mut self, parameters: GroupParameters) -> Self {
        self.rule.parameters = parameters;
        self
    }
}

impl HasChannels for Group {}

impl Rule for Group {
    const NAME: &'static str = "group normalization";
    const NORMALIZATION: Option<Normalization> = Some(Normalization::Group);

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&[match self.parameters {
            GroupParameters::PerChannel => self.channels,
            GroupParameters::PerGroup => self.groups,
        }])
    }

    fn check(&self) -> Result<(), Error> {
        check_groups(self.channels, self.groups)
    }

    fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        Some(&mut self.channel_axis)
    }

    fn adopt(&mut self, semantics: &Semantics) {
        (self.channel_axis, self.parameters) = (semantics.channel_axis, semantics.group_parameters);
    }

    fn roles(&self, shape: &[usize], _affine: bool) -> Result<Option<Roles>, Error> {
        let channel = sample_and_channel(Self::NAME, shape, self.channel_axis, self.channels)?;
        let axes = (0..shape.len()).map(|axis| (axis != 0, axis == channel));
        let roles = Roles::new(axes).grouped(channel, self.groups);
        Ok(Some(match self.parameters {
            GroupParameters::PerChannel => roles,
            GroupParameters::PerGroup => roles.parameter_per_group(),
        }))
    }
}
