//! A folded model as bytes: every field as it was, except those of changed nodes and constants.

use std::slice;

use crate::fold::{Changes, NewTensor};
use crate::proto::graph::{Graph, Part, Value};
use crate::proto::model::Model;
use crate::proto::node::{Attribute, Node};
use crate::proto::rope::{Compute, Rope};
use crate::proto::tensor::Tensor;
use crate::proto::wire::{self, message, put_bytes, put_entry, put_integer};

/// The key of the model's metadata under which a note of the folding is left.
pub const NOTE: &str = "cellnorm.fold";

/// The bytes of a model and of its new side file.
pub struct Encoded<'r> {
    /// The model's bytes.
    pub model: Rope<'r>,
    /// The side file's numbers, in order.
    pub side: Vec<&'r dyn Compute>,
}

/// Puts a folded model together. `note` is left in its metadata; `side` is the file that the
/// numbers of new tensors go to, `None` for the model itself.
pub fn encode<'r>(
    model: &'r Model<'_>,
    changes: &'r [Changes<'_>],
    note: &str,
    side: Option<&str>,
) -> Encoded<'r> {
    let mut encoder = Encoder { changes: changes.iter(), side, offset: 0, numbers: Vec::new() };
    let mut rope = Rope::default();
    for (index, field) in model.fields.iter().enumerate() {
        if index == model.graph_at {
            let graph = encoder.graph(&model.graph, model.ir_version < 4);
            rope.push_message(7, graph);
        } else if !is_note(field) {
            rope.push_borrowed(field);
        }
    }
    rope.push_owned(|out| put_entry(out, 14, NOTE, note));
    Encoded { model: rope, side: encoder.numbers }
}

struct Encoder<'r, 's> {
    changes: slice::Iter<'r, Changes<'r>>,
    side: Option<&'s str>,
    /// The numbers of the side file, and how many bytes they are.
    numbers: Vec<&'r dyn Compute>,
    offset: u64,
}

impl<'r> Encoder<'r, '_> {
    /// A graph; `constants_are_inputs` if it has to name new constants among its inputs.
    fn graph(&mut self, graph: &'r Graph<'_>, constants_are_inputs: bool) -> Rope<'r> {
        let mut rope = Rope::default();
        let Some(changes) = self.changes.next() else { return rope };
        for part in &graph.parts {
            match part {
                Part::Raw(raw) => rope.push_borrowed(raw),
                Part::Node(id) => self.node(&mut rope, graph, &graph.nodes[*id]),
                Part::Initializer(id) if changes.dropped.contains(id) => {}
                Part::Initializer(id) => match changes.replaced.get(id) {
                    Some(new) => {
                        let old = &graph.initializers[*id];
                        self.tensor(&mut rope, old.name, Some(old), new);
                    }
                    None => rope.push_message(5, unchanged(graph.initializers[*id].message)),
                },
                // a caller must not set numbers that now hold those of other nodes, too
                Part::Described(id, raw)
                    if !constants_are_inputs && is_frozen(changes, &graph.values[*id], raw) => {}
                Part::Described(id, _) if is_gone(changes, &graph.values[*id]) => {}
                Part::Described(_, raw) => rope.push_borrowed(raw),
            }
        }
        for (id, new) in &changes.added {
            let name = &graph.values[*id].name;
            self.tensor(&mut rope, name, None, new);
            // before version 4 of the format a constant of the model's own graph had to be an input
            // as well
            if constants_are_inputs {
                rope.push_owned(|out| put_bytes(out, 11, &description(name, new)));
            }
        }
        rope
    }

    fn node(&mut self, rope: &mut Rope<'r>, graph: &'r Graph<'_>, node: &'r Node<'_>) {
        if node.removed {
            return;
        }
        if !node.changed {
            // the graphs inside have unchanged constants, too
            node.graphs().for_each(|inner| self.skip_changes(inner));
            rope.push_message(1, unchanged(node.message));
            return;
        }
        let mut message = Rope::default();
        let name =
            |value: &Option<usize>| value.map_or(&[][..], |id| graph.values[id].name.as_bytes());
        message.push_owned(|out| {
            node.inputs.iter().for_each(|input| put_bytes(out, 1, name(input)));
            node.outputs.iter().for_each(|output| put_bytes(out, 2, name(output)));
            if node.message.is_empty() {
                put_bytes(out, 4, node.op.as_bytes());
            }
        });
        push_fields(&mut message, node.message, |number| !matches!(number, 1 | 2 | 5));
        for attribute in &node.attributes {
            let attribute = self.attribute(attribute);
            message.push_message(5, attribute);
        }
        rope.push_message(1, message);
    }

    fn attribute(&mut self, attribute: &'r Attribute<'_>) -> Rope<'r> {
        if attribute.graphs.is_empty() {
            return unchanged(attribute.message);
        }
        let mut rope = Rope::default();
        let mut graphs = attribute.graphs.iter();
        for field in wire::fields(attribute.message).flatten() {
            let inner = if matches!(field.number, 6 | 11) { graphs.next() } else { None };
            match inner.map(|inner| self.graph(inner, false)) {
                Some(graph) => rope.push_message(field.number, graph),
                None => rope.push_borrowed(field.raw),
            }
        }
        rope
    }

    /// Skips the changes of a graph and of those inside it, which are none.
    fn skip_changes(&mut self, graph: &Graph<'_>) {
        self.changes.next();
        graph.inner_graphs().for_each(|inner| self.skip_changes(inner));
    }

    /// A constant with new numbers; the other fields of the old one stay.
    fn tensor(
        &mut self,
        rope: &mut Rope<'r>,
        name: &str,
        old: Option<&'r Tensor<'_>>,
        new: &'r NewTensor<'_>,
    ) {
        let mut message = Rope::default();
        message.push_owned(|out| {
            new.dims.iter().for_each(|length| put_integer(out, 1, *length as i64));
            put_integer(out, 2, new.numbers.float().data_type().into());
            put_bytes(out, 8, name.as_bytes());
        });
        if let Some(old) = old {
            push_fields(
                &mut message,
                old.message,
                |number| !matches!(number, 1..=2 | 4..=11 | 13 | 14),
            );
        }
        match self.side {
            None => message.push_computed(9, &new.numbers),
            Some(side) => {
                let length = new.numbers.length();
                message.push_owned(|out| {
                    put_entry(out, 13, "location", side);
                    put_entry(out, 13, "offset", &self.offset.to_string());
                    put_entry(out, 13, "length", &length.to_string());
                    put_integer(out, 14, 1);
                });
                self.offset += length;
                self.numbers.push(&new.numbers);
            }
        }
        rope.push_message(5, message);
    }
}

/// A message as it was.
fn unchanged(message: &[u8]) -> Rope<'_> {
    let mut rope = Rope::default();
    rope.push_borrowed(message);
    rope
}

/// Appends the fields of a message that have certain numbers.
fn push_fields<'r>(rope: &mut Rope<'r>, message: &'r [u8], stays: impl Fn(u32) -> bool) {
    let fields = wire::fields(message).flatten().filter(|field| stays(field.number));
    fields.for_each(|field| rope.push_borrowed(field.raw));
}

/// Whether a field makes an input of a constant that has new numbers.
fn is_frozen(changes: &Changes<'_>, value: &Value<'_>, raw: &[u8]) -> bool {
    let is_input = wire::fields_numbered(raw, 11).next().is_some();
    is_input && value.initializer.is_some_and(|tensor| changes.replaced.contains_key(&tensor))
}

/// Whether nothing of a described value is left.
fn is_gone(changes: &Changes<'_>, value: &Value<'_>) -> bool {
    let is_left = match value.initializer {
        Some(tensor) => !changes.dropped.contains(&tensor),
        None => value.input,
    };
    !value.output && !is_left && value.producer.is_none()
}

/// Whether a field of the model is the note of an earlier folding.
fn is_note(field: &[u8]) -> bool {
    let entries = wire::fields_numbered(field, 14);
    let mut keys = entries.filter_map(|entry| wire::fields_numbered(entry.bytes().ok()?, 1).next());
    keys.any(|key| key.bytes() == Ok(NOTE.as_bytes()))
}

/// A `ValueInfoProto` of a new constant.
fn description(name: &str, new: &NewTensor<'_>) -> Vec<u8> {
    let mut shape = Vec::new();
    for length in &new.dims {
        let mut dimension = Vec::new();
        put_integer(&mut dimension, 1, *length as i64);
        put_bytes(&mut shape, 1, &dimension);
    }
    let mut tensor = Vec::new();
    put_integer(&mut tensor, 1, new.numbers.float().data_type().into());
    put_bytes(&mut tensor, 2, &shape);
    let mut described = message(1, name.as_bytes());
    put_bytes(&mut described, 2, &message(1, &tensor));
    described
}
