//! The layout that all samples of a data set share: their axes, which of them the channels lie
//! along, and the type of their numbers; and the channels of a block of samples.

use std::fmt;

use cellnorm::data::{Channel, Forest, Grid};
use serde::{Deserialize, Serialize};

use crate::error::text;
use crate::settings::{Per, Settings};
use crate::source::{Block, Numbers};

/// The layout that all samples of a data set share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// How many axes a sample has.
    pub rank: usize,
    /// The lengths of the axes that the channels lie along: one channel for each place.
    #[serde(rename = "kept")]
    pub lengths: Vec<usize>,
    /// The largest value that the numbers' type can have: 255 and 65,535 for integers, 1 for
    /// floats.
    pub full_scale: f64,
    /// Whether each value is counted.
    pub counted: bool,
}

/// The most counts of all channels together: 4,096 channels of bytes, 16 of 16 bits.
const COUNTS: usize = 1 << 20;

impl Layout {
    /// The layout of the samples of a block.
    ///
    /// # Errors
    /// If the settings ask for an axis that they do not have, or leave open which one holds the
    /// channels.
    pub fn new(block: &Block, settings: &Settings) -> Result<Self, String> {
        let axes = channel_axes(block, settings)?;
        let lengths: Vec<usize> = axes.iter().map(|axis| block.shape[*axis]).collect();
        let (rank, full_scale) = (block.shape.len(), block.numbers.full_scale());
        let mut layout = Self { rank, lengths, full_scale, counted: false };
        let values = full_scale as usize + 1;
        let fits = layout.channels().is_some_and(|channels| channels <= COUNTS / values);
        layout.counted = fits && matches!(block.numbers, Numbers::U8(_) | Numbers::U16(_));
        Ok(layout)
    }

    /// How many channels there are; `None` for more than can be.
    pub fn channels(&self) -> Option<usize> {
        self.lengths.iter().try_fold(1_usize, |product, length| product.checked_mul(*length))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = match self.full_scale {
            1.0 => "floats".to_owned(),
            full => format!("integers up to {full}"),
        };
        let channels = match self.lengths.as_slice() {
            [] | [1] => "1 channel".to_owned(),
            lengths => {
                let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
                format!("{} channels", lengths.join(" × "))
            }
        };
        let axes = if self.rank == 1 { "axis" } else { "axes" };
        write!(f, "{channels} of {numbers} in samples of {} {axes}", self.rank)
    }
}

/// The axes of a sample that the channels lie along.
///
/// # Errors
/// If one does not exist, or it is left open which one holds the channels.
pub fn channel_axes(block: &Block, settings: &Settings) -> Result<Vec<usize>, String> {
    let rank = block.shape.len();
    let sample_axis = |axis: usize| match axis {
        0 => Err("axis 0 is that of the samples, which are always taken together".to_owned()),
        axis if axis > rank => {
            Err(format!("axis {axis} does not exist in samples of shape {:?}", block.shape))
        }
        axis => Ok(axis - 1),
    };
    match (&settings.per, settings.channel_axis, block.channel_axis) {
        (Per::All, ..) => Ok(Vec::new()),
        (Per::Place, ..) => Ok((0..rank).collect()),
        (Per::Axes(axes), ..) => axes.iter().map(|axis| sample_axis(*axis)).collect(),
        (Per::Channel, Some(axis), _) => Ok(vec![sample_axis(axis)?]),
        (Per::Channel, None, Some(axis)) => Ok(vec![axis]),
        (Per::Channel, None, None) => match block.shape[..] {
            // one number, or a picture without colours
            [] | [_, _] => Ok(Vec::new()),
            [_] => Ok(vec![0]),
            [first, .., last] if first <= 4 && last > 4 => Ok(vec![0]),
            [first, .., last] if last <= 4 && first > 4 => Ok(vec![rank - 1]),
            _ => Err(format!(
                "samples of shape {:?} may have their channels on axis 1 or {rank}; say which \
                 with --channel-axis",
                block.shape
            )),
        },
    }
}

/// The channels of some parts, merged where they are neighbours.
pub(crate) type Channels = Forest<Vec<Channel>>;

/// Adds the channels of a block under the place of its first sample, if it has the layout of the
/// first file.
pub(crate) fn add(
    channels: &mut Channels,
    place: u64,
    block: &Block,
    settings: &Settings,
    first: Option<&Layout>,
) -> Result<(), String> {
    let layout = Layout::new(block, settings)?;
    if let Some(first) = first.filter(|first| **first != layout) {
        return Err(format!("it has {layout}, and the first file that can be read has {first}"));
    }
    let grid = Grid::new(&block.shape, &channel_axes(block, settings)?).map_err(text)?;
    let samples = block.numbers.len().checked_div(grid.length()).unwrap_or(0) as u64;
    if !samples.is_power_of_two() {
        return Err("a block is no power of two of samples".into());
    }
    let valid = valid(block, settings);
    let valid = valid.as_deref();
    let found = match &block.numbers {
        Numbers::U8(all) if layout.counted => grid.integers(all, valid),
        Numbers::U16(all) if layout.counted => grid.integers(all, valid),
        Numbers::U8(_) | Numbers::U16(_) => grid.floats(&block.numbers.to_f64(), valid),
        Numbers::F32(all) => grid.floats(all, valid),
        Numbers::F64(all) => grid.floats(all, valid),
    };
    let found = found.map_err(text)?;
    if !found.iter().all(Channel::is_finite) {
        return Err(TOO_FAR.into());
    }
    channels.insert(place, samples.ilog2(), found).map_err(text)
}

/// The reason that moments are not finite.
pub(crate) const TOO_FAR: &str = "its values lie so far apart that the squares of the distances \
                                  are beyond 64 bits; scale them first";

/// Which values count; `None` if all do.
fn valid(block: &Block, settings: &Settings) -> Option<Vec<bool>> {
    let Some(ignored) = settings.ignore else { return block.valid.clone() };
    // the value that stands for a missing one was rounded like the other values
    let ignored = match block.numbers {
        Numbers::F32(_) => f64::from(ignored as f32),
        _ => ignored,
    };
    let values = block.numbers.to_f64().into_iter().enumerate();
    let is_valid = |place: usize| block.valid.as_ref().is_none_or(|valid| valid[place]);
    let valid: Vec<bool> =
        values.map(|(place, value)| value != ignored && is_valid(place)).collect();
    valid.contains(&false).then_some(valid)
}
