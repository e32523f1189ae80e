//! The way of a map through the graph: up to the layers that make its input, or down to those that
//! read its result.

use super::linear::{Linear, Search};
use super::map::{Axis, Map};
use super::passage;
use super::reason::{Reason, Refusal};
use crate::proto::graph::{Graph, NodeId, Value, ValueId};

/// The side of a layer that a map comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the layer's result.
    Behind,
    /// On the layer's input.
    Ahead,
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

/// What a map becomes part of, and the operators between.
pub struct Way<'a> {
    /// The layers.
    pub targets: Vec<Target<'a>>,
    /// The operators between.
    pub through: Vec<&'a str>,
}

/// The layers before a value that can take a map of it.
pub fn up<'a>(search: &Search<'_, 'a>, value: ValueId, map: &Map) -> Result<Way<'a>, Refusal> {
    let graph = search.scope.graph;
    let mut way = Way { targets: Vec::new(), through: Vec::new() };
    let mut open = vec![(value, map.clone())];
    while let Some((value, map)) = open.pop() {
        let of = inner(graph, value)?;
        if of.users.len() > 1 {
            return Err(Refusal::new(Reason::FanOut, of.name.clone()));
        }
        let Some(producer) = of.producer else {
            return Err(Refusal::new(Reason::NoLinearLayer, of.name.clone()));
        };
        if let Some(linear) = search.making(value) {
            let linear = linear?;
            let rank = search.shapes.rank(value);
            let map = at_layer(&map, linear.output_axis, rank, linear.kernel.outputs())?;
            way.targets.push(Target { linear, side: Side::Behind, map });
            continue;
        }
        let node = &graph.nodes[producer];
        if map.may_widen {
            return Err(Refusal::new(Reason::ShapeUnknown, node.op));
        }
        open.extend(passage::before(search, node, &map)?);
        way.through.push(node.op);
    }
    way.checked(&graph.values[value].name)
}

/// The layers behind a value that can take a map that the value had gone through.
pub fn down<'a>(search: &Search<'_, 'a>, value: ValueId, map: &Map) -> Result<Way<'a>, Refusal> {
    let graph = search.scope.graph;
    if map.may_widen {
        return Err(Refusal::new(Reason::ShapeUnknown, graph.values[value].name.clone()));
    }
    let mut way = Way { targets: Vec::new(), through: Vec::new() };
    let mut open = vec![(value, map.clone())];
    while let Some((value, map)) = open.pop() {
        let of = inner(graph, value)?;
        if of.users.is_empty() {
            return Err(Refusal::new(Reason::NoLinearLayer, of.name.clone()));
        }
        for user in &of.users {
            // an operator that is not linear is no obstacle between, but another reader
            let alone = of.users.len() == 1;
            let next =
                read_by(search, value, *user, &map).map_err(|refusal| match refusal.reason {
                    Reason::NonLinear if !alone => Refusal::new(Reason::FanOut, refusal.at),
                    _ => refusal,
                });
            match next? {
                Next::Layer(target) => way.targets.push(*target),
                Next::Through(output, map) => {
                    way.through.push(graph.nodes[*user].op);
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

/// A value that is no output of the graph, which would have to stay as it is.
fn inner<'g, 'a>(graph: &'g Graph<'a>, value: ValueId) -> Result<&'g Value<'a>, Refusal> {
    let of = &graph.values[value];
    if of.output { Err(Refusal::new(Reason::GraphOutput, of.name.clone())) } else { Ok(of) }
}

enum Next<'a> {
    Layer(Box<Target<'a>>),
    Through(ValueId, Map),
}

/// What becomes of a map of a value at one of the nodes that read it.
fn read_by<'a>(
    search: &Search<'_, 'a>,
    value: ValueId,
    user: NodeId,
    map: &Map,
) -> Result<Next<'a>, Refusal> {
    let node = &search.scope.graph.nodes[user];
    // read twice it is no layer's x
    let times = node.inputs.iter().filter(|input| **input == Some(value)).count();
    if times != 1 {
        return Err(Refusal::new(Reason::NonLinear, node.op));
    }
    let linear = search.linear(user);
    let place = linear.as_ref().map_or(0, |linear| linear.as_ref().map_or(0, Linear::data_place));
    if node.input(place) != Some(value) {
        return Err(Refusal::new(Reason::NonLinear, node.op));
    }
    let Some(linear) = linear else {
        let (output, map) = passage::behind(search, node, map)?;
        return Ok(Next::Through(output, map));
    };
    let linear = linear?;
    if linear.padded && !map.is_linear() {
        return Err(Refusal::new(Reason::Padding, node.op));
    }
    let rank = search.shapes.rank(value);
    let map = at_layer(map, linear.input_axis, rank, linear.kernel.inputs())?;
    Ok(Next::Layer(Box::new(Target { linear, side: Side::Ahead, map })))
}

/// A map with one channel for each of a layer's.
fn at_layer(map: &Map, axis: Axis, rank: Option<usize>, channels: usize) -> Result<Map, Refusal> {
    let Some(own) = map.axis else {
        let one =
            map.channels.first().ok_or_else(|| Refusal::new(Reason::Parameters, "no number"))?;
        return Ok(map.with_channels(vec![*one; channels], None));
    };
    if own != axis {
        match (own.front(rank), axis.front(rank)) {
            (Some(own), Some(axis)) if own == axis => {}
            (Some(_), Some(_)) => {
                return Err(Refusal::new(Reason::Axis, "the layer's channels are on another axis"));
            }
            _ => return Err(Refusal::new(Reason::ShapeUnknown, "the number of axes is not known")),
        }
    }
    if map.channels.len() != channels {
        return Err(Refusal::new(
            Reason::Axis,
            format!("{} channels where the layer has {channels}", map.channels.len()),
        ));
    }
    Ok(map.clone())
}
