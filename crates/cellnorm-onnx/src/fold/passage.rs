//! Operators that a map of channels passes through: f(a·x + c) = a·f(x) + c, with the channels
//! where they were or on another axis.

use super::constants::places;
use super::linear::Search;
use super::map::{Axis, Map};
use super::reason::{Reason, Refusal};
use crate::proto::attribute::Attribute;
use crate::proto::graph::ValueId;
use crate::proto::node::Node;
use crate::proto::shape::Shape;

/// What an operator does to the axes.
enum Axes {
    /// They stay.
    Same,
    /// Each axis of the result is this one of the input.
    Order(Vec<usize>),
    /// These axes of the result are new.
    Insert(Vec<usize>),
    /// They stay, but only the first two may hold the channels: along the others values are joined.
    FirstTwo,
    /// They stay, but the channels must not be on these.
    Beside(Vec<usize>),
    /// These axes of the input are gone.
    Drop(Vec<usize>),
    /// The same values in another shape.
    Shape { from: Shape, to: Shape },
}

/// How a map passes an operator.
struct Passage {
    axes: Axes,
    /// Whether no scale may be negative.
    rising: bool,
    /// Why nothing may be shifted, if so.
    unshifted: Option<Reason>,
}

impl Passage {
    fn any(axes: Axes) -> Self {
        Self { axes, rising: false, unshifted: None }
    }
}

/// The map behind a node as maps behind the nodes that make its inputs.
pub fn before(
    search: &Search<'_, '_>,
    node: &Node<'_>,
    map: &Map,
) -> Result<Vec<(ValueId, Map)>, Refusal> {
    if node.only_output().is_none() {
        return Err(Refusal::new(Reason::NonLinear, node.op));
    }
    match node.op {
        "Add" | "Sub" if node.domain.is_empty() => return addends(search, node, map),
        "Concat" if node.domain.is_empty() => return parts(search, node, map),
        _ => {}
    }
    let passage = passage(search, node)?;
    let input = admitted(node, &passage, map)?;
    let output = node.outputs[0];
    let rank = |value: Option<ValueId>| value.and_then(|value| search.shapes.rank(value));
    let Some(axis) = map.axis else { return Ok(vec![(input, map.clone())]) };
    if let Axes::Same = passage.axes {
        return Ok(vec![(input, map.clone())]);
    }
    let axis =
        axis.front(rank(output)).ok_or_else(|| Refusal::new(Reason::ShapeUnknown, node.op))?;
    let lost = || Refusal::new(Reason::Axis, node.op);
    let mut channels = map.channels.clone();
    let before = match &passage.axes {
        Axes::Same => axis,
        Axes::Order(order) => *order.get(axis).ok_or_else(lost)?,
        Axes::FirstTwo if axis > 1 => return Err(lost()),
        Axes::FirstTwo => axis,
        Axes::Beside(others) if others.contains(&axis) => return Err(lost()),
        Axes::Beside(_) => axis,
        Axes::Insert(new) if new.contains(&axis) => return Err(lost()),
        Axes::Insert(new) => axis - new.iter().filter(|new| **new < axis).count(),
        Axes::Drop(gone) => kept(gone, axis),
        Axes::Shape { from, to } => {
            let (before, repeated) =
                laid_out(to, axis, from, &map.channels).ok_or_else(|| reshaped(node, from, to))?;
            channels = repeated;
            before
        }
    };
    Ok(vec![(input, map.with_channels(channels, Some(Axis::Front(before))))])
}

/// The map ahead of a node, at the node's input, as the map of what it makes.
pub fn behind(
    search: &Search<'_, '_>,
    node: &Node<'_>,
    map: &Map,
) -> Result<(ValueId, Map), Refusal> {
    let passage = passage(search, node)?;
    let input = admitted(node, &passage, map)?;
    let output = node.only_output().ok_or_else(|| Refusal::new(Reason::NonLinear, node.op))?;
    let Some(axis) = map.axis else { return Ok((output, map.clone())) };
    if let Axes::Same = passage.axes {
        return Ok((output, map.clone()));
    }
    let axis = axis
        .front(search.shapes.rank(input))
        .ok_or_else(|| Refusal::new(Reason::ShapeUnknown, node.op))?;
    let lost = || Refusal::new(Reason::Axis, node.op);
    let mut channels = map.channels.clone();
    let after = match &passage.axes {
        Axes::Same => axis,
        Axes::Order(order) => order.iter().position(|from| *from == axis).ok_or_else(lost)?,
        Axes::FirstTwo if axis > 1 => return Err(lost()),
        Axes::FirstTwo => axis,
        Axes::Beside(others) if others.contains(&axis) => return Err(lost()),
        Axes::Beside(_) => axis,
        Axes::Insert(new) => kept(new, axis),
        Axes::Drop(gone) if gone.contains(&axis) => return Err(lost()),
        Axes::Drop(gone) => axis - gone.iter().filter(|gone| **gone < axis).count(),
        Axes::Shape { from, to } => {
            let (after, repeated) =
                laid_out(from, axis, to, &channels).ok_or_else(|| reshaped(node, from, to))?;
            channels = repeated;
            after
        }
    };
    Ok((output, map.with_channels(channels, Some(Axis::Front(after)))))
}

/// The input of an operator that admits the map.
fn admitted(node: &Node<'_>, passage: &Passage, map: &Map) -> Result<ValueId, Refusal> {
    if passage.rising && !map.is_rising() {
        return Err(Refusal::new(Reason::Sign, node.op));
    }
    if let Some(reason) = passage.unshifted.filter(|_| !map.is_linear()) {
        return Err(Refusal::new(reason, node.op));
    }
    node.input(0).ok_or_else(|| Refusal::new(Reason::Parameters, node.op))
}

/// The axis that this one is among those that are not new, counted with the new ones.
fn kept(new: &[usize], axis: usize) -> usize {
    (0..).filter(|place| !new.contains(place)).nth(axis).unwrap_or(axis)
}

fn reshaped(node: &Node<'_>, from: &Shape, to: &Shape) -> Refusal {
    let open = from.iter().chain(to).filter(|length| length.is_none()).count();
    Refusal::new(if open > 0 { Reason::ShapeUnknown } else { Reason::Axis }, node.op)
}

/// The values before and behind an axis: their number as far as it is known, and how many lengths
/// are open.
fn around(shape: &Shape, axis: usize) -> Option<[(usize, usize); 2]> {
    let of = |lengths: &[Option<usize>]| {
        let known = lengths
            .iter()
            .flatten()
            .try_fold(1_usize, |product, length| product.checked_mul(*length))?;
        Some((known, lengths.iter().filter(|length| length.is_none()).count()))
    };
    let sides = [of(&shape[..axis])?, of(&shape[axis + 1..])?];
    // two open lengths could be any
    (sides[0].1 + sides[1].1 <= 1).then_some(sides)
}

/// The longest axis that a map is spread over: a damaged shape must not fill the memory.
const LONGEST: usize = 1 << 22;

/// The axis of a reshaped tensor that holds the channels of an axis, and the channel at each of its
/// places: an axis that took others in repeats the channels, each by itself and all in turn.
fn laid_out(
    from: &Shape,
    axis: usize,
    to: &Shape,
    channels: &[usize],
) -> Option<(usize, Vec<usize>)> {
    if from.get(axis) != Some(&Some(channels.len())) {
        return None;
    }
    let repeats = |other: usize| {
        let ([before, behind], [new_before, new_behind]) =
            (around(from, axis)?, around(to, other)?);
        let ratio = |old: (usize, usize), new: (usize, usize)| {
            (old.1 == new.1 && new.0 > 0 && old.0.is_multiple_of(new.0)).then(|| old.0 / new.0)
        };
        let (outer, inner) = (ratio(before, new_before)?, ratio(behind, new_behind)?);
        (to[other]? == outer.checked_mul(channels.len())?.checked_mul(inner)?)
            .then_some((other, outer, inner))
    };
    let (other, outer, inner) =
        (0..to.len()).find_map(repeats).filter(|(other, ..)| to[*other] <= Some(LONGEST))?;
    let once: Vec<usize> =
        channels.iter().flat_map(|channel| std::iter::repeat_n(*channel, inner)).collect();
    Some((other, once.repeat(outer)))
}

/// A map behind a sum: the scale goes to both addends, the shift to the first.
fn addends(
    search: &Search<'_, '_>,
    node: &Node<'_>,
    map: &Map,
) -> Result<Vec<(ValueId, Map)>, Refusal> {
    let (Some(first), Some(second)) = (node.input(0), node.input(1)) else {
        return Err(Refusal::new(Reason::Parameters, node.op));
    };
    // axes are counted from the first: both must have as many as the sum
    let rank = |value| search.shapes.rank(value);
    if map.axis.is_some() && (rank(first).is_none() || rank(first) != rank(second)) {
        return Err(Refusal::new(Reason::ShapeUnknown, node.op));
    }
    Ok(vec![(first, map.clone()), (second, map.scale_only())])
}

/// A map behind a concatenation: each part has its channels, or all of them where it was another
/// axis.
fn parts(
    search: &Search<'_, '_>,
    node: &Node<'_>,
    map: &Map,
) -> Result<Vec<(ValueId, Map)>, Refusal> {
    let inputs: Vec<ValueId> = node.inputs.iter().copied().flatten().collect();
    let unknown = || Refusal::new(Reason::ShapeUnknown, node.op);
    let Some(axis) = map.axis else {
        return Ok(inputs.into_iter().map(|input| (input, map.clone())).collect());
    };
    let rank = inputs.iter().find_map(|input| search.shapes.rank(*input)).ok_or_else(unknown)?;
    let axis = axis.front(Some(rank)).ok_or_else(unknown)?;
    let joined = places(&[node.integer("axis", 1)], rank).ok_or_else(unknown)?[0];
    let mut start = 0;
    let mut found = Vec::new();
    for input in inputs {
        let channels = if joined == axis {
            let length =
                search.shapes.of(input).and_then(|shape| *shape.get(axis)?).ok_or_else(unknown)?;
            let end = start + length;
            let part =
                map.channels.get(start..end).ok_or_else(|| Refusal::new(Reason::Axis, node.op))?;
            start = end;
            part.to_vec()
        } else {
            map.channels.clone()
        };
        found.push((input, map.with_channels(channels, Some(Axis::Front(axis)))));
    }
    Ok(found)
}

/// How a map passes a node's operator.
fn passage(search: &Search<'_, '_>, node: &Node<'_>) -> Result<Passage, Refusal> {
    let refused = |reason| Err(Refusal::new(reason, node.op));
    if !node.domain.is_empty() {
        return refused(Reason::NonLinear);
    }
    let shape = |value: Option<ValueId>| value.and_then(|value| search.shapes.of(value));
    let (from, to) = (shape(node.input(0)), shape(node.outputs.first().copied().flatten()));
    let listed = |place| {
        node.integers("axes")
            .or_else(|| node.input(place).and_then(|value| search.scope.integers(value)))
    };
    let axes = |axes: Option<Vec<i64>>, rank: Option<usize>| {
        axes.and_then(|axes| match rank {
            Some(rank) => places(&axes, rank),
            // counted from the first, they are the same whatever the rank
            None => axes.iter().map(|axis| usize::try_from(*axis).ok()).collect(),
        })
    };
    let padding = |pads: bool| Passage {
        axes: Axes::FirstTwo,
        rising: false,
        unshifted: pads.then_some(Reason::Padding),
    };
    let passage = match node.op {
        "Identity" => Passage::any(Axes::Same),
        "Dropout" if is_inference(search, node) => Passage::any(Axes::Same),
        "Relu" | "LeakyRelu" => {
            Passage { axes: Axes::Same, rising: true, unshifted: Some(Reason::Shift) }
        }
        "MaxPool" | "GlobalMaxPool" => {
            Passage { axes: Axes::FirstTwo, rising: true, unshifted: None }
        }
        "GlobalAveragePool" => Passage::any(Axes::FirstTwo),
        "AveragePool" => padding(counts_padding(node)),
        "Resize" | "Upsample" if is_interpolation(search, node) => Passage::any(Axes::FirstTwo),
        "Pad" if !pads(search, node, false) => Passage::any(Axes::Same),
        "Pad" if pads(search, node, true) => return refused(Reason::Axis),
        "Pad" if node.text("mode", "constant") != "constant" => Passage::any(Axes::FirstTwo),
        "Pad" if pads_zero(search, node) => padding(true),
        "Transpose" => match (node.integers("perm"), from) {
            (Some(order), _) => {
                let order = places(&order, order.len());
                Passage::any(Axes::Order(
                    order.ok_or_else(|| Refusal::new(Reason::Parameters, node.op))?,
                ))
            }
            (None, Some(from)) => Passage::any(Axes::Order((0..from.len()).rev().collect())),
            (None, None) => return refused(Reason::ShapeUnknown),
        },
        "Squeeze" => match axes(listed(1), from.map(Vec::len)) {
            Some(gone) => Passage::any(Axes::Drop(gone)),
            None => return refused(Reason::ShapeUnknown),
        },
        "Unsqueeze" => match axes(listed(1), to.map(Vec::len)) {
            Some(new) => Passage::any(Axes::Insert(new)),
            None => return refused(Reason::ShapeUnknown),
        },
        "ReduceMean" => match (axes(listed(1), from.map(Vec::len)), node.integer("keepdims", 1)) {
            (Some(gone), 0) => Passage::any(Axes::Drop(gone)),
            (Some(gone), _) => Passage::any(Axes::Beside(gone)),
            (None, _) => return refused(Reason::ShapeUnknown),
        },
        "Flatten" | "Reshape" => match (from, to) {
            (Some(from), Some(to)) => {
                Passage::any(Axes::Shape { from: from.clone(), to: to.clone() })
            }
            _ => return refused(Reason::ShapeUnknown),
        },
        _ => return refused(Reason::NonLinear),
    };
    Ok(passage)
}

/// Whether a dropout does nothing: as the model is run, or because it has nothing to drop.
fn is_inference(search: &Search<'_, '_>, node: &Node<'_>) -> bool {
    if search.opset < 7 {
        return node.integer("is_test", 0) != 0;
    }
    // a third input says whether it trains
    node.input(2)
        .is_none_or(|trains| search.scope.integers(trains).is_some_and(|trains| trains == [0]))
}

/// Whether padded zeros count in an average.
fn counts_padding(node: &Node<'_>) -> bool {
    let pads = node.integers("pads").is_some_and(|pads| pads.iter().any(|pad| *pad != 0));
    let auto = matches!(node.text("auto_pad", "NOTSET"), "SAME_UPPER" | "SAME_LOWER");
    node.integer("count_include_pad", 0) != 0 && (pads || auto || node.integer("ceil_mode", 0) != 0)
}

/// Whether every value of the result is a weighted mean of values of the same sample and channel.
fn is_interpolation(search: &Search<'_, '_>, node: &Node<'_>) -> bool {
    let means = matches!(node.text("mode", "nearest"), "nearest" | "linear" | "bilinear")
        && node.text("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize";
    // before opset 11 there was no region of interest before the scales
    let place = if node.op == "Resize" && search.opset >= 11 { 2 } else { 1 };
    let read = || Some(search.scope.floats(node.input(place)?).ok()?.values.to_vec());
    let scales = node.attribute("scales").and_then(Attribute::floats).or_else(read);
    let keeps = scales.is_some_and(|scales| scales.len() > 2 && scales[..2] == [1.0, 1.0]);
    means && keeps && node.attribute("axes").is_none()
}

/// Whether what is padded is 0.
fn pads_zero(search: &Search<'_, '_>, node: &Node<'_>) -> bool {
    match node.input(2) {
        None => node.float("value", 0.0) == 0.0,
        Some(value) => search
            .scope
            .floats(value)
            .is_ok_and(|value| value.values.to_vec().iter().all(|value| *value == 0.0)),
    }
}

/// Whether anything is padded; of the first two axes alone, if so asked. What is not known may be.
fn pads(search: &Search<'_, '_>, node: &Node<'_>, first_two: bool) -> bool {
    let pads = node
        .integers("pads")
        .or_else(|| node.input(1).and_then(|value| search.scope.integers(value)));
    let named = node.input(3).is_some();
    pads.is_none_or(|pads| {
        let axes = pads.len() / 2;
        let counts = |place: usize| !first_two || named || place % axes.max(1) < 2;
        pads.iter().enumerate().any(|(place, pad)| *pad != 0 && counts(place))
    })
}
