//! Operators that a map of channels passes through: f(a·x + c) = a·f(x) + c, with the channels
//! where they were or on another axis.

use super::{Axis, Direction, Map, Reason, Refusal, Search, places};
use crate::proto::{Attribute, Node, Shape, ValueId, product};

/// How an operator treats the axes.
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
    /// For any map.
    fn any(axes: Axes) -> Self {
        Self { axes, rising: false, unshifted: None }
    }
}

/// Values at the ends of a node, and the map of each.
pub type Ends = Vec<(ValueId, Map)>;

/// The map of a node's output as maps of its inputs.
pub fn carry_up(search: &Search<'_, '_>, node: &Node<'_>, map: &Map) -> Result<Ends, Refusal> {
    if node.only_output().is_none() {
        return Err(Reason::NonLinear.at(node.op));
    }
    match node.op {
        "Add" | "Sub" if node.domain.is_empty() => addends(search, node, map),
        "Concat" if node.domain.is_empty() => parts(search, node, map),
        _ => Ok(vec![carry(search, node, map, Direction::Backward)?]),
    }
}

/// The value at an end of a node, and a map of the other end as a map of it: backward the input's,
/// forward the output's.
pub fn carry(
    search: &Search<'_, '_>,
    node: &Node<'_>,
    map: &Map,
    direction: Direction,
) -> Result<(ValueId, Map), Refusal> {
    let passage = passage(search, node)?;
    if passage.rising && !map.is_rising() {
        return Err(Reason::Sign.at(node.op));
    }
    if let Some(reason) = passage.unshifted.filter(|_| !map.is_linear()) {
        return Err(reason.at(node.op));
    }
    let input = node.input(0).ok_or_else(|| Reason::Parameters.at(node.op))?;
    let output = node.only_output().ok_or_else(|| Reason::NonLinear.at(node.op))?;
    let is_backward = direction == Direction::Backward;
    let (start, value) = if is_backward { (output, input) } else { (input, output) };
    let Some(axis) = map.axis.filter(|_| !matches!(passage.axes, Axes::Same)) else {
        return Ok((value, map.clone()));
    };
    let axis =
        axis.front(search.shapes.rank(start)).ok_or_else(|| Reason::ShapeUnknown.at(node.op))?;
    let (axis, channels) = match &passage.axes {
        Axes::Shape { from, to } => {
            let (old, new) = if is_backward { (to, from) } else { (from, to) };
            let is_open = || from.iter().chain(to).any(Option::is_none);
            reshaped(old, axis, new, &map.channels).ok_or_else(|| {
                (if is_open() { Reason::ShapeUnknown } else { Reason::Axis }).at(node.op)
            })?
        }
        axes => (
            axes.moved(axis, direction).ok_or_else(|| Reason::Axis.at(node.op))?,
            map.channels.clone(),
        ),
    };
    Ok((value, map.relocate(channels, Some(Axis::Front(axis)))))
}

impl Axes {
    /// The axis at one end that an axis at the other end is; `None` if there is none.
    fn moved(&self, axis: usize, direction: Direction) -> Option<usize> {
        match (self, direction) {
            (Self::Same, _) => Some(axis),
            (Self::Order(order), Direction::Backward) => order.get(axis).copied(),
            (Self::Order(order), Direction::Forward) => order.iter().position(|from| *from == axis),
            (Self::FirstTwo, _) => (axis < 2).then_some(axis),
            (Self::Beside(others), _) => (!others.contains(&axis)).then_some(axis),
            (Self::Insert(others), Direction::Backward)
            | (Self::Drop(others), Direction::Forward) => {
                let before = others.iter().filter(|other| **other < axis).count();
                (!others.contains(&axis)).then(|| axis - before)
            }
            (Self::Insert(others), Direction::Forward)
            | (Self::Drop(others), Direction::Backward) => {
                (0..).filter(|place| !others.contains(place)).nth(axis)
            }
            (Self::Shape { .. }, _) => None,
        }
    }
}

/// The values before and after an axis: their number as far as it is known, and how many lengths
/// are open.
fn around(shape: &Shape, axis: usize) -> Option<[(usize, usize); 2]> {
    let count = |lengths: &[Option<usize>]| {
        let known = product(lengths.iter().copied().flatten())?;
        Some((known, lengths.iter().filter(|length| length.is_none()).count()))
    };
    let sides = [count(&shape[..axis])?, count(&shape[axis + 1..])?];
    // two open lengths could be any
    (sides[0].1 + sides[1].1 <= 1).then_some(sides)
}

/// The longest axis that a map is spread over: a damaged shape must not fill the memory.
const LONGEST: usize = 1 << 22;

/// The axis of a reshaped tensor that holds the channels of an axis, and the channel at each of its
/// places: an axis merged with `outer` values before it and `inner` values after it holds `outer`
/// times all channels, each `inner` times.
fn reshaped(
    from: &Shape,
    axis: usize,
    to: &Shape,
    channels: &[usize],
) -> Option<(usize, Vec<usize>)> {
    if from.get(axis) != Some(&Some(channels.len())) {
        return None;
    }
    let [before, after] = around(from, axis)?;
    let ratio = |old: (usize, usize), new: (usize, usize)| {
        (old.1 == new.1 && new.0 > 0 && old.0.is_multiple_of(new.0)).then(|| old.0 / new.0)
    };
    let repeats = |place: usize| {
        let [new_before, new_after] = around(to, place)?;
        let (outer, inner) = (ratio(before, new_before)?, ratio(after, new_after)?);
        let length = outer.checked_mul(channels.len())?.checked_mul(inner)?;
        (to[place]? == length).then_some((place, outer, inner))
    };
    let (place, outer, inner) =
        (0..to.len()).find_map(repeats).filter(|(place, ..)| to[*place] <= Some(LONGEST))?;
    let repeated = channels.iter().flat_map(|channel| std::iter::repeat_n(*channel, inner));
    Some((place, repeated.collect::<Vec<_>>().repeat(outer)))
}

/// The maps of both addends for a map of the sum: the scale goes to both, the shift to the first.
fn addends(search: &Search<'_, '_>, node: &Node<'_>, map: &Map) -> Result<Ends, Refusal> {
    let (Some(first), Some(second)) = (node.input(0), node.input(1)) else {
        return Err(Reason::Parameters.at(node.op));
    };
    // axes are counted from the first: both must have as many as the sum
    let rank = |value| search.shapes.rank(value);
    if map.axis.is_some() && (rank(first).is_none() || rank(first) != rank(second)) {
        return Err(Reason::ShapeUnknown.at(node.op));
    }
    Ok(vec![(first, map.clone()), (second, Map { shift_is_dropped: true, ..map.clone() })])
}

/// The maps of the parts for a map of their concatenation: each part has its own channels, or all
/// where the parts are joined along another axis.
fn parts(search: &Search<'_, '_>, node: &Node<'_>, map: &Map) -> Result<Ends, Refusal> {
    let inputs: Vec<ValueId> = node.inputs.iter().copied().flatten().collect();
    let unknown = || Reason::ShapeUnknown.at(node.op);
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
            let length = search.shapes.get(input).and_then(|shape| *shape.get(axis)?);
            let end = start + length.ok_or_else(unknown)?;
            let part = map.channels.get(start..end);
            start = end;
            part.ok_or_else(|| Reason::Axis.at(node.op))?.to_vec()
        } else {
            map.channels.clone()
        };
        found.push((input, map.relocate(channels, Some(Axis::Front(axis)))));
    }
    Ok(found)
}

/// How a map passes a node's operator.
fn passage(search: &Search<'_, '_>, node: &Node<'_>) -> Result<Passage, Refusal> {
    if !node.domain.is_empty() {
        return Err(Reason::NonLinear.at(node.op));
    }
    let shape = |value: Option<ValueId>| value.and_then(|value| search.shapes.get(value));
    let (from, to) = (shape(node.input(0)), shape(node.first_output()));
    let axes = |shape: Option<&Shape>| {
        let axes = search.scope.listed(node, 1, "axes")?;
        match shape {
            Some(shape) => places(&axes, shape.len()),
            // counted from the first, they are the same whatever the rank
            None => axes.iter().map(|axis| usize::try_from(*axis).ok()).collect(),
        }
    };
    let padding = |pads: bool| Passage {
        unshifted: pads.then_some(Reason::Padding),
        ..Passage::any(Axes::FirstTwo)
    };
    let passage = match node.op {
        "Identity" => Passage::any(Axes::Same),
        "Dropout" if is_inference(search, node) => Passage::any(Axes::Same),
        "Relu" | "LeakyRelu" => {
            Passage { axes: Axes::Same, rising: true, unshifted: Some(Reason::Shift) }
        }
        "MaxPool" | "GlobalMaxPool" => Passage { rising: true, ..Passage::any(Axes::FirstTwo) },
        "GlobalAveragePool" => Passage::any(Axes::FirstTwo),
        "AveragePool" => padding(counts_padding(node)),
        "Resize" | "Upsample" if is_interpolation(search, node) => Passage::any(Axes::FirstTwo),
        "Pad" if !pads(search, node, false) => Passage::any(Axes::Same),
        "Pad" if pads(search, node, true) => return Err(Reason::Axis.at(node.op)),
        "Pad" if node.text("mode", "constant") != "constant" => Passage::any(Axes::FirstTwo),
        "Pad" if pads_zero(search, node) => padding(true),
        "Transpose" => match (node.integers("perm"), from) {
            (Some(order), _) => match places(&order, order.len()) {
                Some(order) => Passage::any(Axes::Order(order)),
                None => return Err(Reason::Parameters.at(node.op)),
            },
            (None, Some(from)) => Passage::any(Axes::Order((0..from.len()).rev().collect())),
            (None, None) => return Err(Reason::ShapeUnknown.at(node.op)),
        },
        "Squeeze" | "Unsqueeze" | "ReduceMean" | "Flatten" | "Reshape" => {
            let axes = match node.op {
                "Squeeze" => axes(from).map(Axes::Drop),
                "Unsqueeze" => axes(to).map(Axes::Insert),
                "ReduceMean" if node.integer("keepdims", 1) == 0 => axes(from).map(Axes::Drop),
                "ReduceMean" => axes(from).map(Axes::Beside),
                _ => from.cloned().zip(to.cloned()).map(|(from, to)| Axes::Shape { from, to }),
            };
            match axes {
                Some(axes) => Passage::any(axes),
                None => return Err(Reason::ShapeUnknown.at(node.op)),
            }
        }
        _ => return Err(Reason::NonLinear.at(node.op)),
    };
    Ok(passage)
}

/// Whether a dropout does nothing: as the model is run, or because it has nothing to drop.
fn is_inference(search: &Search<'_, '_>, node: &Node<'_>) -> bool {
    if search.scope.context.opset < 7 {
        return node.integer("is_test", 0) != 0;
    }
    // a third input says whether it trains
    node.input(2).is_none_or(|trains| search.scope.integers(trains) == Some(vec![0]))
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
    let place = if node.op == "Resize" && search.scope.context.opset >= 11 { 2 } else { 1 };
    let read = || Some(search.scope.floats(node.input(place)?).ok()?.values.to_vec());
    let scales = node.attribute("scales").and_then(Attribute::floats).or_else(read);
    let keeps = scales.is_some_and(|scales| scales.len() > 2 && scales[..2] == [1.0, 1.0]);
    means && keeps && node.attribute("axes").is_none()
}

/// Whether padded values are 0.
fn pads_zero(search: &Search<'_, '_>, node: &Node<'_>) -> bool {
    let Some(value) = node.input(2) else { return node.float("value", 0.0) == 0.0 };
    let value = search.scope.floats(value);
    value.is_ok_and(|value| value.values.to_vec().iter().all(|value| *value == 0.0))
}

/// Whether an axis, or one of the first two if so asked, may be padded.
fn pads(search: &Search<'_, '_>, node: &Node<'_>, first_two: bool) -> bool {
    let pads = search.scope.listed(node, 1, "pads");
    let named = node.input(3).is_some();
    pads.is_none_or(|pads| {
        let axes = pads.len() / 2;
        let counts = |place: usize| !first_two || named || place % axes.max(1) < 2;
        pads.iter().enumerate().any(|(place, pad)| *pad != 0 && counts(place))
    })
}
