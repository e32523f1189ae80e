//! A map of each channel on its way to a layer: which channels, on which axis, and how far it is
//! linear. The nodes that are such maps are batch normalizations with fixed statistics, and
//! arithmetic with a constant.

use std::sync::Arc;

use cellnorm::fold::Affine;

use super::{Constant, Layer, Reason, Refusal, Scope, Search};
use crate::proto::{Node, NodeId, ValueId};

/// An axis, counted from the first or back from the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// 0 is the first.
    Front(usize),
    /// 0 is the last.
    Back(usize),
}

impl Axis {
    /// Counted from the first, in a tensor of so many axes; `None` if it is not known how many, or
    /// there are too few.
    pub fn front(self, rank: Option<usize>) -> Option<usize> {
        match (self, rank) {
            (Self::Front(axis), None) => Some(axis),
            (Self::Front(axis), Some(rank)) => (axis < rank).then_some(axis),
            (Self::Back(axis), Some(rank)) => rank.checked_sub(axis + 1),
            (Self::Back(_), None) => None,
        }
    }
}

/// The map of a node by its operator's own formula, which proofs compute beside [`Affine`].
#[derive(Clone, Debug)]
pub enum Formula {
    /// γ·(x − mean)/√(variance + ε) + β.
    Norm { gamma: Vec<f64>, beta: Vec<f64>, mean: Vec<f64>, variance: Vec<f64>, epsilon: f64 },
    /// x · v.
    Multiply(Vec<f64>),
    /// x + v.
    Add(Vec<f64>),
    /// x − v.
    Subtract(Vec<f64>),
    /// v − x.
    SubtractFrom(Vec<f64>),
    /// x / v.
    Divide(Vec<f64>),
    /// γ·x + β, which a layer or RMS normalization ends with.
    ScaleShift { gamma: Vec<f64>, beta: Vec<f64> },
    /// One map after the other.
    Chain(Vec<Map>),
    /// (x − mean)/deviation, of the data.
    Data { mean: Vec<f64>, deviation: Vec<f64> },
}

impl Formula {
    /// The result for a number in a channel.
    pub fn apply(&self, channel: usize, x: f64) -> f64 {
        match self {
            Self::Norm { gamma, beta, mean, variance, epsilon } => {
                gamma[channel] * (x - mean[channel]) / (variance[channel] + epsilon).sqrt()
                    + beta[channel]
            }
            Self::Multiply(v) => x * v[channel],
            Self::Add(v) => x + v[channel],
            Self::Subtract(v) => x - v[channel],
            Self::SubtractFrom(v) => v[channel] - x,
            Self::Divide(v) => x / v[channel],
            Self::ScaleShift { gamma, beta } => gamma[channel] * x + beta[channel],
            Self::Chain(maps) => maps.iter().fold(x, |x, map| map.apply(channel, x)),
            Self::Data { mean, deviation } => (x - mean[channel]) / deviation[channel],
        }
    }

    /// The same as a scale and a shift of each channel.
    ///
    /// # Errors
    /// If the numbers of channels differ, a variance is negative, or a result is not finite.
    pub fn affine(&self) -> Result<Affine, cellnorm::Error> {
        let scaled = |scale: Vec<f64>| {
            let zeros = vec![0.0; scale.len()];
            Affine::new(scale, zeros)
        };
        let shifted = |scale: f64, shift: Vec<f64>| Affine::new(vec![scale; shift.len()], shift);
        match self {
            Self::Norm { gamma, beta, mean, variance, epsilon } => {
                Affine::of_batch_norm(Some(gamma), Some(beta), mean, variance, *epsilon)
            }
            Self::Multiply(v) => scaled(v.clone()),
            Self::Add(v) => shifted(1.0, v.clone()),
            Self::Subtract(v) => shifted(1.0, v.iter().map(|v| -v).collect()),
            Self::SubtractFrom(v) => shifted(-1.0, v.clone()),
            Self::Divide(v) => scaled(v.iter().map(|v| 1.0 / v).collect()),
            Self::ScaleShift { gamma, beta } => Affine::new(gamma.clone(), beta.clone()),
            Self::Chain(maps) => match maps.as_slice() {
                [] => Affine::new(Vec::new(), Vec::new()),
                [first, rest @ ..] => {
                    rest.iter().try_fold(first.affine(), |all, map| all.then(&map.affine()))
                }
            },
            Self::Data { mean, deviation } => Affine::standardize(mean, deviation),
        }
    }
}

/// A node's map at some place of the graph.
#[derive(Clone, Debug)]
pub struct Map {
    /// The formula of the node.
    pub formula: Arc<Formula>,
    pub(super) affine: Arc<Affine>,
    /// The node's channel at each place of the axis.
    pub channels: Vec<usize>,
    /// The axis of the channels; `None` where all values are treated alike.
    pub axis: Option<Axis>,
    /// Whether the value may be shorter than the constant, which would make it longer: only a layer
    /// right before it tells.
    pub may_widen: bool,
    /// Whether the map has lost its shift: the shift of a sum goes to one of the addends alone.
    pub shift_is_dropped: bool,
}

impl Map {
    /// A node's map at the node itself.
    ///
    /// # Errors
    /// If the node's numbers are no map.
    pub fn new(formula: Formula, axis: Option<Axis>) -> Result<Self, cellnorm::Error> {
        let affine = formula.affine()?;
        let channels = (0..affine.channels()).collect();
        Ok(Self {
            formula: Arc::new(formula),
            affine: Arc::new(affine),
            channels,
            axis,
            may_widen: false,
            shift_is_dropped: false,
        })
    }

    /// This map and then others, which have as many channels.
    ///
    /// # Errors
    /// If they have not, or a result is not finite.
    pub fn chain<'m>(
        &'m self,
        others: impl Iterator<Item = &'m Map>,
    ) -> Result<Self, cellnorm::Error> {
        let all: Vec<Map> = std::iter::once(self).chain(others).cloned().collect();
        if all.len() == 1 { Ok(self.clone()) } else { Self::new(Formula::Chain(all), self.axis) }
    }

    /// The scale and shift of each place of the axis.
    pub fn affine(&self) -> Affine {
        let all = self.affine.select(&self.channels);
        if self.shift_is_dropped { all.without_shift() } else { all }
    }

    /// Whether it shifts nothing.
    pub fn is_linear(&self) -> bool {
        self.shift_is_dropped
            || self.channels.iter().all(|channel| self.affine.shift()[*channel] == 0.0)
    }

    /// Whether no scale is negative.
    pub fn is_rising(&self) -> bool {
        self.channels.iter().all(|channel| self.affine.scale()[*channel] >= 0.0)
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.is_linear() && self.channels.iter().all(|channel| self.affine.scale()[*channel] == 1.0)
    }

    /// The same map with the channels of other places.
    pub fn relocate(&self, channels: Vec<usize>, axis: Option<Axis>) -> Self {
        Self { channels, axis, ..self.clone() }
    }

    /// The result for a number at a place of the axis, by the node's own formula.
    pub fn apply(&self, place: usize, x: f64) -> f64 {
        let result = |x: f64| self.formula.apply(self.channels[place], x);
        if self.shift_is_dropped { result(x) - result(0.0) } else { result(x) }
    }
}

/// A node that maps each channel by itself.
pub struct AffineNode {
    pub input: ValueId,
    pub output: ValueId,
    pub map: Map,
}

/// The map of channels by a node; `None` if it is no such operator, an error if it is one that
/// cannot be folded as it is.
pub fn affine_node(search: &Search<'_, '_>, id: NodeId) -> Option<Result<AffineNode, Refusal>> {
    let scope = &search.scope;
    let node = &scope.graph.nodes[id];
    if node.is("BatchNormalization") {
        let own = batch_norm(scope, node);
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
    let map = arithmetic(search, node, input, &constant, constant_first);
    Some(map.map(|map| AffineNode { input, output, map }))
}

/// A batch normalization and the maps that became part of it.
fn chained(own: AffineNode, layer: &Layer<'_>) -> Result<AffineNode, Refusal> {
    let map = own.map.chain(layer.maps.iter().map(|(_, map)| map));
    Ok(AffineNode { map: map.map_err(|error| Reason::Range.at(error))?, ..own })
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

fn batch_norm(scope: &Scope<'_, '_>, node: &Node<'_>) -> Result<AffineNode, Refusal> {
    if let Some(at) = batch_statistics(scope.context.opset, node) {
        return Err(Reason::BatchStatistics.at(at));
    }
    if scope.context.opset < 9 && node.integer("spatial", 1) == 0 {
        return Err(Reason::Unsupported.at("spatial=0"));
    }
    let incomplete = || Reason::Parameters.at("an input or the output is missing");
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
    let map = map.map_err(|error| Reason::Parameters.at(error))?;
    Ok(AffineNode { input, output, map })
}

fn arithmetic(
    search: &Search<'_, '_>,
    node: &Node<'_>,
    input: ValueId,
    constant: &Constant<'_>,
    constant_first: bool,
) -> Result<Map, Refusal> {
    let shape = search.shapes.get(input);
    let opset = search.scope.context.opset;
    let axis = channel_axis(node, opset, shape.map(Vec::len), &constant.dims)?;
    let length = axis.and_then(|axis| *shape?.get(axis.front(shape.map(Vec::len))?)?);
    if axis.is_some() && length.is_some_and(|length| length != constant.values.len()) {
        return Err(Reason::Axis.at("a constant that makes the value longer"));
    }
    let may_widen = axis.is_some() && length.is_none();
    let values = constant.values.to_vec();
    let formula = match (node.op, constant_first) {
        ("Mul", _) => Formula::Multiply(values),
        ("Add", _) => Formula::Add(values),
        ("Sub", false) => Formula::Subtract(values),
        ("Sub", true) => Formula::SubtractFrom(values),
        ("Div", false) => Formula::Divide(values),
        _ => return Err(Reason::NonLinear.at("a constant divided by a value")),
    };
    let map = Map::new(formula, axis).map_err(|error| Reason::Parameters.at(error))?;
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
        return Err(reason.at(shape()));
    }
    let mut long = (0..dims.len()).filter(|axis| dims[*axis] != 1);
    let Some(axis) = long.next() else { return Ok(None) };
    if long.next().is_some() || dims[axis] == 0 {
        return Err(Reason::Axis.at(shape()));
    }
    match node.attribute("axis").and_then(|start| start.integer()) {
        // before opset 7 a constant could be laid along axes from `axis` on
        Some(start) if opset < 7 => {
            let start = usize::try_from(start).map_err(|_| Reason::Axis.at(shape()))?;
            Ok(Some(Axis::Front(start + axis)))
        }
        _ => Ok(Some(Axis::Back(dims.len() - 1 - axis))),
    }
}
