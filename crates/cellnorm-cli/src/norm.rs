//! The normalizations that are compared, by name.

use serde::Serialize;

/// A normalization, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// No normalization: what the others are measured against.
    None,
    /// Batch Normalization.
    Batch,
    /// Layer Normalization.
    Layer,
    /// Instance Normalization.
    Instance,
    /// Group Normalization.
    Group,
    /// Root mean square normalization.
    Rms,
    /// Batch Normalization with running statistics of each time step.
    Step,
}

impl Norm {
    /// Every normalization, in the order of tables and legends.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Batch, Self::Layer, Self::Instance, Self::Group, Self::Rms, Self::Step];

    /// The name used on the command line, in results and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Batch => "batch",
            Self::Layer => "layer",
            Self::Instance => "instance",
            Self::Group => "group",
            Self::Rms => "rms",
            Self::Step => "step",
        }
    }

    /// What is normalized together.
    pub fn description(self) -> &'static str {
        match self {
            Self::None => "no normalization",
            Self::Batch => "each channel over the whole batch; of sequences, over the samples at a time step",
            Self::Layer => "all features of a sample",
            Self::Instance => "each channel of a sample",
            Self::Group => "5 groups of 2 channels of a sample",
            Self::Rms => "all features of a sample, by root mean square, mean kept",
            Self::Step => "as batch, with running statistics of each time step",
        }
    }
}
