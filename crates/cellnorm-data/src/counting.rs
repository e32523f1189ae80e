//! What a block of samples adds to the channels.

use cellnorm::data::{Channel, Forest, Grid};

use crate::layout::{Layout, kept};
use crate::settings::Settings;
use crate::source::{Block, Numbers};

/// The channels of some parts, merged as far as they are neighbours.
pub type Channels = Forest<Vec<Channel>>;

/// Adds the channels of a block under the place of its first sample, if it has the layout of the
/// first file.
pub fn add(
    channels: &mut Channels,
    place: u64,
    block: &Block,
    settings: &Settings,
    first: Option<&Layout>,
) -> Result<(), String> {
    let text = |error: cellnorm::Error| error.to_string();
    let layout = Layout::of(block, settings)?;
    if let Some(first) = first.filter(|first| **first != layout) {
        return Err(format!("it has {layout}, and the first file that can be read has {first}"));
    }
    let grid = Grid::new(&block.shape, &kept(block, settings)?).map_err(text)?;
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

/// Why moments are not finite.
pub const TOO_FAR: &str = "its values lie so far apart that the squares of the distances are \
                           beyond 64 bits; scale them first";

/// Which values count.
fn valid(block: &Block, settings: &Settings) -> Option<Vec<bool>> {
    let Some(ignored) = settings.ignore else { return block.valid.clone() };
    // what stands for a missing value was rounded like the values
    let ignored =
        if let Numbers::F32(_) = block.numbers { f64::from(ignored as f32) } else { ignored };
    let values = block.numbers.to_f64();
    let seen = |place: usize| block.valid.as_ref().is_none_or(|valid| valid[place]);
    let valid: Vec<bool> =
        values.iter().enumerate().map(|(place, value)| *value != ignored && seen(place)).collect();
    (!valid.iter().all(|valid| *valid)).then_some(valid)
}
