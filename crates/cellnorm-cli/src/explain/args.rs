//! The flags of `cellnorm explain`.

use std::path::PathBuf;

use cellnorm::explain::{Explanation, Layout};
use clap::Args;
use clap::builder::TypedValueParser;

use super::ExplainError;
use super::norms::{NORMS, NormEntry};
use crate::format::join;
use crate::input::{StrayFlag, choice};

/// The flags of `cellnorm explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// Lengths of the tensor's axes, separated by commas.
    #[arg(long, value_name = "LENGTHS", value_delimiter = ',', required = true)]
    pub shape: Vec<usize>,

    /// The normalization.
    #[arg(long, value_name = "NAME", value_parser = norm())]
    pub norm: &'static NormEntry,

    /// The meaning of the axes, a letter each: n samples, c channels, t time, others positions; for
    /// weights o outputs and i inputs. Channels come second when not given: nc, nct, nchw, ncdhw;
    /// oi, oit, oihw, oidhw.
    #[arg(long, value_name = "LETTERS")]
    pub layout: Option<String>,

    /// Axis of the channels, negative counted from the last, instead of a layout.
    #[arg(long, value_name = "AXIS", allow_negative_numbers = true, conflicts_with = "layout")]
    pub axis: Option<isize>,

    /// layer, rms, mean-variance, lp: axes that share statistics, separated by commas; axes-batch:
    /// axes that do not. layer, rms and axes-batch have a parameter for each element (`axis=[1, 2,
    /// 3]` of Keras). When not given, layer and rms take all features of a sample, with a parameter
    /// for each channel; mean-variance 0,2,3; lp -1; axes-batch the channels.
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

    /// Also draw the figure to this file as SVG.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Print everything as JSON instead of figure and table.
    #[arg(long)]
    pub json: bool,
}

impl ExplainArgs {
    /// Explains what is asked for.
    pub fn explain(&self) -> Result<Explanation, ExplainError> {
        self.refuse_strays()?;
        let rank = self.shape.len();
        let layout = match (&self.layout, self.axis) {
            (Some(letters), _) => Layout::named(letters, rank)?,
            (None, Some(axis)) => Layout::channels_first(rank)?.channel_axis(axis)?,
            (None, None) if self.norm.normalizes_weight => Layout::weight(rank)?,
            (None, None) => Layout::channels_first(rank)?,
        };
        Ok(self.norm.explain(self, layout)?)
    }

    /// Refuses flags that say nothing about the normalization.
    fn refuse_strays(&self) -> Result<(), StrayFlag> {
        let stray = |flag, help| {
            Err(StrayFlag { flag, subject: format!("--norm {}", self.norm.name), help })
        };
        for (flag, is_present) in [
            ("--axes", self.axes.is_some()),
            ("--groups", self.groups.is_some()),
            ("--virtual-batch", self.virtual_batch.is_some()),
            ("--size", self.size.is_some()),
        ] {
            if is_present && !self.norm.flags.contains(&flag) {
                let takes = NORMS.iter().filter(|entry| entry.flags.contains(&flag));
                let names = join(takes.map(|entry| entry.name), ", ");
                return stray(flag, format!("{flag} is for --norm {names}"));
            }
        }
        match self.axis {
            Some(axis) if self.norm.flags.contains(&"--axes") => stray(
                "--axis",
                format!(
                    "to name axis {axis} write --axes {axis}; where the channels are says --layout"
                ),
            ),
            Some(_) if self.norm.normalizes_weight => {
                stray("--axis", "say with --layout which axis holds the outputs".into())
            }
            _ => Ok(()),
        }
    }
}

/// The entry of a name, for clap.
fn norm() -> impl TypedValueParser<Value = &'static NormEntry> {
    choice(NORMS.iter().map(|entry| (entry.name, entry.description, entry)).collect())
}
