//! The normalizations that can be explained, an entry each.

use cellnorm::Error;
use cellnorm::explain::{Explanation, Layout, lines, rule};
use cellnorm::norms::{
    Batch, BatchInstance, Features, FilterResponse, GemmaRms, Ghost, Graph, Group, Instance, Layer,
    Lines, LocalResponseNormConfig, LpNormConfig, MeanVariance, Renorm, Rms, RmsScaling, Step,
    Switchable,
};
use cellnorm::rule::Rule;
use cellnorm::semantics::GroupParameters;
use cellnorm::weights::{Standardization, WeightDirection};

use super::ExplainArgs;

pub struct NormEntry {
    /// Its name on the command line.
    pub name: &'static str,
    /// The values that share a statistic.
    pub description: &'static str,
    pub flags: &'static [&'static str],
    pub normalizes: Tensor,
    explain: fn(&Request, usize, isize) -> Result<Explanation, Error>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Tensor {
    Activation,
    /// An activation, of which the features of each position or all of a sample share.
    Features,
    Weight,
}

/// Which features share where no axes are named.
#[derive(Clone, Copy, PartialEq)]
pub enum Reading {
    /// The channels at each position, with a parameter for each.
    Position,
    /// All features of a sample, with a parameter for each channel.
    Sample,
}

impl Reading {
    pub fn description(self) -> &'static str {
        match self {
            Self::Position => "the features of each position, as in transformers",
            Self::Sample => "all features of a sample, as in Wu and He's figure",
        }
    }
}

/// The flags with the layout that follows from them.
struct Request<'a> {
    args: &'a ExplainArgs,
    layout: &'a Layout,
    reading: Reading,
}

/// Each expression takes the request, the number of channels (or outputs), and their axis.
macro_rules! norms {
    (|$request:ident, $channels:ident, $axis:ident|
     $($tensor:ident $name:literal $flags:tt $description:literal => $explain:expr;)*) => {
        /// Every normalization, in the order of the help.
        pub const NORMS: &[NormEntry] = &[$(NormEntry {
            name: $name,
            description: $description,
            flags: &$flags,
            normalizes: Tensor::$tensor,
            explain: |$request, $channels, $axis| {
                let _ = ($channels, $axis);
                $explain
            },
        }),*];
    };
}

norms! { |a, channels, channel_axis|
    Activation "batch" [] "Each channel over the whole batch" =>
        a.rule(&Batch::new(channels, channel_axis));
    Activation "ghost" ["--virtual-batch"] "Each channel over a part of the batch" => {
        let size = a.args.virtual_batch.unwrap_or(32);
        a.rule(&Ghost { channels, channel_axis, size, interleaved: false })
    };
    Activation "axes-batch" ["--axes"] "Each index along several axes over the whole batch" =>
        a.rule(&Batch::from_shape(&a.axes_or(&[channel_axis]), &a.args.shape.0)?);
    Activation "step" [] "Each channel over the whole batch, at each time step" => {
        let (step_axis, steps) = a.time()?;
        a.rule(&Step { channels, channel_axis, step_axis, steps, first: 0 })
    };
    Activation "renorm" [] "Like batch, corrected toward the running averages" =>
        a.rule(&Renorm { channels, channel_axis, r_min: 1.0 / 3.0, r_max: 3.0, d_max: 5.0 });
    Features "layer" ["--axes"] "The features of each position or of a sample" =>
        a.rule(&Layer(a.features(channels, channel_axis)?));
    Activation "instance" [] "Each channel of a sample" =>
        a.rule(&Instance { channels, channel_axis });
    Activation "group" ["--groups"] "Each group of channels of a sample" => {
        let (groups, parameters) = (a.args.groups.unwrap_or(32), GroupParameters::PerChannel);
        a.rule(&Group { groups, channels, channel_axis, parameters })
    };
    Features "rms" ["--axes"] "Like layer, by root mean square, mean kept" =>
        a.rule(&Rms(a.features(channels, channel_axis)?));
    Features "gemma-rms" ["--axes"] "Like rms, with the factor stored less 1" =>
        a.rule(&GemmaRms(a.features(channels, channel_axis)?));
    Features "rms-scaling" ["--axes"] "Like layer, mean kept" =>
        a.rule(&RmsScaling(a.features(channels, channel_axis)?));
    Activation "batch-instance" [] "A mixture of batch and instance" =>
        a.rule(&BatchInstance { channels, channel_axis });
    Activation "switchable" [] "A mixture of instance, layer and batch" =>
        a.rule(&Switchable { channels, channel_axis, authors_code: false });
    Activation "graph" [] "Each channel of a sample, less a share of its mean" =>
        a.rule(&Graph { channels, channel_axis });
    Activation "filter-response" [] "Each channel of a sample, by mean square" =>
        a.rule(&FilterResponse { channels, channel_axis, learned_epsilon: false });
    Activation "mean-variance" ["--axes"] "Any axes, without parameters" =>
        a.rule(&MeanVariance { axes: a.axes_or(&[0, 2, 3]) });
    Activation "lp" ["--axes"] "Vectors along any axes, by their length" =>
        a.lines(&LpNormConfig::new(&a.axes_or(&[-1])).init()?);
    Activation "local-response" ["--size"] "A window of neighbouring channels at each position" => {
        let window = LocalResponseNormConfig::new(a.args.size.unwrap_or(5));
        a.lines(&window.channel_axis(channel_axis).init()?)
    };
    Weight "weight" [] "The weights of each output, by their norm" =>
        a.rule(&WeightDirection { axis: Some(channel_axis as usize), outputs: channels });
    Weight "weight-standardization" [] "The weights of each output" =>
        a.rule(&Standardization { outputs: channels, axis: channel_axis });
}

impl NormEntry {
    /// Explains it for the shape that is asked for.
    pub fn explain(
        &self,
        args: &ExplainArgs,
        layout: &Layout,
        reading: Reading,
    ) -> Result<Explanation, Error> {
        let axis = if layout.is_weight() { layout.samples() } else { layout.channels() };
        let request = Request { args, layout, reading };
        (self.explain)(&request, args.shape.0[axis], axis as isize)
    }
}

impl Request<'_> {
    fn rule<R: Rule>(&self, norm: &R) -> Result<Explanation, Error> {
        rule(norm, &self.args.shape.0, self.layout.clone())
    }

    fn lines<L: Lines>(&self, norm: &L) -> Result<Explanation, Error> {
        lines(norm, &self.args.shape.0, self.layout.clone())
    }

    fn axes_or(&self, usual: &[isize]) -> Vec<isize> {
        self.args.axes.clone().unwrap_or_else(|| usual.to_vec())
    }

    /// The axes named, with a parameter for each element; else those of the reading.
    fn features(&self, channels: usize, axis: isize) -> Result<Features, Error> {
        match (&self.args.axes, self.reading) {
            (Some(axes), _) => Features::from_shape(axes, &self.args.shape.0),
            (None, Reading::Position) => Features::from_shape(&[axis], &self.args.shape.0),
            (None, Reading::Sample) => Ok(Features::PerChannel { channels, axis }),
        }
    }

    fn time(&self) -> Result<(isize, usize), Error> {
        let reason = "statistics for each time step need an axis t, such as in nct or ntc";
        let (layout, rank) = (self.layout.to_string(), self.args.shape.0.len());
        let time = self.layout.time().ok_or(Error::Layout { layout, rank, reason })?;
        Ok((time as isize, self.args.shape.0[time]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norm::Norm;

    #[test]
    fn compare_and_explain_call_a_normalization_by_the_same_name() {
        let explained: Vec<&str> = NORMS.iter().map(|entry| entry.name).collect();
        let compared = Norm::ALL.iter().filter(|norm| **norm != Norm::None);
        for name in compared.map(|norm| norm.name()) {
            assert!(explained.contains(&name), "{name} is not in {explained:?}");
        }
    }
}
