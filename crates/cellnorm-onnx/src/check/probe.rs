//! Values that are compared besides the outputs. A network that ends in a sigmoid or a softmax
//! answers 0 or 1 to most random inputs whatever its layers do; before that last operator the
//! difference shows.

use std::collections::BTreeSet;

use crate::proto::model::Model;
#[cfg(feature = "run")]
use crate::proto::wire::{message, put_bytes};

/// The values of a model that are compared, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Values before the last operator, by name.
    pub before_last: Vec<String>,
    /// Outputs that are judged by the value before them: a softmax of numbers near 10¹⁹ turns a
    /// difference in the last digit into one between 0 and 1.
    pub judged_before: BTreeSet<String>,
    /// Other outputs between −1 and 1: 1 is their scale, however small the numbers happen to be.
    pub bounded: BTreeSet<String>,
}

/// The values to compare of a model before and after, which both have.
pub fn probes(before: &Model<'_>, after: &Model<'_>) -> Probes {
    let mut probes = Probes::default();
    let graph = &before.graph;
    for output in graph.values.iter().filter(|value| value.output) {
        let Some(node) = output.producer.map(|node| &graph.nodes[node]) else { continue };
        let bounded = matches!(node.op, "Sigmoid" | "HardSigmoid" | "Softmax" | "Tanh");
        let is_last = bounded || matches!(node.op, "LogSoftmax" | "ArgMax" | "Clip" | "Erf");
        if !node.domain.is_empty() || !is_last {
            continue;
        }
        let Some(value) = node.input(0).map(|value| &graph.values[value]) else { continue };
        let same = after.graph.find(&value.name).map(|id| &after.graph.values[id]);
        if value.producer.is_some() && same.is_some_and(|same| same.producer.is_some()) {
            if !value.output {
                probes.before_last.push(value.name.to_string());
            }
            probes.judged_before.insert(output.name.to_string());
        } else if bounded {
            probes.bounded.insert(output.name.to_string());
        }
    }
    probes
}

/// A field that makes values outputs as well, to be appended to a model's bytes: protocol buffers
/// join the two graphs.
#[cfg(feature = "run")]
pub fn more_outputs(names: &[String]) -> Vec<u8> {
    let mut graph = Vec::new();
    names.iter().for_each(|name| put_bytes(&mut graph, 12, &message(1, name.as_bytes())));
    message(7, &graph)
}
