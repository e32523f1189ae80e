//! Where to look besides the outputs. A network that ends in a sigmoid or a softmax answers 0 or 1
//! to most random inputs whatever its layers do; before that last operator the difference shows.

use std::collections::BTreeSet;

use crate::proto::model::Model;
#[cfg(feature = "run")]
use crate::proto::wire::put_bytes;

/// What is compared of a model.
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

/// What to compare of a model before and after: values that both have.
pub fn probes(before: &Model<'_>, after: &Model<'_>) -> Probes {
    let mut probes = Probes::default();
    let graph = &before.graph;
    for output in graph.values.iter().filter(|value| value.output) {
        let Some(node) = output.producer.map(|node| &graph.nodes[node]) else { continue };
        let bounded = matches!(node.op, "Sigmoid" | "HardSigmoid" | "Softmax" | "Tanh");
        if !node.domain.is_empty()
            || !bounded && !matches!(node.op, "LogSoftmax" | "ArgMax" | "Clip" | "Erf")
        {
            continue;
        }
        let Some(value) = node.input(0).map(|value| &graph.values[value]) else { continue };
        let same = after
            .graph
            .find(&value.name)
            .is_some_and(|id| after.graph.values[id].producer.is_some());
        if value.producer.is_some() && same {
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

/// A field that, behind a model's bytes, makes values outputs as well: protocol buffers join the
/// two graphs.
#[cfg(feature = "run")]
pub fn as_outputs(names: &[String]) -> Vec<u8> {
    let mut graph = Vec::new();
    for name in names {
        let mut described = Vec::new();
        put_bytes(&mut described, 1, name.as_bytes());
        put_bytes(&mut graph, 12, &described);
    }
    let mut field = Vec::new();
    put_bytes(&mut field, 7, &graph);
    field
}
