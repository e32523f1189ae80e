//! Where the channels and the samples of a tensor are.

use crate::arrays::{axis_index, axis_set};
use crate::error::Error;
use crate::tables::{Figure, Labels, Measure, Rule, Sharing, Table, TableNormConfig};

/// The rules of tensors with channels.
pub trait HasChannels: Rule {
    /// The axis of the channels.
    #[doc(hidden)]
    fn channel_axis_mut(&mut self) -> &mut isize;
}

impl<R: HasChannels> TableNormConfig<R> {
    /// The axis of the channels; negative counts from the last. Default: 1 (NCHW), but −1 for
    /// sequences (NTC).
    pub fn channel_axis(mut self, axis: isize) -> Self {
        *self.rule.channel_axis_mut() = axis;
        self
    }
}

/// The axis of the channels, after checking that it has `channels` of them and that x has at least
/// `least` axes.
pub(super) fn channel_axis(
    layer: &'static str,
    shape: &[usize],
    axis: isize,
    channels: usize,
    least: usize,
) -> Result<usize, Error> {
    if shape.len() < least {
        return Err(Error::Rank { layer, shape: shape.to_vec(), least });
    }
    let axis = axis_index(axis, shape.len())?;
    if shape[axis] != channels {
        return Err(Error::Channels { axis, shape: shape.to_vec(), channels });
    }
    Ok(axis)
}

/// As [`channel_axis`], for normalizations of single samples: axis 0 is the samples'.
pub(super) fn sample_and_channel(
    layer: &'static str,
    shape: &[usize],
    axis: isize,
    channels: usize,
) -> Result<usize, Error> {
    match channel_axis(layer, shape, axis, channels, 2)? {
        0 => Err(Error::SampleAxis { layer }),
        channel => Ok(channel),
    }
}

/// The statistic of each channel of the batch.
pub(super) fn of_batch(shape: &[usize], channel: usize) -> Sharing {
    Sharing::over("batch", Measure::MeanVariance, shape, |axis| axis == channel)
}

/// The statistic of each channel of each sample.
pub(super) fn of_instances(shape: &[usize], channel: usize) -> Sharing {
    Sharing::over("instance", Measure::MeanVariance, shape, |axis| axis == 0 || axis == channel)
}

/// Several axes have a length each.
pub(super) fn check_lengths(axes: &[isize], lengths: &[usize]) -> Result<(), Error> {
    if axes.len() != lengths.len() {
        return Err(Error::Lengths { axes: axes.to_vec(), lengths: lengths.to_vec() });
    }
    Ok(())
}

/// The lengths of the axes that are named, in the order of the tensor's axes.
pub(super) fn lengths_of(axes: &[isize], shape: &[usize]) -> Result<Vec<usize>, Error> {
    let named = axis_set(axes, shape.len())?;
    Ok((0..shape.len()).filter(|axis| named[*axis]).map(|axis| shape[axis]).collect())
}

/// Which axes are named, after checking that they have these lengths, which are in the order of the
/// tensor's axes.
pub(super) fn of_lengths(
    shape: &[usize],
    axes: &[isize],
    lengths: &[usize],
) -> Result<Vec<bool>, Error> {
    let given = lengths_of(axes, shape)?;
    if given != lengths {
        let (axes, expected) = (axes.to_vec(), lengths.to_vec());
        return Err(Error::Over { shape: shape.to_vec(), axes, given, expected });
    }
    axis_set(axes, shape.len())
}

/// The sample of each cell.
pub(super) fn samples_of<V: Table>(figure: &Figure<'_, V>) -> Labels {
    figure.over(|axis| axis == 0)
}

/// The channel of each cell.
pub(super) fn channels_of<V: Table>(figure: &Figure<'_, V>, channel_axis: isize) -> Labels {
    let channel = axis_index(channel_axis, figure.shape.len()).expect("checked with the shape");
    figure.over(|axis| axis == channel)
}
