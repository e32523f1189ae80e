//! The normalizations that are compared, by name.

use serde::{Deserialize, Serialize};

macro_rules! norms {
    ($($norm:ident $name:literal $description:literal,)*) => {
        /// A normalization, or none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Norm {
            $(#[doc = $description] #[serde(rename = $name)] $norm,)*
        }

        impl Norm {
            /// Every normalization, in the order of tables and legends.
            pub const ALL: &[Self] = &[$(Self::$norm),*];

            /// The name used on the command line, in results and in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$norm => $name,)*
                }
            }

            /// The values that are normalized together.
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$norm => $description,)*
                }
            }
        }
    };
}

norms! {
    None "none" "no normalization",
    Batch "batch" "each channel over the batch; of sequences, over the samples at a time step",
    Layer "layer" "all features of a sample",
    Instance "instance" "each channel of a sample",
    Group "group" "5 groups of 2 channels of a sample",
    Rms "rms" "all features of a sample, by root mean square, mean kept",
    Step "step" "as batch, with running statistics of each time step",
    BatchInstance "batch-instance" "batch and instance, blended by a learned gate for each channel",
    Switchable "switchable" "instance, layer and batch statistics, blended by learned weights",
    Renorm "renorm" "as batch, corrected toward the running statistics",
    Ghost "ghost" "as batch, in parts of 8 samples",
    Graph "graph" "each channel of a sample, less a learned share of its mean",
    FilterResponse "filter-response" "each channel of a sample, by root mean square, mean kept",
    MeanVariance "mean-variance" "all features of a sample, nothing learned",
    Lp "lp" "the 10 channels at a position, to length 1, nothing learned",
    LocalResponse "local-response" "each value by 5 neighbouring channels, nothing learned",
}
