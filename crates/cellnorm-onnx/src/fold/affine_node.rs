//! Nodes that map each channel by itself: batch normalizations with fixed statistics, and
//! arithmetic with a constant.

use super::constants::{Constant, Scope};
use super::layer::Layer;
use super::linear::Search;
use super::map::{Axis, Formula, Map};
use super::reason::{Reason, Refusal};
use crate::proto::graph::{NodeId, ValueId};
use crate::proto::node::Node;
use crate::proto::shape::Shape;

/// A node that maps each channel by itself.
pub struct AffineNode {
    /// The value that it maps.
    pub input: ValueId,
    /// The value that it makes.
    pub output: ValueId,
    /// The map of the node.
    pub map: Map,
}

/// The map of channels by a node; `None` if it is no such operator, an error if it is one that
/// cannot be folded as it is.
pub fn affine_node(search: &Search<'_, '_>, id: NodeId) -> Option<Result<AffineNode, Refusal>> {
    let Search { scope, opset, .. } = search;
    let node = &scope.graph.nodes[id];
    if node.is("BatchNormalization") {
        let own = batch_norm(scope, *opset, node);
        return Some(match search.layers.get(&id) {
            Some(layer) => own.and_then(|own| chained(own, layer)),
            None => own,
        });
    }
    if !node.domain.is_empty() || !matches!(node.op, "Mul" | "Add" | "Sub" | "Div") {
        return None;
    }
    let (first, second) = (node.input(0)?, node.input(1)?);
    let (input, constant, constant_first) = match (scope.floats(first), scope.floats(second)) {
        (Err(_), Ok(constant)) => (first, constant, false),
        (Ok(constant), Err(_)) => (second, constant, true),
        _ => return None,
    };
    let output = node.only_output()?;
    let map = arithmetic(node, *opset, search.shapes.get(input), &constant, constant_first);
    Some(map.map(|map| AffineNode { input, output, map }))
}

/// A batch normalization and the maps that became part of it.
fn chained(own: AffineNode, layer: &Layer<'_>) -> Result<AffineNode, Refusal> {
    let map = own.map.chain(layer.maps.iter().map(|(_, map)| map));
    Ok(AffineNode { map: map.map_err(|error| Refusal::new(Reason::Range, error))?, ..own })
}

/// The attribute that makes a batch normalization use the statistics of each batch; `None` if it
/// uses fixed ones.
pub fn batch_statistics(opset: i64, node: &Node<'_>) -> Option<&'static str> {
    if opset < 7 {
        return (node.integer("is_test", 0) == 0).then_some("is_test=0");
    }
    if node.integer("training_mode", 0) != 0 {
        return Some("training_mode=1");
    }
    (node.outputs.iter().flatten().count() > 1).then_some("several outputs")
}

fn batch_norm(scope: &Scope<'_, '_>, opset: i64, node: &Node<'_>) -> Result<AffineNode, Refusal> {
    if let Some(at) = batch_statistics(opset, node) {
        return Err(Refusal::new(Reason::BatchStatistics, at));
    }
    if opset < 9 && node.integer("spatial", 1) == 0 {
        return Err(Refusal::new(Reason::Unsupported, "spatial=0"));
    }
    let incomplete = || Refusal::new(Reason::Parameters, "an input or the output is missing");
    let input = node.input(0).ok_or_else(incomplete)?;
    let output = node.only_output().ok_or_else(incomplete)?;
    let numbers = |place| {
        let constant = scope.floats(node.input(place).ok_or_else(incomplete)?);
        constant.map(|constant| constant.values.to_vec())
    };
    let formula = Formula::Norm {
        gamma: numbers(1)?,
        beta: numbers(2)?,
        mean: numbers(3)?,
        variance: numbers(4)?,
        epsilon: node.float("epsilon", 1e-5),
    };
    let map = Map::new(formula, Some(Axis::Front(1)));
    let map = map.map_err(|error| Refusal::new(Reason::Parameters, error))?;
    Ok(AffineNode { input, output, map })
}

fn arithmetic(
    node: &Node<'_>,
    opset: i64,
    shape: Option<&Shape>,
    constant: &Constant<'_>,
    constant_first: bool,
) -> Result<Map, Refusal> {
    let axis = channel_axis(node, opset, shape.map(Vec::len), &constant.dims)?;
    let length = axis.and_then(|axis| *shape?.get(axis.front(shape.map(Vec::len))?)?);
    if axis.is_some() && length.is_some_and(|length| length != constant.values.len()) {
        return Err(Refusal::new(Reason::Axis, "a constant that makes the value longer"));
    }
    let may_widen = axis.is_some() && length.is_none();
    let values = constant.values.to_vec();
    let formula = match (node.op, constant_first) {
        ("Mul", _) => Formula::Multiply(values),
        ("Add", _) => Formula::Add(values),
        ("Sub", false) => Formula::Subtract(values),
        ("Sub", true) => Formula::SubtractFrom(values),
        ("Div", false) => Formula::Divide(values),
        _ => return Err(Refusal::new(Reason::NonLinear, "a constant divided by a value")),
    };
    let map = Map::new(formula, axis).map_err(|error| Refusal::new(Reason::Parameters, error))?;
    Ok(Map { may_widen, ..map })
}

/// The axis along which a constant differs; `None` if it is one number.
fn channel_axis(
    node: &Node<'_>,
    opset: i64,
    rank: Option<usize>,
    dims: &[usize],
) -> Result<Option<Axis>, Refusal> {
    let shape = || format!("a constant of shape {dims:?}");
    // a constant of more axes than the value would add axes to it
    if dims.len() > rank.unwrap_or(1) {
        let reason = if rank.is_some() { Reason::Axis } else { Reason::ShapeUnknown };
        return Err(Refusal::new(reason, shape()));
    }
    let mut long = (0..dims.len()).filter(|axis| dims[*axis] != 1);
    let Some(axis) = long.next() else { return Ok(None) };
    if long.next().is_some() || dims[axis] == 0 {
        return Err(Refusal::new(Reason::Axis, shape()));
    }
    match node.attribute("axis").and_then(|start| start.integer()) {
        // before opset 7 a constant could be laid along axes from `axis` on
        Some(start) if opset < 7 => {
            let start = usize::try_from(start).map_err(|_| Refusal::new(Reason::Axis, shape()))?;
            Ok(Some(Axis::Front(start + axis)))
        }
        _ => Ok(Some(Axis::Back(dims.len() - 1 - axis))),
    }
}
