//! Writing the layers' new numbers into the graph, and leaving out what nothing reads any more.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::layer::{Layer, Numbers};
use super::linear::Kind;
use crate::proto::attribute::Attribute;
use crate::proto::graph::{Graph, NodeId, Part, ValueId};
use crate::proto::node::Node;
use crate::proto::values::Float;

/// A tensor that takes the place of another, or is new.
pub struct NewTensor<'a> {
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its numbers.
    pub numbers: Numbers<'a>,
}

/// What changes in the constants of a graph.
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

/// Puts a layer's new numbers in place.
pub fn apply<'a>(
    graph: &mut Graph<'a>,
    changes: &mut Changes<'a>,
    names: &mut Names,
    opset: i64,
    layer: &Layer<'a>,
) -> Result<(), super::Refusal> {
    let linear = &layer.linear;
    let node = linear.node;
    if linear.kind == Kind::BatchNorm || layer.changes_weight() {
        let new = NewTensor { dims: linear.weight.dims.clone(), numbers: layer.weight() };
        put(graph, changes, names, node, linear.weight_place, new);
    }
    let rows = layer.bias_rows()?;
    if linear.bias.is_some() || rows.iter().flatten().any(|value| *value != 0.0) {
        let columns = linear.kernel.outputs();
        let same = |dims: &Vec<usize>| {
            dims.len() >= 2 && dims.iter().product::<usize>() == rows.len() * columns
        };
        let old = linear.bias.as_ref().map(|bias| bias.constant.dims.clone()).filter(same);
        let dims = old.unwrap_or_else(|| match (linear.kind, linear.weight_place, rows.len()) {
            (Kind::MatMul, 0, _) => vec![columns, 1],
            (_, _, 1) => vec![columns],
            (_, _, rows) => vec![rows, columns],
        });
        let new = NewTensor { dims, numbers: Numbers::Listed(layer.bias_float(), rows.concat()) };
        let (holder, place) = match (linear.kind, linear.add) {
            (Kind::MatMul, Some(add)) => (add, bias_place(graph, node, add)),
            (Kind::MatMul, None) => (add_behind(graph, names, opset, node), 1),
            _ => (node, 2),
        };
        put(graph, changes, names, holder, place, new);
    }
    if linear.kind == Kind::Gemm {
        graph.nodes[node].attributes.retain(|attribute| !FACTORS.contains(&attribute.name));
        graph.nodes[node].changed = true;
    }
    Ok(())
}

/// Puts 1 and 0 in the place of a normalization's γ and β.
pub fn reset<'a>(
    graph: &mut Graph<'a>,
    changes: &mut Changes<'a>,
    names: &mut Names,
    node: NodeId,
    channels: usize,
    float: Float,
) {
    let ones =
        NewTensor { dims: vec![channels], numbers: Numbers::Listed(float, vec![1.0; channels]) };
    put(graph, changes, names, node, 1, ones);
    graph.drop_input(node, 2);
}

/// Which input of an `Add` is not the product.
fn bias_place(graph: &Graph<'_>, product: NodeId, add: NodeId) -> usize {
    let of_product = graph.nodes[product].outputs[0];
    usize::from(graph.nodes[add].input(0) == of_product)
}

/// Lets a node read new numbers at a place: in the tensor that it reads if it is the only one, in
/// another tensor otherwise.
fn put<'a>(
    graph: &mut Graph<'a>,
    changes: &mut Changes<'a>,
    names: &mut Names,
    node: NodeId,
    place: usize,
    new: NewTensor<'a>,
) {
    let old = graph.nodes[node].input(place);
    if let Some(old) = old {
        let value = &graph.values[old];
        if let (Some(tensor), [_], false) =
            (value.initializer, value.users.as_slice(), value.output)
        {
            changes.replaced.insert(tensor, new);
            return;
        }
    }
    let stem = match old {
        Some(old) => format!("{}_folded", graph.values[old].name),
        None => format!("{}_bias", label(graph, node)),
    };
    let value = new_value(graph, names, &stem);
    graph.set_input(node, place, value);
    changes.added.push((value, new));
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

fn new_value<'a>(graph: &mut Graph<'a>, names: &mut Names, stem: &str) -> ValueId {
    let mut name = stem.to_owned();
    for count in 1_u64.. {
        if names.insert(name.clone()) {
            break;
        }
        name = format!("{stem}_{count}");
    }
    graph.value(Cow::Owned(name))
}

/// A new `Add` behind a `MatMul`, whose result it makes from now on; its second input is still to
/// be put.
fn add_behind<'a>(graph: &mut Graph<'a>, names: &mut Names, opset: i64, product: NodeId) -> NodeId {
    let stem = format!("{}_product", label(graph, product));
    let between = new_value(graph, names, &stem);
    let output = graph.nodes[product].outputs[0];
    graph.set_output(product, 0, between);
    let broadcast = Attribute { name: "broadcast", message: BROADCAST, ..Attribute::default() };
    let add = graph.nodes.len();
    graph.nodes.push(Node {
        message: &[],
        inputs: vec![Some(between)],
        outputs: vec![output],
        captured: Vec::new(),
        name: "",
        op: "Add",
        domain: "",
        attributes: if opset < 7 { vec![broadcast] } else { Vec::new() },
        changed: true,
        removed: false,
    });
    graph.values[between].users.push(add);
    if let Some(output) = output {
        graph.values[output].producer = Some(add);
    }
    let place =
        graph.parts.iter().position(|part| matches!(part, Part::Node(id) if *id == product));
    graph.parts.insert(place.map_or(graph.parts.len(), |place| place + 1), Part::Node(add));
    add
}

/// Constants that something read before the folding.
pub fn constants_in_use(graph: &Graph<'_>) -> HashSet<ValueId> {
    let in_use = graph
        .values
        .iter()
        .enumerate()
        .filter(|(_, value)| !value.users.is_empty() && !value.input_only());
    in_use.map(|(id, _)| id).collect()
}

/// Leaves out constants, and nodes that make constants, that were read and are not any more.
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
            && is_of_constants(graph, node)
        {
            let read = graph.nodes[node].inputs.clone();
            graph.remove(node);
            open.extend(read.into_iter().flatten());
        }
    }
}

/// Whether a node makes a constant of constants.
fn is_of_constants(graph: &Graph<'_>, node: NodeId) -> bool {
    let node = &graph.nodes[node];
    let makes =
        ["Constant", "ConstantOfShape", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze"]
            .contains(&node.op);
    makes
        && node.inputs.iter().flatten().all(|input| {
            let value = &graph.values[*input];
            value.initializer.is_some()
                || value.producer.is_some_and(|producer| is_of_constants(graph, producer))
        })
}
