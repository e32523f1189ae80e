//! `ModelProto`: a graph, and the versions of what it is written in.

use super::wire;
use super::{Externals, Graph};
use crate::error::Malformed;

/// A model.
#[derive(Debug)]
pub struct Model<'a> {
    /// The fields in the order of the file; the graph is at [`graph_at`](Self::graph_at).
    pub fields: Vec<&'a [u8]>,
    /// The place of the graph among the fields.
    pub graph_at: usize,
    /// The graph.
    pub graph: Graph<'a>,
    /// The version of the format.
    pub ir_version: i64,
    /// The version of ONNX's own operators.
    pub opset: i64,
    /// The batch normalizations inside the model's own functions.
    pub function_norms: Vec<FunctionNorm<'a>>,
}

/// A batch normalization inside a function of the model.
#[derive(Clone, Copy, Debug)]
pub struct FunctionNorm<'a> {
    /// The function.
    pub function: &'a str,
    /// The node.
    pub node: &'a str,
    /// The name of what it makes.
    pub makes: &'a str,
}

impl<'a> Model<'a> {
    /// The model that a file is, with its side files.
    pub fn parse(file: &'a [u8], externals: &Externals<'a>) -> Result<Self, Malformed> {
        let (mut fields, mut ir_version, mut opset) = (Vec::new(), 0, None);
        let (mut graph, mut function_norms) = (None, Vec::new());
        for field in wire::fields(file) {
            let field = field?;
            match field.number {
                1 => ir_version = field.integer()?,
                7 if graph.is_some() => return Err(Malformed("the model has two graphs".into())),
                7 => graph = Some((fields.len(), Graph::parse(field.bytes()?, externals, 0)?)),
                8 => {
                    let set = field.bytes()?;
                    if matches!(wire::text(set, 1)?, "" | "ai.onnx") {
                        opset = Some(wire::integer(set, 2)?);
                    }
                }
                25 => function_norms.extend(batch_norms(field.bytes()?)?),
                _ => {}
            }
            fields.push(field.raw);
        }
        let (graph_at, graph) = graph.ok_or_else(|| Malformed("there is no graph in it".into()))?;
        // before version 3 of the format a model had no list of operator sets: the first
        let opset = opset.or((ir_version < 3).then_some(1));
        let opset = opset.ok_or_else(|| {
            Malformed("it does not say which version of ONNX's operators it uses".into())
        })?;
        Ok(Self { fields, graph_at, graph, ir_version, opset, function_norms })
    }

    /// The names of the side files that the model's tensors lie in.
    pub fn locations(&self) -> Vec<&'a str> {
        let mut found = Vec::new();
        locations(&self.graph, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn locations<'a>(graph: &Graph<'a>, found: &mut Vec<&'a str>) {
    found.extend(graph.initializers.iter().filter_map(|tensor| tensor.location));
    for attribute in graph.nodes.iter().flat_map(|node| &node.attributes) {
        let tensors = attribute.tensor.iter().chain(&attribute.tensors);
        found.extend(tensors.filter_map(|tensor| tensor.location));
    }
    graph.inner_graphs().for_each(|inner| locations(inner, found));
}

/// The batch normalizations inside a `FunctionProto`.
fn batch_norms(function: &[u8]) -> Result<Vec<FunctionNorm<'_>>, Malformed> {
    let (name, mut norms) = (wire::text(function, 1)?, Vec::new());
    for node in wire::fields_numbered(function, 7) {
        let node = node.bytes()?;
        let text = |number: u32| {
            wire::fields_numbered(node, number).next().map_or(Ok(""), |field| field.text())
        };
        if text(4)? == "BatchNormalization" {
            norms.push(FunctionNorm { function: name, node: text(3)?, makes: text(2)? });
        }
    }
    Ok(norms)
}
