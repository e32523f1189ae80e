//! The axes of the layers that normalize over the features of a sample.

use burn::config::Config;
use cellnorm::{Semantics, norms};

/// Which axes share statistics, and how γ and β, always one-dimensional, lie on them.
#[derive(Config, Debug, PartialEq, Eq)]
pub enum Features {
    /// The last axis, `d_model` long; a parameter for each element.
    Last,
    /// These axes, with these lengths in the tensor's order; a parameter for each element,
    /// row-major.
    Axes {
        /// The axes; negative counts from the last.
        axes: Vec<isize>,
        /// Their lengths; the product is `d_model`.
        lengths: Vec<usize>,
    },
    /// All axes but the samples'; a parameter for each of the `d_model` channels.
    PerChannel {
        /// The axis of the channels; negative counts from the last.
        channel_axis: isize,
    },
}

impl Features {
    /// Takes from a framework's semantics the axis of the channels, where these have parameters.
    pub(super) fn adopt(&mut self, semantics: &Semantics) {
        if let Self::PerChannel { channel_axis } = self {
            *channel_axis = semantics.channel_axis;
        }
    }

    pub(super) fn rule(&self, d_model: usize) -> norms::Features {
        match self {
            Self::Last => norms::Features::Last(vec![d_model]),
            Self::Axes { axes, lengths } => norms::Features::Axes(axes.clone(), lengths.clone()),
            Self::PerChannel { channel_axis } => {
                norms::Features::PerChannel { channels: d_model, axis: *channel_axis }
            }
        }
    }
}
