//! Settings of a data set. Statistics with different settings are different numbers and are never
//! merged.

use serde::{Deserialize, Serialize};

/// The values that share a mean and a deviation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// The values of a channel: of a colour of images, of a column of a table.
    #[default]
    Channel,
    /// The values at one place of all samples: at a pixel, of a feature.
    Place,
    /// All values.
    All,
    /// The values at one place along these axes; 0 is the axis of the samples.
    Axes(Vec<usize>),
}

/// The colours that all images are converted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    /// The colours of the data set's first image.
    #[default]
    First,
    /// Three channels; grey ones are repeated.
    Rgb,
    /// One channel, the luma (299 R + 587 G + 114 B) / 1000.
    Grey,
}

/// The treatment of an image's transparency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alpha {
    /// It is ignored; the colours count whether they are visible or not.
    #[default]
    Ignore,
    /// Pixels that are fully transparent are ignored.
    Mask,
    /// It is one more channel.
    Channel,
}

/// Settings of a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The values that share a mean and a deviation.
    pub per: Per,
    /// The axis of the channels of arrays, 0 being that of the samples; found by the shape when
    /// `None`.
    pub channel_axis: Option<usize>,
    /// Grey or colour.
    pub colour: Colour,
    /// Transparency.
    pub alpha: Alpha,
    /// The length of an image's shorter side after resizing, as torchvision's `Resize`.
    pub resize: Option<u32>,
    /// The side of the square that is cut out of the middle, as torchvision's `CenterCrop`.
    pub crop: Option<u32>,
    /// A value that stands for a missing one and is ignored.
    pub ignore: Option<f64>,
    /// The array of an .npz or .safetensors file, or the column of a table; the only one, or all
    /// columns of numbers, when empty.
    pub key: Vec<String>,
    /// The shape of a sample that is stored as a list.
    pub shape: Option<Vec<usize>>,
    /// How many samples are drawn at random, and with which seed; all when `None`.
    pub sample: Option<(u64, u64)>,
}
