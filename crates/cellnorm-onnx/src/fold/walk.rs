//! The way of a map through the graph: up to the layers that make its input, or down to those that
//! read its result.

use super::{Axis, Direction, Linear, Map, Reason, Refusal, Search, passage};
use crate::proto::{NodeId, ValueId};

/// A layer that a map becomes part of.
pub struct Target<'a> {
    pub linear: Linear<'a>,
    /// The map, with one channel for each of the layer's outputs or inputs.
    pub map: Map,
}

/// The way of a map to the layers that it becomes part of.
pub struct Way<'a> {
    pub direction: Direction,
    pub targets: Vec<Target<'a>>,
    /// The operators on the way.
    pub operators: Vec<&'a str>,
}

/// A step of a map from a value to a node that makes or reads it.
enum Step<'a> {
    /// The node is a layer that takes the map.
    Layer(Box<Target<'a>>),
    /// The map passes an operator: its other values, and the map of each.
    Operator(&'a str, passage::Ends),
}

/// The way of a map of a value: backward to the layers that make the value, or forward to those
/// that read it.
pub fn layers<'a>(
    search: &Search<'_, 'a>,
    direction: Direction,
    value: ValueId,
    map: &Map,
) -> Result<Way<'a>, Refusal> {
    let values = &search.scope.graph.values;
    let start = &values[value].name;
    if direction == Direction::Forward && map.may_widen {
        return Err(Reason::ShapeUnknown.at(start));
    }
    let mut way = Way { direction, targets: Vec::new(), operators: Vec::new() };
    let mut open = vec![(value, map.clone())];
    while let Some((value, map)) = open.pop() {
        if values[value].output {
            return Err(Reason::GraphOutput.at(&values[value].name));
        }
        let steps = match direction {
            Direction::Backward => vec![step_up(search, value, &map)?],
            Direction::Forward => steps_down(search, value, &map)?,
        };
        for step in steps {
            match step {
                Step::Layer(target) => way.targets.push(*target),
                Step::Operator(operator, ends) => {
                    way.operators.push(operator);
                    open.extend(ends);
                }
            }
        }
    }
    let mut nodes: Vec<NodeId> = way.targets.iter().map(|target| target.linear.node).collect();
    nodes.sort_unstable();
    if nodes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Reason::FanOut.at("a layer is reached twice"));
    }
    if nodes.is_empty() { Err(Reason::NoLinearLayer.at(start)) } else { Ok(way) }
}

/// The step of a map of a value at the node that makes it.
fn step_up<'a>(search: &Search<'_, 'a>, value: ValueId, map: &Map) -> Result<Step<'a>, Refusal> {
    let graph = search.scope.graph;
    let about = &graph.values[value];
    if about.users.len() > 1 {
        return Err(Reason::FanOut.at(&about.name));
    }
    let producer = about.producer.ok_or_else(|| Reason::NoLinearLayer.at(&about.name))?;
    if let Some(linear) = search.maker(value) {
        let linear = linear?;
        let rank = search.shapes.rank(value);
        let map = fitted(map, linear.output_axis, rank, linear.kernel.outputs())?;
        return Ok(Step::Layer(Box::new(Target { linear, map })));
    }
    let node = &graph.nodes[producer];
    if map.may_widen {
        return Err(Reason::ShapeUnknown.at(node.op));
    }
    Ok(Step::Operator(node.op, passage::carry_up(search, node, map)?))
}

/// The steps of a map of a value at the nodes that read it.
fn steps_down<'a>(
    search: &Search<'_, 'a>,
    value: ValueId,
    map: &Map,
) -> Result<Vec<Step<'a>>, Refusal> {
    let about = &search.scope.graph.values[value];
    if about.users.is_empty() {
        return Err(Reason::NoLinearLayer.at(&about.name));
    }
    // beside other readers, an operator that is not linear is one more reader
    let refused = |refusal: Refusal| match refusal.reason {
        Reason::NonLinear if about.users.len() > 1 => Reason::FanOut.at(refusal.at),
        _ => refusal,
    };
    let users = about.users.iter();
    users.map(|user| step_down(search, value, *user, map).map_err(refused)).collect()
}

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
        return Err(Reason::NonLinear.at(node.op));
    }
    let Some(linear) = linear.transpose()? else {
        let end = passage::carry(search, node, map, Direction::Forward)?;
        return Ok(Step::Operator(node.op, vec![end]));
    };
    if linear.padded && !map.is_linear() {
        return Err(Reason::Padding.at(node.op));
    }
    let rank = search.shapes.rank(value);
    let map = fitted(map, linear.input_axis, rank, linear.kernel.inputs())?;
    Ok(Step::Layer(Box::new(Target { linear, map })))
}

/// A map with one channel for each of a layer's.
fn fitted(map: &Map, axis: Axis, rank: Option<usize>, channels: usize) -> Result<Map, Refusal> {
    let Some(own) = map.axis else {
        let single = map.channels.first().ok_or_else(|| Reason::Parameters.at("no number"))?;
        return Ok(map.relocate(vec![*single; channels], None));
    };
    let count = map.channels.len();
    let (place, other) = (own.front(rank), axis.front(rank));
    if own != axis && (place.is_none() || other.is_none()) {
        return Err(Reason::ShapeUnknown.at("the number of axes is not known"));
    }
    if own != axis && place != other {
        return Err(Reason::Axis.at("the layer's channels are on another axis"));
    }
    if count != channels {
        let at = format!("the layer has another number of channels, {channels} and not {count}");
        return Err(Reason::Axis.at(at));
    }
    Ok(map.clone())
}
