//! The normalizations that can be explained, an entry each.

use cellnorm::explain::{Explanation, Layout, lines, rule};
use cellnorm::norms::{
    Batch, BatchInstance, Features, FilterResponse, GemmaRms, Ghost, Graph, Group, Instance, Layer,
    Lines, MeanVariance, Renorm, Rms, Step, Switchable,
};
use cellnorm::rule::Rule;
use cellnorm::weights::{Standardization, WeightDirection};
use cellnorm::{
    Error,
    norms::{LocalResponseNormConfig, LpNormConfig},
    semantics::GroupParameters,
};

use super::ExplainArgs;

/// A normalization that can be explained.
pub struct NormEntry {
    /// Its name on the command line.
    pub name: &'static str,
    /// The values that share a statistic.
    pub description: &'static str,
    /// The flags that apply to it.
    pub flags: &'static [&'static str],
    /// Whether it normalizes a weight.
    pub normalizes_weight: bool,
    explain: ExplainFn,
}

/// Takes the request, the number of channels (outputs where it is a weight), and their axis.
type ExplainFn = fn(&Request, usize, isize) -> Result<Explanation, Error>;

/// The flags with the layout that follows from them.
struct Request<'a> {
    args: &'a ExplainArgs,
    layout: Layout,
}

const AXES: &[&str] = &["--axes"];

/// Every normalization, in the order of the help.
pub const NORMS: &[NormEntry] = &[
    norm("batch", "Each channel over the whole batch", &[], |a, channels, channel_axis| {
        a.rule(&Batch::new(channels, channel_axis))
    }),
    norm(
        "ghost-batch",
        "Each channel over a part of the batch",
        &["--virtual-batch"],
        |a, channels, channel_axis| {
            a.rule(&Ghost {
                channels,
                channel_axis,
                size: a.args.virtual_batch.unwrap_or(32),
                interleaved: false,
            })
        },
    ),
    norm("axes-batch", "Each index along several axes over the whole batch", AXES, |a, _, axis| {
        a.rule(&Batch::from_shape(&a.axes_or(&[axis]), &a.args.shape)?)
    }),
    norm(
        "step-batch",
        "Each channel over the whole batch, at each time step",
        &[],
        |a, channels, channel_axis| {
            let (step_axis, steps) = a.time()?;
            a.rule(&Step { channels, channel_axis, step_axis, steps, first: 0 })
        },
    ),
    norm(
        "renorm",
        "Like batch, corrected toward the running averages",
        &[],
        |a, channels, channel_axis| {
            a.rule(&Renorm { channels, channel_axis, r_max: 3.0, d_max: 5.0 })
        },
    ),
    norm("layer", "The features of a sample", AXES, |a, channels, axis| {
        a.rule(&Layer(a.features(channels, axis)?))
    }),
    norm("instance", "Each channel of a sample", &[], |a, channels, channel_axis| {
        a.rule(&Instance { channels, channel_axis })
    }),
    norm(
        "group",
        "Each group of channels of a sample",
        &["--groups"],
        |a, channels, channel_axis| {
            let (groups, parameters) = (a.args.groups.unwrap_or(32), GroupParameters::PerChannel);
            a.rule(&Group { groups, channels, channel_axis, parameters })
        },
    ),
    norm("rms", "The features of a sample, by root mean square", AXES, |a, channels, axis| {
        a.rule(&Rms(a.features(channels, axis)?))
    }),
    norm("gemma-rms", "Like rms, with the factor stored less 1", AXES, |a, channels, axis| {
        a.rule(&GemmaRms(a.features(channels, axis)?))
    }),
    norm("batch-instance", "A mixture of batch and instance", &[], |a, channels, channel_axis| {
        a.rule(&BatchInstance { channels, channel_axis })
    }),
    norm(
        "switchable",
        "A mixture of instance, layer and batch",
        &[],
        |a, channels, channel_axis| a.rule(&Switchable { channels, channel_axis }),
    ),
    norm(
        "graph",
        "Each channel of a sample, less a share of its mean",
        &[],
        |a, channels, channel_axis| a.rule(&Graph { channels, channel_axis }),
    ),
    norm(
        "filter-response",
        "Each channel of a sample, by mean square",
        &[],
        |a, channels, channel_axis| {
            a.rule(&FilterResponse { channels, channel_axis, learned_epsilon: false })
        },
    ),
    norm("mean-variance", "Any axes, without parameters", AXES, |a, _, _| {
        a.rule(&MeanVariance { axes: a.axes_or(&[0, 2, 3]) })
    }),
    norm("lp", "Vectors along any axes, by their length", AXES, |a, _, _| {
        a.lines(&LpNormConfig::new(&a.axes_or(&[-1])).init()?)
    }),
    norm(
        "local-response",
        "A window of neighbouring channels at each position",
        &["--size"],
        |a, _, axis| {
            a.lines(
                &LocalResponseNormConfig::new(a.args.size.unwrap_or(5))
                    .channel_axis(axis)
                    .init()?,
            )
        },
    ),
    weight_norm("weight", "The weights of each output, by their norm", |a, outputs, axis| {
        a.rule(&WeightDirection { axis: Some(axis as usize), outputs })
    }),
    weight_norm("weight-standardization", "The weights of each output", |a, outputs, axis| {
        a.rule(&Standardization { outputs, axis })
    }),
];

const fn norm(
    name: &'static str,
    description: &'static str,
    flags: &'static [&'static str],
    explain: ExplainFn,
) -> NormEntry {
    NormEntry { name, description, flags, normalizes_weight: false, explain }
}

const fn weight_norm(
    name: &'static str,
    description: &'static str,
    explain: ExplainFn,
) -> NormEntry {
    NormEntry { name, description, flags: &[], normalizes_weight: true, explain }
}

impl NormEntry {
    /// Explains it for the shape that is asked for.
    pub fn explain(&self, args: &ExplainArgs, layout: Layout) -> Result<Explanation, Error> {
        let axis = if layout.is_weight() { layout.samples() } else { layout.channels() };
        (self.explain)(&Request { args, layout }, args.shape[axis], axis as isize)
    }
}

impl Request<'_> {
    fn rule<R: Rule>(&self, norm: &R) -> Result<Explanation, Error> {
        rule(norm, &self.args.shape, self.layout.clone())
    }

    fn lines<L: Lines>(&self, norm: &L) -> Result<Explanation, Error> {
        lines(norm, &self.args.shape, self.layout.clone())
    }

    fn axes_or(&self, usual: &[isize]) -> Vec<isize> {
        self.args.axes.clone().unwrap_or_else(|| usual.to_vec())
    }

    /// The axes named, with a parameter for each element; else all features of a sample with one
    /// for each channel.
    fn features(&self, channels: usize, axis: isize) -> Result<Features, Error> {
        match &self.args.axes {
            Some(axes) => Features::from_shape(axes, &self.args.shape),
            None => Ok(Features::PerChannel { channels, axis }),
        }
    }

    /// The axis of time and its length.
    fn time(&self) -> Result<(isize, usize), Error> {
        let reason = "statistics for each time step need an axis t, such as in nct or ntc";
        let (layout, rank) = (self.layout.to_string(), self.args.shape.len());
        let time = self.layout.time().ok_or(Error::Layout { layout, rank, reason })?;
        Ok((time as isize, self.args.shape[time]))
    }
}
