//! The way of a map through the graph: up to the layers that make its input, or down to those that
//! read its result.

use super::linear::{Linear, Search};
use super::map::{Axis, Map};
use super::passage;
use super::reason::{Reason, Refusal};
use crate::proto::graph::{Graph, NodeId, Value, ValueId};

/// The side of a layer that a map is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The map follows the layer: it maps the layer's result.
    After,
    /// The map precedes the layer: it maps the layer's input.
    Before,
}

/// A layer that a map becomes part of.
pub struct Target<'a> {
    /// The layer.
    pub linear: Linear<'a>,
    /// The side.
    pub side: Side,
    /// The map, with one channel for each of the layer's on this side.
    pub map: Map,
}

/// The way of a map to the layers that it becomes part of.
#[derive(Default)]
pub struct Way<'a> {
    /// The layers.
    pub targets: Vec<Target<'a>>,
    /// The operators on the way.
    pub operators: Vec<&'a str>,
}

/// The way of a map of a value up to the layers that make the value.
pub fn layers_before<'a>(
    search: &Search<'_, 'a>,
    value: ValueId,
    map: &Map,
) -> Result<Way<'a>, Refusal> {
    let graph = search.scope.graph;
    let mut way = Way::default();
    let mut open = vec![(value, map.clone())];
    while let Some((value, map)) = open.pop() {
        let about = inner_value(graph, value)?;
        if about.users.len() > 1 {
            return Err(Refusal::new(Reason::FanOut, &about.name));
        }
        let Some(producer) = about.producer else {
            return Err(Refusal::new(Reason::NoLinearLayer, &about.name));
        };
        if let Some(linear) = search.maker(value) {
            let linear = linear?;
            let rank = search.shapes.rank(value);
            let map = fitted(&map, linear.output_axis, rank, linear.kernel.outputs())?;
            way.targets.push(Target { linear, side: Side::After, map });
            continue;
        }
        let node = &graph.nodes[producer];
        if map.may_widen {
            return Err(Refusal::new(Reason::ShapeUnknown, node.op));
        }
        open.extend(passage::carry_up(search, node, &map)?);
        way.operators.push(node.op);
    }
    way.checked(&graph.values[value].name)
}

/// The way of a map that makes a value down to the layers that read the value.
pub fn layers_after<'a>(
    search: &Search<'_, 'a>,
    value: ValueId,
    map: &Map,
) -> Result<Way<'a>, Refusal> {
    let graph = search.scope.graph;
    if map.may_widen {
        return Err(Refusal::new(Reason::ShapeUnknown, &graph.values[value].name));
    }
    let mut way = Way::default();
    let mut open = vec![(value, map.clone())];
    while let Some((value, map)) = open.pop() {
        let about = inner_value(graph, value)?;
        if about.users.is_empty() {
            return Err(Refusal::new(Reason::NoLinearLayer, &about.name));
        }
        for user in &about.users {
            // beside other readers, an operator that is not linear is one more reader
            let is_shared = about.users.len() > 1;
            let step = step_down(search, value, *user, &map);
            match step.map_err(|refusal| match refusal.reason {
                Reason::NonLinear if is_shared => Refusal { reason: Reason::FanOut, ..refusal },
                _ => refusal,
            })? {
                Step::Layer(target) => way.targets.push(*target),
                Step::Operator(output, map) => {
                    way.operators.push(graph.nodes[*user].op);
                    open.push((output, map));
                }
            }
        }
    }
    way.checked(&graph.values[value].name)
}

impl Way<'_> {
    /// A way that ends in layers, in each once.
    fn checked(self, start: &str) -> Result<Self, Refusal> {
        let mut nodes: Vec<NodeId> = self.targets.iter().map(|target| target.linear.node).collect();
        nodes.sort_unstable();
        if nodes.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Refusal::new(Reason::FanOut, "a layer is reached twice"));
        }
        if nodes.is_empty() { Err(Refusal::new(Reason::NoLinearLayer, start)) } else { Ok(self) }
    }
}

/// A value, which must be no output of the graph: an output has to stay as it is.
fn inner_value<'g, 'a>(graph: &'g Graph<'a>, value: ValueId) -> Result<&'g Value<'a>, Refusal> {
    let about = &graph.values[value];
    let refused = || Refusal::new(Reason::GraphOutput, &about.name);
    (!about.output).then_some(about).ok_or_else(refused)
}

/// A step of a map from a value to a node that reads it.
enum Step<'a> {
    /// The node is a layer that takes the map.
    Layer(Box<Target<'a>>),
    /// The map passes the node: the node's output, and the map of it.
    Operator(ValueId, Map),
}

/// The step of a map of a value at one of the nodes that read it.
fn step_down<'a>(
    search: &Search<'_, 'a>,
    value: ValueId,
    user: NodeId,
    map: &Map,
) -> Result<Step<'a>, Refusal> {
    let node = &search.scope.graph.nodes[user];
    let linear = search.linear(user);
    let place = linear.as_ref().map_or(0, |linear| linear.as_ref().map_or(0, Linear::data_place));
    // a value that is read twice is no layer's x
    let is_read_once = node.inputs.iter().filter(|input| **input == Some(value)).count() == 1;
    if !is_read_once || node.input(place) != Some(value) {
        return Err(Refusal::new(Reason::NonLinear, node.op));
    }
    let Some(linear) = linear else {
        let (output, map) = passage::carry_down(search, node, map)?;
        return Ok(Step::Operator(output, map));
    };
    let linear = linear?;
    if linear.padded && !map.is_linear() {
        return Err(Refusal::new(Reason::Padding, node.op));
    }
    let rank = search.shapes.rank(value);
    let map = fitted(map, linear.input_axis, rank, linear.kernel.inputs())?;
    Ok(Step::Layer(Box::new(Target { linear, side: Side::Before, map })))
}

/// A map with one channel for each of a layer's.
fn fitted(map: &Map, axis: Axis, rank: Option<usize>, channels: usize) -> Result<Map, Refusal> {
    let Some(own) = map.axis else {
        let single = map.channels.first();
        let single = single.ok_or_else(|| Refusal::new(Reason::Parameters, "no number"))?;
        return Ok(map.relocate(vec![*single; channels], None));
    };
    let count = map.channels.len();
    let (reason, at) = match (own.front(rank), axis.front(rank)) {
        (places, other) if own != axis && (places.is_none() || other.is_none()) => {
            (Reason::ShapeUnknown, "the number of axes is not known".to_owned())
        }
        (place, other) if own != axis && place != other => {
            (Reason::Axis, "the layer's channels are on another axis".to_owned())
        }
        _ if count != channels => (
            Reason::Axis,
            format!("the layer has another number of channels, {channels} and not {count}"),
        ),
        _ => return Ok(map.clone()),
    };
    Err(Refusal::new(reason, at))
}
