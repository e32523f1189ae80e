//! The axes and parameters of normalizations over the features of a sample: layer and RMS.

use super::axes::{axis_lengths, check_lengths, named_axes, sample_and_channel};
use crate::rule::{NormConfig, Rule};
use crate::{error::Error, shape::Roles};

/// Which axes share statistics, and how γ and β lie on them.
#[derive(Clone, Debug)]
pub enum Features {
    /// The last axes, which have this shape; a parameter for each element.
    Last(Vec<usize>),
    /// These axes, with these lengths in the tensor's order; a parameter for each element.
    Axes(Vec<isize>, Vec<usize>),
    /// All axes but the samples'; a parameter for each channel.
    PerChannel {
        /// The number of channels.
        channels: usize,
        /// Their axis.
        axis: isize,
    },
}

/// The rules that normalize over features.
pub trait OverFeatures: Rule + From<Features> {}

impl<R: OverFeatures> NormConfig<R> {
    /// Over the last axes, which have this shape, with a parameter for each element: PyTorch's
    /// `normalized_shape`.
    pub fn new(normalized_shape: &[usize]) -> Self {
        Self::custom(Features::Last(normalized_shape.to_vec()).into())
    }

    /// Over any axes, of these lengths, with a parameter for each element: Keras' `axis=[1, 2, 3]`.
    /// Negative axes count from the last. The order in which axes are named does not matter:
    /// `lengths`, γ and β are in the order of the tensor's axes, as in Keras 3.16
    /// ([`State::reshaped`](crate::state::State::reshaped) takes γ of earlier versions there). γ of
    /// `over(&[1], ..)` lies along axis 1, where that of Keras' `RMSNormalization(axis=1)` lies
    /// along the last axis.
    pub fn over(axes: &[isize], lengths: &[usize]) -> Self {
        Self::custom(Features::Axes(axes.to_vec(), lengths.to_vec()).into())
    }

    /// Over all axes but the samples' (axis 0), with a parameter for each channel on axis 1.
    pub fn per_channel(channels: usize) -> Self {
        Self::custom(Features::PerChannel { channels, axis: 1 }.into())
    }
}

impl Features {
    /// These axes of tensors of this shape, with a parameter for each element; −1 is the last axis.
    ///
    /// # Errors
    /// If an axis does not exist or is named twice, or none is.
    pub fn from_shape(axes: &[isize], shape: &[usize]) -> Result<Self, Error> {
        let features = Self::Axes(axes.to_vec(), axis_lengths(axes, shape)?);
        features.check()?;
        Ok(features)
    }

    pub(super) fn parameter_shape(&self) -> Vec<usize> {
        match self {
            Self::Last(shape) | Self::Axes(_, shape) => shape.clone(),
            Self::PerChannel { channels, .. } => vec![*channels],
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let lengths = self.parameter_shape();
        match self {
            Self::Last(_) if lengths.is_empty() => Err(Error::NoAxes),
            Self::Axes(axes, _) if axes.is_empty() && lengths.is_empty() => Err(Error::NoAxes),
            Self::Axes(axes, _) => check_lengths(axes, &lengths),
            _ => Ok(()),
        }
    }

    pub(super) fn channel_axis_mut(&mut self) -> Option<&mut isize> {
        if let Self::PerChannel { axis, .. } = self { Some(axis) } else { None }
    }

    /// Without parameters (`affine` false), elements of a set need not be told apart.
    pub(super) fn roles(
        &self,
        name: &'static str,
        shape: &[usize],
        affine: bool,
    ) -> Result<Roles, Error> {
        let shared = match self {
            Self::PerChannel { channels, axis } => {
                let channel = sample_and_channel(name, shape, *axis, *channels)?;
                let axes = (0..shape.len()).map(|axis| (axis != 0, axis == channel));
                return Ok(Roles::new(axes));
            }
            Self::Last(normalized) => {
                if !shape.ends_with(normalized) {
                    let (shape, normalized) = (shape.to_vec(), normalized.clone());
                    return Err(Error::Normalized { shape, normalized });
                }
                (0..shape.len()).map(|axis| axis >= shape.len() - normalized.len()).collect()
            }
            Self::Axes(axes, lengths) => named_axes(shape, axes, lengths)?,
        };
        Ok(Roles::new(shared.into_iter().map(|shared: bool| (shared, shared && affine))))
    }
}

/// Makes a struct of [`Features`] the rule over them, with these constants.
macro_rules! over_features {
    ($rule:ident: $($constants:tt)*) => {
        impl From<Features> for $rule {
            fn from(features: Features) -> Self {
                Self(features)
            }
        }

        impl $crate::norms::OverFeatures for $rule {}

        impl $crate::norms::HasChannels for $rule {}

        impl $crate::rule::Rule for $rule {
            $($constants)*

            fn parameters(&self) -> Vec<$crate::rule::ParameterSpec> {
                $crate::rule::ParameterSpec::affine(&self.0.parameter_shape())
            }

            fn check(&self) -> Result<(), $crate::error::Error> {
                self.0.check()
            }

            fn channel_axis_mut(&mut self) -> Option<&mut isize> {
                self.0.channel_axis_mut()
            }

            fn roles(
                &self,
                shape: &[usize],
                affine: bool,
            ) -> Result<Option<$crate::shape::Roles>, $crate::error::Error> {
                self.0.roles(Self::NAME, shape, affine).map(Some)
            }
        }
    };
}
pub(super) use over_features;
