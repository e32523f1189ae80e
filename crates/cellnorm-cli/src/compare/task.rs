//! The tasks that a network can learn, each with its normalizations and its number of epochs.

use clap::ValueEnum;
use serde::Serialize;

use crate::format::join;
use crate::network::{ImageNetwork, Network, SequenceNetwork};
use crate::norm::Norm;

/// A kind of data with the network that suits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Images and a convolution: MNIST or Fashion-MNIST.
    Image,
    /// Sequences of many lengths and a recurrent network: JapaneseVowels.
    Sequence,
}

impl Task {
    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Sequence => "sequence",
        }
    }

    /// The normalizations that its network can have, in the order of tables and legends.
    pub fn norms(self) -> &'static [Norm] {
        match self {
            Self::Image => ImageNetwork::NORMS,
            Self::Sequence => SequenceNetwork::NORMS,
        }
    }

    /// The normalizations that are compared when none are asked for: as many as a reader can tell
    /// apart in one chart.
    pub fn usual_norms(self) -> &'static [Norm] {
        match self {
            Self::Image => {
                &[Norm::None, Norm::Batch, Norm::Layer, Norm::Instance, Norm::Group, Norm::Rms]
            }
            Self::Sequence => SequenceNetwork::NORMS,
        }
    }

    /// The names of its normalizations, as `--norms` takes them.
    pub fn norm_names(self) -> String {
        join(self.norms().iter().map(|norm| norm.name()), ",")
    }

    /// Passes over the training data when none are asked for: enough to see the networks settle.
    pub fn epochs(self) -> usize {
        match self {
            Self::Image => 3,
            Self::Sequence => 30,
        }
    }
}
