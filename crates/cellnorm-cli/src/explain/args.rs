//! The flags of `cellnorm explain`, and the rule that they ask for.

use std::path::PathBuf;

use cellnorm::explain::{Layout, Rule};
use clap::{Args, ValueEnum};

use crate::error::Error;

/// What to explain.
#[derive(Args)]
pub struct ExplainArgs {
    /// Lengths of the tensor's axes, separated by commas.
    #[arg(long, value_name = "LENGTHS", value_delimiter = ',', required = true)]
    pub shape: Vec<usize>,

    /// The normalization.
    #[arg(long, value_name = "NAME", value_enum)]
    pub norm: Which,

    /// What the axes are, a letter each: n samples, c channels, t time, others positions; for weights o outputs and
    /// i inputs. Channels come second when not given: nc, nct, nchw, ncdhw; oi, oit, oihw, oidhw.
    #[arg(long, value_name = "LETTERS")]
    pub layout: Option<String>,

    /// Axis of the channels, negative counted from the last, instead of a layout.
    #[arg(long, value_name = "AXIS", allow_negative_numbers = true, conflicts_with = "layout")]
    pub axis: Option<isize>,

    /// layer, rms, mean-variance: axes that share statistics, separated by commas, with a parameter for each element
    /// (`axis=[1, 2, 3]` of Keras). All features of a sample, with a parameter for each channel, when not given; 0,2,3
    /// for mean-variance.
    #[arg(long, value_name = "AXES", value_delimiter = ',', allow_hyphen_values = true)]
    pub axes: Option<Vec<isize>>,

    /// group: number of groups, 32 when not given.
    #[arg(long, value_name = "N")]
    pub groups: Option<usize>,

    /// ghost-batch: samples in each virtual batch, 32 when not given.
    #[arg(long, value_name = "N")]
    pub virtual_batch: Option<usize>,

    /// local-response: channels in a window, 5 when not given.
    #[arg(long, value_name = "N")]
    pub size: Option<usize>,

    /// Draw the figure to this file, too, as SVG.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Print everything as JSON instead of figure and table.
    #[arg(long)]
    pub json: bool,
}

/// The normalizations that can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// Each channel over the whole batch.
    Batch,
    /// Each channel over a part of the batch.
    GhostBatch,
    /// Each channel over the whole batch, at each time step.
    StepBatch,
    /// The features of a sample.
    Layer,
    /// Each channel of a sample.
    Instance,
    /// Each group of channels of a sample.
    Group,
    /// The features of a sample, by root mean square.
    Rms,
    /// A mixture of batch and instance.
    BatchInstance,
    /// A mixture of instance, layer and batch.
    Switchable,
    /// The weights of each output, by their norm.
    Weight,
    /// A window of neighbouring channels at each position.
    LocalResponse,
    /// Each channel of a sample, by mean square.
    FilterResponse,
    /// Any axes, without parameters.
    MeanVariance,
}

impl ExplainArgs {
    /// The rule and the meaning of the axes.
    pub fn rule(&self) -> Result<(Rule, Layout), Error> {
        self.refuse_strays()?;
        let axes = || self.axes.clone();
        let rule = match self.norm {
            Which::Batch => Rule::Batch,
            Which::GhostBatch => Rule::GhostBatch { virtual_batch: self.virtual_batch.unwrap_or(32) },
            Which::StepBatch => Rule::BatchPerStep,
            Which::Layer => Rule::Layer { axes: axes() },
            Which::Instance => Rule::Instance,
            Which::Group => Rule::Group { groups: self.groups.unwrap_or(32) },
            Which::Rms => Rule::Rms { axes: axes() },
            Which::BatchInstance => Rule::BatchInstance,
            Which::Switchable => Rule::Switchable,
            Which::Weight => Rule::Weight,
            Which::LocalResponse => Rule::LocalResponse { size: self.size.unwrap_or(5) },
            Which::FilterResponse => Rule::FilterResponse,
            Which::MeanVariance => Rule::MeanVariance { axes: axes().unwrap_or_else(|| vec![0, 2, 3]) },
        };
        let rank = self.shape.len();
        let layout = match (&self.layout, self.axis) {
            (Some(letters), _) => Layout::named(letters, rank)?,
            (None, Some(axis)) => Layout::channels_first(rank)?.channel_axis(axis)?,
            (None, None) if rule.of_weights() => Layout::weight(rank)?,
            (None, None) => Layout::channels_first(rank)?,
        };
        Ok((rule, layout))
    }

    /// Flags that the normalization has no use for.
    fn refuse_strays(&self) -> Result<(), Error> {
        use Which::{GhostBatch, Group, Layer, LocalResponse, MeanVariance, Rms, Weight};
        let over_axes = [Layer, Rms, MeanVariance];
        let flags: [(_, _, &[Which]); 4] = [
            ("--axes", self.axes.is_some(), &over_axes),
            ("--groups", self.groups.is_some(), &[Group]),
            ("--virtual-batch", self.virtual_batch.is_some(), &[GhostBatch]),
            ("--size", self.size.is_some(), &[LocalResponse]),
        ];
        for (flag, given, of) in flags {
            if given && !of.contains(&self.norm) {
                let names: Vec<String> = of.iter().map(|which| which.name()).collect();
                let help = format!("{flag} is for --norm {}", names.join(", "));
                return Err(Error::Stray { flag, norm: self.norm.name(), help });
            }
        }
        if let Some(axis) = self.axis {
            let help = if over_axes.contains(&self.norm) {
                format!("to share along axis {axis} write --axes {axis}; where the channels are says --layout")
            } else {
                "say with --layout which axis holds the outputs".into()
            };
            if over_axes.contains(&self.norm) || self.norm == Weight {
                return Err(Error::Stray { flag: "--axis", norm: self.norm.name(), help });
            }
        }
        Ok(())
    }
}

impl Which {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
