//! Where the channels and the samples of a tensor are.

use crate::error::Error;
use crate::rule::{Grid, NormConfig, Rule};
use crate::shape::{Labels, Measure, Sharing, axis_index, axis_set};

/// The rules of tensors with channels.
pub trait HasChannels: Rule {}

impl<R: HasChannels> NormConfig<R> {
    /// The axis of the channels; negative counts from the last. Default: 1 (NCHW), but −1 for
    /// sequences (NTC). Of no matter to layer and RMS normalization with a parameter for each
    /// element, and to batch normalization over several axes, which name their axes.
    pub fn channel_axis(mut self, axis: isize) -> Self {
        if let Some(channel_axis) = self.rule.channel_axis_mut() {
            *channel_axis = axis;
        }
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

/// [`channel_axis`] for normalizations of single samples: axis 0 is the samples'.
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
pub(super) fn batch_sharing(shape: &[usize], channel: usize) -> Sharing {
    Sharing::over("batch", Measure::MeanVariance, shape, |axis| axis == channel)
}

/// The statistic of each channel of each sample.
pub(super) fn instance_sharing(shape: &[usize], channel: usize) -> Sharing {
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
pub(super) fn axis_lengths(axes: &[isize], shape: &[usize]) -> Result<Vec<usize>, Error> {
    let named = axis_set(axes, shape.len())?;
    Ok((0..shape.len()).filter(|axis| named[*axis]).map(|axis| shape[axis]).collect())
}

/// Which axes are named, if they have these lengths, which are in the order of the tensor's axes.
pub(super) fn named_axes(
    shape: &[usize],
    axes: &[isize],
    lengths: &[usize],
) -> Result<Vec<bool>, Error> {
    let given = axis_lengths(axes, shape)?;
    if given != lengths {
        let (axes, expected) = (axes.to_vec(), lengths.to_vec());
        return Err(Error::Over { shape: shape.to_vec(), axes, given, expected });
    }
    axis_set(axes, shape.len())
}

/// The channel of each cell.
pub(super) fn cell_channels(grid: &Grid<'_>, channel_axis: isize) -> Labels {
    let channel = axis_index(channel_axis, grid.shape.len()).expect("checked with the shape");
    grid.labels(|axis| axis == channel)
}
