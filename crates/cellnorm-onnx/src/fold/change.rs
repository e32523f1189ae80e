//! Writing the layers' new numbers into the graph, and leaving out what nothing reads any more.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::{Layer, LayerKind, Numbers, Refusal};
use crate::proto::{Attribute, Float, Graph, Node, NodeId, Part, Value, ValueId};

/// A tensor that takes the place of another, or is new.
pub struct NewTensor<'a> {
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its numbers.
    pub numbers: Numbers<'a>,
}

/// The changes of a graph's constants.
#[derive(Default)]
pub struct Changes<'a> {
    /// New numbers of initializers of the file.
    pub replaced: BTreeMap<usize, NewTensor<'a>>,
    /// Initializers of the file that nothing reads any more.
    pub dropped: HashSet<usize>,
    /// New initializers.
    pub added: Vec<(ValueId, NewTensor<'a>)>,
}

/// Attributes of `Gemm` that the new numbers hold already.
const FACTORS: [&str; 2] = ["alpha", "beta"];

/// `broadcast = 1`, which operators before opset 7 need to add a row to each row.
const BROADCAST: &[u8] = b"\x0a\x09broadcast\x18\x01\xa0\x01\x02";

/// The names that the model uses anywhere, so that new ones differ.
pub type Names = HashSet<String>;

/// Writes new numbers into a graph.
pub struct Editor<'e, 'a> {
    pub graph: &'e mut Graph<'a>,
    pub changes: &'e mut Changes<'a>,
    pub names: &'e mut Names,
    pub opset: i64,
}

impl<'a> Editor<'_, 'a> {
    /// Puts a layer's new numbers in place.
    pub fn apply(&mut self, layer: &Layer<'a>) -> Result<(), Refusal> {
        let linear = &layer.linear;
        let node = linear.node;
        if linear.kind == LayerKind::BatchNorm || layer.changes_weight() {
            let new = NewTensor { dims: linear.weight.dims.clone(), numbers: layer.weight() };
            self.put(node, linear.weight_place, new);
        }
        let rows = layer.bias_rows()?;
        if linear.bias.is_some() || rows.iter().flatten().any(|value| *value != 0.0) {
            let columns = linear.kernel.outputs();
            let is_as_long = |dims: &Vec<usize>| {
                dims.len() >= 2 && dims.iter().product::<usize>() == rows.len() * columns
            };
            let old = linear.bias.as_ref().map(|bias| bias.constant.dims.clone());
            let new_dims = || match (linear.kind, linear.weight_place, rows.len()) {
                (LayerKind::MatMul, 0, _) => vec![columns, 1],
                (_, _, 1) => vec![columns],
                (_, _, rows) => vec![rows, columns],
            };
            let dims = old.filter(is_as_long).unwrap_or_else(new_dims);
            let numbers = Numbers::Listed(layer.bias_float(), rows.concat());
            let (holder, place) = match (linear.kind, linear.add) {
                (LayerKind::MatMul, Some(add)) => (add, self.bias_place(node, add)),
                (LayerKind::MatMul, None) => (self.insert_add(node), 1),
                _ => (node, 2),
            };
            self.put(holder, place, NewTensor { dims, numbers });
        }
        if linear.kind == LayerKind::Gemm {
            let node = &mut self.graph.nodes[node];
            node.attributes.retain(|attribute| !FACTORS.contains(&attribute.name));
            node.changed = true;
        }
        Ok(())
    }

    /// Puts 1 and 0 in the place of a normalization's γ and β.
    pub fn reset(&mut self, node: NodeId, channels: usize, float: Float) {
        let numbers = Numbers::Listed(float, vec![1.0; channels]);
        self.put(node, 1, NewTensor { dims: vec![channels], numbers });
        self.graph.drop_input(node, 2);
    }

    /// Which input of an `Add` is not the product.
    fn bias_place(&self, product: NodeId, add: NodeId) -> usize {
        usize::from(self.graph.nodes[add].input(0) == self.graph.nodes[product].outputs[0])
    }

    /// Lets a node read new numbers at a place: in the tensor that it reads if no other node reads
    /// it, in another tensor otherwise.
    fn put(&mut self, node: NodeId, place: usize, new: NewTensor<'a>) {
        let graph = &self.graph;
        let stem = match graph.nodes[node].input(place).map(|old| &graph.values[old]) {
            Some(Value { initializer: Some(tensor), users, output: false, .. })
                if users.len() == 1 =>
            {
                self.changes.replaced.insert(*tensor, new);
                return;
            }
            Some(old) => format!("{}_folded", old.name),
            None => format!("{}_bias", label(graph, node)),
        };
        let value = self.new_value(&stem);
        self.graph.set_input(node, place, value);
        self.changes.added.push((value, new));
    }

    /// A new value; a number follows its name where another value has that name.
    fn new_value(&mut self, stem: &str) -> ValueId {
        let mut name = stem.to_owned();
        let mut count = 1;
        while !self.names.insert(name.clone()) {
            name = format!("{stem}_{count}");
            count += 1;
        }
        self.graph.value(Cow::Owned(name))
    }

    /// Inserts an `Add` after a `MatMul`, whose result it makes from now on. Its second input is
    /// still missing.
    fn insert_add(&mut self, product: NodeId) -> NodeId {
        let between = self.new_value(&format!("{}_product", label(self.graph, product)));
        let output = self.graph.nodes[product].outputs[0];
        self.graph.set_output(product, 0, between);
        let broadcast = Attribute { name: "broadcast", message: BROADCAST, ..Attribute::default() };
        let add = self.graph.nodes.len();
        self.graph.nodes.push(Node {
            inputs: vec![Some(between)],
            outputs: vec![output],
            op: "Add",
            attributes: if self.opset < 7 { vec![broadcast] } else { Vec::new() },
            changed: true,
            ..Node::default()
        });
        self.graph.values[between].users.push(add);
        if let Some(output) = output {
            self.graph.values[output].producer = Some(add);
        }
        let is_product = |part: &Part<'_>| matches!(part, Part::Node(id) if *id == product);
        let parts = &mut self.graph.parts;
        let place = parts.iter().position(is_product).map_or(parts.len(), |place| place + 1);
        parts.insert(place, Part::Node(add));
        add
    }
}

/// A node's name, or the name of what it makes.
pub fn label(graph: &Graph<'_>, node: NodeId) -> String {
    match graph.nodes[node].name {
        "" => first_output(graph, node),
        name => name.to_owned(),
    }
}

/// The name of what a node makes, the first of several; empty if it makes nothing.
pub fn first_output(graph: &Graph<'_>, node: NodeId) -> String {
    let output = graph.nodes[node].outputs.iter().flatten().next();
    output.map(|output| graph.values[*output].name.to_string()).unwrap_or_default()
}

/// Constants that something read before the folding.
pub fn constants_in_use(graph: &Graph<'_>) -> HashSet<ValueId> {
    let is_in_use = |value: &Value<'_>| !value.users.is_empty() && !value.input_only();
    (0..graph.values.len()).filter(|id| is_in_use(&graph.values[*id])).collect()
}

/// Removes constants, and nodes that make constants, that were read and are not any more.
pub fn drop_unread(graph: &mut Graph<'_>, changes: &mut Changes<'_>, were_read: &HashSet<ValueId>) {
    let mut open: Vec<ValueId> = were_read.iter().copied().collect();
    // the order of a set differs from run to run, that of the values does not
    open.sort_unstable();
    while let Some(id) = open.pop() {
        let value = &graph.values[id];
        if !value.users.is_empty() || value.output {
            continue;
        }
        if let Some(tensor) = value.initializer {
            changes.dropped.insert(tensor);
        } else if let Some(node) = value.producer
            && graph.nodes[node].outputs.len() == 1
            && makes_constant(graph, node)
        {
            let read = graph.nodes[node].inputs.clone();
            graph.remove(node);
            open.extend(read.into_iter().flatten());
        }
    }
}

/// Operators that make a constant of constants.
const CONSTANT_OPERATORS: [&str; 7] =
    ["Constant", "ConstantOfShape", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze"];

/// Whether a node makes a constant of constants.
fn makes_constant(graph: &Graph<'_>, node: NodeId) -> bool {
    let is_constant = |input: &ValueId| {
        let value = &graph.values[*input];
        value.initializer.is_some()
            || value.producer.is_some_and(|producer| makes_constant(graph, producer))
    };
    let node = &graph.nodes[node];
    CONSTANT_OPERATORS.contains(&node.op) && node.inputs.iter().flatten().all(is_constant)
}
