//! `NodeProto`: an operator and the values that it reads and makes.

use super::attribute::Attribute;
use super::graph::ValueId;

/// A node of a graph.
#[derive(Debug)]
pub struct Node<'a> {
    /// The message; empty for a node that was not in the file.
    pub message: &'a [u8],
    /// The values that it reads; `None` where an optional one is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// The values that it makes; `None` where an optional one is not wanted.
    pub outputs: Vec<Option<ValueId>>,
    /// The values of this graph that graphs inside the node read.
    pub captured: Vec<ValueId>,
    /// Its name, perhaps empty.
    pub name: &'a str,
    /// The operator.
    pub op: &'a str,
    /// The set that the operator is from; empty for ONNX's own.
    pub domain: &'a str,
    /// Its attributes.
    pub attributes: Vec<Attribute<'a>>,
    /// Whether it is to be written anew.
    pub changed: bool,
    /// Whether it is to be left out.
    pub removed: bool,
}

impl<'a> Node<'a> {
    /// Whether it is this operator of ONNX's own set.
    pub fn is(&self, op: &str) -> bool {
        self.op == op && self.domain.is_empty()
    }

    /// The attribute of this name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }

    /// An integer attribute, or what the operator takes without it.
    pub fn integer(&self, name: &str, absent: i64) -> i64 {
        self.attribute(name).and_then(Attribute::integer).unwrap_or(absent)
    }

    /// A number, or what the operator takes without it.
    pub fn float(&self, name: &str, absent: f64) -> f64 {
        self.attribute(name).and_then(Attribute::float).unwrap_or(absent)
    }

    /// Integers; `None` where they are not given.
    pub fn integers(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name).and_then(Attribute::integers)
    }

    /// A text, or what the operator takes without it.
    pub fn text(&self, name: &str, absent: &'static str) -> &'a str {
        self.attribute(name).and_then(Attribute::text).unwrap_or(absent)
    }

    /// The input at a place; `None` where it is left out.
    pub fn input(&self, place: usize) -> Option<ValueId> {
        self.inputs.get(place).copied().flatten()
    }

    /// The only output; `None` if it makes several, or none.
    pub fn only_output(&self) -> Option<ValueId> {
        let mut made = self.outputs.iter().flatten();
        made.next().copied().filter(|_| made.next().is_none())
    }

    /// Whether it holds graphs of its own.
    pub fn has_graphs(&self) -> bool {
        self.attributes.iter().any(|attribute| !attribute.graphs.is_empty())
    }
}
