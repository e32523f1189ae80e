//! The layers that frameworks have in common, by name.

use std::fmt;

/// Which layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// Batch normalization.
    Batch,
    /// Layer normalization.
    Layer,
    /// Instance normalization.
    Instance,
    /// Group normalization.
    Group,
    /// RMS normalization.
    Rms,
}

impl Normalization {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Batch, Self::Layer, Self::Instance, Self::Group, Self::Rms];
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Batch => "batch",
            Self::Layer => "layer",
            Self::Instance => "instance",
            Self::Group => "group",
            Self::Rms => "rms",
        })
    }
}
