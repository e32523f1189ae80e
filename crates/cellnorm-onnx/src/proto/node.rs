//! `NodeProto`: an operator, the values that it reads and makes, and its attributes.

use super::wire::{self, Field, Value};
use super::{Externals, Graph, Tensor, ValueId};
use crate::error::Malformed;

/// A node of a graph.
#[derive(Debug, Default)]
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

    /// The graphs that it holds: the branches of an `If`, the body of a `Loop`.
    pub fn graphs(&self) -> impl Iterator<Item = &Graph<'a>> {
        self.attributes.iter().flat_map(|attribute| &attribute.graphs)
    }

    /// The first of its outputs, if it is wanted.
    pub fn first_output(&self) -> Option<ValueId> {
        self.outputs.first().copied().flatten()
    }
}

/// An attribute; its graphs and tensors are parsed, its numbers are looked up when asked for.
#[derive(Debug, Default)]
pub struct Attribute<'a> {
    /// Its name.
    pub name: &'a str,
    /// The message.
    pub message: &'a [u8],
    /// The graphs of a branch or a loop's body.
    pub graphs: Vec<Graph<'a>>,
    /// Its tensor.
    pub tensor: Option<Tensor<'a>>,
    /// Its tensors, if it has a list of them.
    pub tensors: Vec<Tensor<'a>>,
}

impl<'a> Attribute<'a> {
    /// The attribute that a message is, `depth` graphs below the model's.
    pub fn parse(
        message: &'a [u8],
        externals: &Externals<'a>,
        depth: usize,
    ) -> Result<Self, Malformed> {
        let mut attribute = Self { message, ..Self::default() };
        for field in wire::fields(message) {
            let field = field?;
            match field.number {
                1 => attribute.name = field.text()?,
                5 => attribute.tensor = Some(Tensor::parse(field.bytes()?, externals)?),
                10 => attribute.tensors.push(Tensor::parse(field.bytes()?, externals)?),
                6 | 11 => {
                    attribute.graphs.push(Graph::parse(field.bytes()?, externals, depth + 1)?)
                }
                _ => {}
            }
        }
        Ok(attribute)
    }

    fn field(&self, number: u32) -> Option<Field<'a>> {
        wire::fields_numbered(self.message, number).last()
    }

    /// A number.
    pub fn float(&self) -> Option<f64> {
        match self.field(2)?.value {
            Value::Fixed32(bits) => Some(f32::from_bits(bits).into()),
            _ => None,
        }
    }

    /// An integer.
    pub fn integer(&self) -> Option<i64> {
        self.field(3)?.integer().ok()
    }

    /// A text.
    pub fn text(&self) -> Option<&'a str> {
        self.field(4)?.text().ok()
    }

    /// Integers.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let lists = wire::fields_numbered(self.message, 8);
        lists.flat_map(|field| field.integers()).collect::<Result<_, _>>().ok()
    }

    /// Numbers.
    pub fn floats(&self) -> Option<Vec<f64>> {
        let mut values = Vec::new();
        for field in wire::fields_numbered(self.message, 7) {
            match field.value {
                Value::Fixed32(bits) => values.push(f32::from_bits(bits).into()),
                Value::Bytes(bytes) => {
                    let (numbers, _) = bytes.as_chunks();
                    values
                        .extend(numbers.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))));
                }
                _ => return None,
            }
        }
        Some(values)
    }
}
