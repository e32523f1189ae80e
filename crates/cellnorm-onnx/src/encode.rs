//! A folded model as bytes: every field as it was but those of changed nodes and constants.

use std::slice;

use crate::fold::{Changes, NewTensor};
use crate::proto::attribute::Attribute;
use crate::proto::graph::{Graph, Part, Value};
use crate::proto::model::Model;
use crate::proto::node::Node;
use crate::proto::rope::{Compute, Rope};
use crate::proto::tensor::Tensor;
use crate::proto::values::Float;
use crate::proto::wire::{self, put_bytes, put_integer};

/// The key of the model's metadata under which a note of the folding is left.
pub const NOTE: &str = "cellnorm.fold";

/// The model, and what goes into the side file.
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
    let mut encoder = Encoder { changes: changes.iter(), side, offset: 0, beside: Vec::new() };
    let mut rope = Rope::default();
    for (index, field) in model.fields.iter().enumerate() {
        if index == model.graph_at {
            let graph = encoder.graph(&model.graph, model.ir_version < 4);
            rope.message(7, graph);
        } else if !is_note(field) {
            rope.borrowed(field);
        }
    }
    rope.made(|out| {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, NOTE.as_bytes());
        put_bytes(&mut entry, 2, note.as_bytes());
        put_bytes(out, 14, &entry);
    });
    Encoded { model: rope, side: encoder.beside }
}

struct Encoder<'r, 's> {
    changes: slice::Iter<'r, Changes<'r>>,
    side: Option<&'s str>,
    offset: u64,
    beside: Vec<&'r dyn Compute>,
}

impl<'r> Encoder<'r, '_> {
    /// A graph; `constants_are_inputs` if it has to name new constants among its inputs.
    fn graph(&mut self, graph: &'r Graph<'_>, constants_are_inputs: bool) -> Rope<'r> {
        let mut rope = Rope::default();
        let Some(changes) = self.changes.next() else { return rope };
        for part in &graph.parts {
            match part {
                Part::Raw(raw) => rope.borrowed(raw),
                Part::Node(id) => self.node(&mut rope, graph, &graph.nodes[*id]),
                Part::Initializer(id) if changes.dropped.contains(id) => {}
                Part::Initializer(id) => match changes.replaced.get(id) {
                    Some(new) => {
                        let old = &graph.initializers[*id];
                        self.tensor(&mut rope, old.name, Some(old), new);
                    }
                    None => rope.message(5, whole(graph.initializers[*id].message)),
                },
                // numbers that hold what others fed in part are not to be set from outside
                Part::Described(id, raw)
                    if !constants_are_inputs && is_frozen(changes, &graph.values[*id], raw) => {}
                Part::Described(id, _) if is_gone(changes, &graph.values[*id]) => {}
                Part::Described(_, raw) => rope.borrowed(raw),
            }
        }
        for (id, new) in &changes.added {
            let name = &graph.values[*id].name;
            self.tensor(&mut rope, name, None, new);
            // before version 4 of the format a constant of the model's own graph had to be an input
            // as well
            if constants_are_inputs {
                rope.made(|out| put_bytes(out, 11, &description(name, new)));
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
            for attribute in &node.attributes {
                attribute.graphs.iter().for_each(|inner| self.pass_over(inner));
            }
            rope.message(1, whole(node.message));
            return;
        }
        let mut message = Rope::default();
        let name =
            |value: &Option<usize>| value.map_or(&[][..], |id| graph.values[id].name.as_bytes());
        message.made(|out| {
            node.inputs.iter().for_each(|input| put_bytes(out, 1, name(input)));
            node.outputs.iter().for_each(|output| put_bytes(out, 2, name(output)));
            if node.message.is_empty() {
                put_bytes(out, 4, node.op.as_bytes());
            }
        });
        for field in
            wire::fields(node.message).flatten().filter(|field| !matches!(field.number, 1 | 2 | 5))
        {
            message.borrowed(field.raw);
        }
        for attribute in &node.attributes {
            let attribute = self.attribute(attribute);
            message.message(5, attribute);
        }
        rope.message(1, message);
    }

    fn attribute(&mut self, attribute: &'r Attribute<'_>) -> Rope<'r> {
        if attribute.graphs.is_empty() {
            return whole(attribute.message);
        }
        let mut rope = Rope::default();
        let mut graphs = attribute.graphs.iter();
        for field in wire::fields(attribute.message).flatten() {
            match (field.number, graphs.len()) {
                (6 | 11, 1..) => {
                    if let Some(inner) = graphs.next() {
                        let graph = self.graph(inner, false);
                        rope.message(field.number, graph);
                    }
                }
                _ => rope.borrowed(field.raw),
            }
        }
        rope
    }

    /// Leaves the changes of a graph and of those inside it, which are none, behind.
    fn pass_over(&mut self, graph: &Graph<'_>) {
        self.changes.next();
        for inner in graph
            .nodes
            .iter()
            .flat_map(|node| &node.attributes)
            .flat_map(|attribute| &attribute.graphs)
        {
            self.pass_over(inner);
        }
    }

    /// A constant with new numbers; what else the old one said of itself stays.
    fn tensor(
        &mut self,
        rope: &mut Rope<'r>,
        name: &str,
        old: Option<&'r Tensor<'_>>,
        new: &'r NewTensor<'_>,
    ) {
        let mut message = Rope::default();
        message.made(|out| {
            new.dims.iter().for_each(|length| put_integer(out, 1, *length as i64));
            put_integer(out, 2, data_type(new.numbers.float()));
            put_bytes(out, 8, name.as_bytes());
        });
        let kept = |number: u32| !matches!(number, 1..=2 | 4..=11 | 13 | 14);
        if let Some(old) = old {
            for field in wire::fields(old.message).flatten().filter(|field| kept(field.number)) {
                message.borrowed(field.raw);
            }
        }
        match self.side {
            None => message.computed(9, &new.numbers),
            Some(side) => {
                let length = new.numbers.length();
                let entries = [
                    ("location", side.to_owned()),
                    ("offset", self.offset.to_string()),
                    ("length", length.to_string()),
                ];
                message.made(|out| {
                    for (key, value) in entries {
                        let mut entry = Vec::new();
                        put_bytes(&mut entry, 1, key.as_bytes());
                        put_bytes(&mut entry, 2, value.as_bytes());
                        put_bytes(out, 13, &entry);
                    }
                    put_integer(out, 14, 1);
                });
                self.offset += length;
                self.beside.push(&new.numbers);
            }
        }
        rope.message(5, message);
    }
}

fn whole(message: &[u8]) -> Rope<'_> {
    let mut rope = Rope::default();
    rope.borrowed(message);
    rope
}

/// Whether a field makes an input of a constant that has new numbers.
fn is_frozen(changes: &Changes<'_>, value: &Value<'_>, raw: &[u8]) -> bool {
    let is_input = wire::fields(raw).flatten().any(|field| field.number == 11);
    is_input && value.initializer.is_some_and(|tensor| changes.replaced.contains_key(&tensor))
}

/// Whether nothing of a described value is left.
fn is_gone(changes: &Changes<'_>, value: &Value<'_>) -> bool {
    let constant = value.initializer.is_some_and(|tensor| !changes.dropped.contains(&tensor));
    let dropped = value.initializer.is_some() && !constant;
    !value.output && !constant && value.producer.is_none() && (dropped || !value.input)
}

/// Whether a field of the model is the note of an earlier folding.
fn is_note(field: &[u8]) -> bool {
    let entries = wire::fields(field).flatten().filter(|field| field.number == 14);
    let mut keys = entries.filter_map(|entry| {
        wire::fields(entry.bytes().ok()?).flatten().find(|field| field.number == 1)
    });
    keys.any(|key| key.bytes() == Ok(NOTE.as_bytes()))
}

/// ONNX's number of a type.
fn data_type(float: Float) -> i64 {
    match float {
        Float::F32 => 1,
        Float::F16 => 10,
        Float::F64 => 11,
        Float::Bf16 => 16,
    }
}

/// A `ValueInfoProto` of a new constant.
fn description(name: &str, new: &NewTensor<'_>) -> Vec<u8> {
    let message = |number, content: &[u8]| {
        let mut message = Vec::new();
        put_bytes(&mut message, number, content);
        message
    };
    let mut shape = Vec::new();
    for length in &new.dims {
        let mut dimension = Vec::new();
        put_integer(&mut dimension, 1, *length as i64);
        put_bytes(&mut shape, 1, &dimension);
    }
    let mut tensor = Vec::new();
    put_integer(&mut tensor, 1, data_type(new.numbers.float()));
    put_bytes(&mut tensor, 2, &shape);
    let mut described = message(1, name.as_bytes());
    put_bytes(&mut described, 2, &message(1, &tensor));
    described
}
