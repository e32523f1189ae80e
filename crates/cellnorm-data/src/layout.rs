//! What all samples of a data set have in common: their axes, those that are kept, and the type of
//! their numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::settings::{Per, Settings};
use crate::source::{Block, Numbers};

/// What all samples of a data set have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// How many axes a sample has.
    pub rank: usize,
    /// The lengths of the axes that are kept: one channel for each place along them.
    pub kept: Vec<usize>,
    /// The largest value that the numbers' type can have: 255 and 65,535 for integers, 1 for
    /// floats.
    pub full_scale: f64,
    /// Whether each value is counted.
    pub counted: bool,
}

/// The most counts of all channels together: 4,096 channels of bytes, 16 of 16 bits.
const COUNTS: usize = 1 << 20;

impl Layout {
    /// Of the samples of a block.
    ///
    /// # Errors
    /// If the settings ask for an axis that they do not have, or leave open which one holds the
    /// channels.
    pub fn of(block: &Block, settings: &Settings) -> Result<Self, String> {
        let kept: Vec<usize> =
            kept(block, settings)?.iter().map(|axis| block.shape[*axis]).collect();
        let channels =
            kept.iter().try_fold(1_usize, |product, length| product.checked_mul(*length));
        let counted = |values: usize| channels.is_some_and(|channels| channels <= COUNTS / values);
        let counted = match block.numbers {
            Numbers::U8(_) => counted(1 << 8),
            Numbers::U16(_) => counted(1 << 16),
            Numbers::F32(_) | Numbers::F64(_) => false,
        };
        Ok(Self { rank: block.shape.len(), kept, full_scale: block.numbers.full_scale(), counted })
    }

    /// How many channels there are; `None` for more than can be.
    pub fn channels(&self) -> Option<usize> {
        self.kept.iter().try_fold(1_usize, |product, length| product.checked_mul(*length))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = match self.full_scale {
            1.0 => "floats".to_owned(),
            full => format!("integers up to {full}"),
        };
        let channels = match self.kept.as_slice() {
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

/// The axes of a sample that are kept.
///
/// # Errors
/// If one does not exist, or it is left open which one holds the channels.
pub fn kept(block: &Block, settings: &Settings) -> Result<Vec<usize>, String> {
    let rank = block.shape.len();
    let below = |axis: usize| match axis {
        0 => Err("axis 0 is that of the samples, which are always taken together".to_owned()),
        axis if axis > rank => {
            Err(format!("axis {axis} does not exist in samples of shape {:?}", block.shape))
        }
        axis => Ok(axis - 1),
    };
    match (&settings.per, settings.channel_axis, block.channel_axis) {
        (Per::All, ..) => Ok(Vec::new()),
        (Per::Place, ..) => Ok((0..rank).collect()),
        (Per::Axes(axes), ..) => axes.iter().map(|axis| below(*axis)).collect(),
        (Per::Channel, Some(axis), _) => Ok(vec![below(axis)?]),
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
