//! `GraphProto` and `NodeProto`: nodes and the values between them, in a form that can be changed
//! and written back.

use std::borrow::Cow;
use std::collections::HashMap;

use super::wire::{self, Field};
use super::{Externals, Tensor};
use crate::error::Malformed;

/// A shape as far as it is known: `None` for a length that the model leaves open.
pub type Shape = Vec<Option<usize>>;

/// A value's place in [`Graph::values`].
pub type ValueId = usize;

/// A node's place in [`Graph::nodes`].
pub type NodeId = usize;

/// The values that nodes hand to each other.
#[derive(Debug, Default)]
pub struct Value<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// The node that makes it.
    pub producer: Option<NodeId>,
    /// The nodes that read it, one for each time.
    pub users: Vec<NodeId>,
    /// Whether it is an input of the graph.
    pub input: bool,
    /// Whether it is an output of the graph.
    pub output: bool,
    /// The graph's own constant of this name, in [`Graph::initializers`].
    pub initializer: Option<usize>,
    /// ONNX's number of the type of its elements; 0 if the model does not say it.
    pub element: i32,
    /// The shape that the model states.
    pub shape: Option<Shape>,
}

/// A field of a graph, in the order of the file.
#[derive(Debug)]
pub enum Part<'a> {
    /// As it is in the file.
    Raw(&'a [u8]),
    /// A node.
    Node(NodeId),
    /// A constant.
    Initializer(usize),
    /// The description of a value, left out when nothing makes the value any more.
    Described(ValueId, &'a [u8]),
}

/// A graph: the model's own, or the body of a branch or a loop.
#[derive(Debug, Default)]
pub struct Graph<'a> {
    /// Its values.
    pub values: Vec<Value<'a>>,
    /// Its nodes.
    pub nodes: Vec<Node<'a>>,
    /// Its constants.
    pub initializers: Vec<Tensor<'a>>,
    /// Its fields in the order of the file.
    pub parts: Vec<Part<'a>>,
    names: HashMap<Cow<'a, str>, ValueId>,
}

/// Graphs in graphs in graphs: more is no model.
const DEEPEST: usize = 32;

impl<'a> Graph<'a> {
    /// The graph that a message is, `depth` graphs below the model's.
    pub fn parse(
        message: &'a [u8],
        externals: &Externals<'a>,
        depth: usize,
    ) -> Result<Self, Malformed> {
        if depth > DEEPEST {
            return Err(Malformed(format!("graphs are nested more than {DEEPEST} deep")));
        }
        let mut graph = Self::default();
        for field in wire::fields(message) {
            let field = field?;
            let part = match field.number {
                1 => graph.parse_node(field.bytes()?, externals, depth)?,
                5 => graph.parse_initializer(field.bytes()?, externals)?,
                11..=13 => graph.parse_description(&field)?,
                _ => Part::Raw(field.raw),
            };
            graph.parts.push(part);
        }
        Ok(graph)
    }

    fn parse_node(
        &mut self,
        message: &'a [u8],
        externals: &Externals<'a>,
        depth: usize,
    ) -> Result<Part<'a>, Malformed> {
        let id = self.nodes.len();
        let mut node = Node { message, ..Node::default() };
        for field in wire::fields(message) {
            let field = field?;
            match field.number {
                1 => node.inputs.push(self.optional(field.text()?)),
                2 => node.outputs.push(self.optional(field.text()?)),
                3 => node.name = field.text()?,
                4 => node.op = field.text()?,
                5 => node.attributes.push(Attribute::parse(field.bytes()?, externals, depth)?),
                7 => node.domain = field.text()?,
                _ => {}
            }
        }
        if node.domain == "ai.onnx" {
            node.domain = "";
        }
        if node.op.is_empty() {
            return Err(Malformed(format!("the node with index {id} names no operator")));
        }
        let free = node.graphs().flat_map(|inner| inner.free_names()).map(str::to_owned);
        let free: Vec<String> = free.collect();
        node.captured = free.into_iter().map(|name| self.value(Cow::Owned(name))).collect();
        for read in node.inputs.iter().flatten().chain(&node.captured) {
            self.values[*read].users.push(id);
        }
        for output in node.outputs.iter().flatten() {
            let value = &mut self.values[*output];
            if value.producer.replace(id).is_some() {
                return Err(Malformed(format!("two nodes make the value {:?}", value.name)));
            }
        }
        self.nodes.push(node);
        Ok(Part::Node(id))
    }

    fn parse_initializer(
        &mut self,
        message: &'a [u8],
        externals: &Externals<'a>,
    ) -> Result<Part<'a>, Malformed> {
        let tensor = Tensor::parse(message, externals)?;
        let value = self.value(Cow::Borrowed(tensor.name));
        let id = self.initializers.len();
        if self.values[value].initializer.replace(id).is_some() {
            return Err(Malformed(format!("two constants are named {:?}", tensor.name)));
        }
        self.initializers.push(tensor);
        Ok(Part::Initializer(id))
    }

    /// A `ValueInfoProto`: the name of a value, and what is known of its type and shape.
    fn parse_description(&mut self, field: &Field<'a>) -> Result<Part<'a>, Malformed> {
        let message = field.bytes()?;
        let id = self.value(Cow::Borrowed(wire::text(message, 1)?));
        let value = &mut self.values[id];
        value.input |= field.number == 11;
        value.output |= field.number == 12;
        let kind = wire::bytes(message, 2)?.unwrap_or_default();
        if let Some(tensor) = wire::bytes(kind, 1)? {
            let shape = wire::bytes(tensor, 2)?.map(dimensions).transpose()?;
            value.shape = shape.or(value.shape.take());
            let element = wire::integer(tensor, 1)? as i32;
            value.element = if element != 0 { element } else { value.element };
        }
        Ok(Part::Described(id, field.raw))
    }

    fn optional(&mut self, name: &'a str) -> Option<ValueId> {
        (!name.is_empty()).then(|| self.value(Cow::Borrowed(name)))
    }

    /// The value of this name, made if there is none.
    pub fn value(&mut self, name: Cow<'a, str>) -> ValueId {
        *self.names.entry(name).or_insert_with_key(|name| {
            self.values.push(Value { name: name.clone(), ..Value::default() });
            self.values.len() - 1
        })
    }

    /// The value of this name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// The graphs that its nodes hold.
    pub fn inner_graphs(&self) -> impl Iterator<Item = &Self> {
        self.nodes.iter().flat_map(Node::graphs)
    }

    /// The names that the graph and those inside it read but do not make.
    fn free_names(&self) -> impl Iterator<Item = &str> {
        let is_read = |value: &&Value<'_>| !value.users.is_empty() || value.output;
        let read = self.values.iter().filter(|value| !value.made()).filter(is_read);
        read.map(|value| &*value.name)
    }

    /// All names of values of the graph and of those inside it.
    pub fn all_names(&self, see: &mut dyn FnMut(&str)) {
        self.values.iter().for_each(|value| see(&value.name));
        self.inner_graphs().for_each(|inner| inner.all_names(see));
    }

    /// Lets a node read another value at a place; places that are missing are left out.
    pub fn set_input(&mut self, node: NodeId, place: usize, value: ValueId) {
        let inputs = &mut self.nodes[node].inputs;
        if inputs.len() <= place {
            inputs.resize(place + 1, None);
        }
        if let Some(old) = inputs[place].replace(value) {
            self.forget_user(old, node);
        }
        self.nodes[node].changed = true;
        self.values[value].users.push(node);
    }

    /// Leaves out the last input of a node, if it is at this place.
    pub fn drop_input(&mut self, node: NodeId, place: usize) {
        if self.nodes[node].inputs.len() == place + 1 {
            self.nodes[node].changed = true;
            if let Some(old) = self.nodes[node].inputs.pop().flatten() {
                self.forget_user(old, node);
            }
        }
    }

    /// Updates which values the graphs inside a node read.
    pub fn capture_again(&mut self, node: NodeId) {
        let names = self.nodes[node].graphs().flat_map(|inner| inner.free_names());
        let free: Vec<ValueId> = names.filter_map(|name| self.find(name)).collect();
        let old = std::mem::replace(&mut self.nodes[node].captured, free.clone());
        old.into_iter().for_each(|value| self.forget_user(value, node));
        free.into_iter().for_each(|value| self.values[value].users.push(node));
    }

    /// Lets a node make another value at a place.
    pub fn set_output(&mut self, node: NodeId, place: usize, value: ValueId) {
        if let Some(old) = self.nodes[node].outputs[place].replace(value) {
            self.values[old].producer = None;
        }
        self.nodes[node].changed = true;
        self.values[value].producer = Some(node);
    }

    /// Takes a node out.
    pub fn remove(&mut self, node: NodeId) {
        for input in std::mem::take(&mut self.nodes[node].inputs).into_iter().flatten() {
            self.forget_user(input, node);
        }
        for output in std::mem::take(&mut self.nodes[node].outputs).into_iter().flatten() {
            self.values[output].producer = None;
        }
        self.nodes[node].removed = true;
    }

    fn forget_user(&mut self, value: ValueId, node: NodeId) {
        let users = &mut self.values[value].users;
        if let Some(place) = users.iter().position(|user| *user == node) {
            users.remove(place);
        }
    }

    /// The nodes in an order in which each comes after those whose values it reads.
    pub fn order(&self) -> Result<Vec<NodeId>, Malformed> {
        let mut waits = vec![0_usize; self.nodes.len()];
        let mut waiting: Vec<Vec<NodeId>> = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            let reads = node.inputs.iter().flatten().chain(&node.captured);
            for producer in reads.filter_map(|value| self.values[*value].producer) {
                waits[id] += 1;
                waiting[producer].push(id);
            }
        }
        let mut order: Vec<NodeId> = (0..self.nodes.len()).filter(|id| waits[*id] == 0).collect();
        let mut next = 0;
        while let Some(done) = order.get(next).copied() {
            next += 1;
            for id in &waiting[done] {
                waits[*id] -= 1;
                if waits[*id] == 0 {
                    order.push(*id);
                }
            }
        }
        match waits.iter().position(|waits| *waits > 0) {
            Some(id) => {
                let op = self.nodes[id].op;
                Err(Malformed(format!("the node with index {id} ({op}) waits for its own result")))
            }
            None => Ok(order),
        }
    }
}

impl Value<'_> {
    /// Whether the graph itself has it: from a node, as an input, or as a constant.
    pub fn made(&self) -> bool {
        self.producer.is_some() || self.input || self.initializer.is_some()
    }

    /// Whether it is given by the caller alone.
    pub fn input_only(&self) -> bool {
        self.input && self.initializer.is_none()
    }
}

fn dimensions(message: &[u8]) -> Result<Shape, Malformed> {
    let length = |field: Field<'_>| {
        let mut numbers = wire::fields_numbered(field.bytes()?, 1);
        let length = numbers.find_map(|field| field.integer().ok());
        // some exporters write 0 or -1 for a length left open
        let length = length.and_then(|length| usize::try_from(length).ok());
        Ok(length.filter(|length| *length > 0))
    };
    let lengths =
        wire::fields(message).filter(|field| !matches!(field, Ok(Field { number: 2.., .. })));
    lengths.map(|field| length(field?)).collect()
}

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
            wire::Value::Fixed32(bits) => Some(f32::from_bits(bits).into()),
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
                wire::Value::Fixed32(bits) => values.push(f32::from_bits(bits).into()),
                wire::Value::Bytes(bytes) => {
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
