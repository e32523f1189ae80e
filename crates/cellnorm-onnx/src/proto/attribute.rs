//! `AttributeProto`: a named constant of a node, or the graphs of a branch or a loop.

use super::graph::Graph;
use super::tensor::{Externals, Tensor};
use super::wire::{self, Field, Value};
use crate::error::Malformed;

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
        wire::fields(self.message).flatten().filter(|field| field.number == number).last()
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
        let lists = wire::fields(self.message).flatten().filter(|field| field.number == 8);
        lists.flat_map(|field| field.integers()).collect::<Result<_, _>>().ok()
    }

    /// Numbers.
    pub fn floats(&self) -> Option<Vec<f64>> {
        let mut values = Vec::new();
        for field in wire::fields(self.message).flatten().filter(|field| field.number == 7) {
            match field.value {
                Value::Fixed32(bits) => values.push(f32::from_bits(bits).into()),
                Value::Bytes(bytes) => {
                    values.extend(
                        bytes
                            .as_chunks()
                            .0
                            .iter()
                            .map(|bytes| f64::from(f32::from_le_bytes(*bytes))),
                    );
                }
                _ => return None,
            }
        }
        Some(values)
    }
}
