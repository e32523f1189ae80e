//! The one error type: what was given, and what would be right.

use thiserror::Error;

use crate::normalization::Normalization;

/// A problem with an input.
///
/// ```
/// use cellnorm::GroupNormConfig;
/// let error = GroupNormConfig::new(4, 10).init().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "10 channels cannot be split into 4 groups; possible: 1, 2, 5, 10"
/// );
/// ```
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The tensor has too few axes for the layer.
    #[error(
        "the tensor of shape {shape:?} has {}; {layer} needs at least {least}",
        axes(shape.len())
    )]
    Rank {
        /// The layer.
        layer: &'static str,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The least number of axes.
        least: usize,
    },
    /// An axis that the tensor does not have.
    #[error(
        "axis {axis} does not exist in a tensor of {}; possible: {}",
        axes(*rank), possible_axes(*rank)
    )]
    Axis {
        /// The axis, negative counted from the last.
        axis: isize,
        /// The tensor's number of axes.
        rank: usize,
    },
    /// An axis named twice.
    #[error("axis {axis} is named twice in {axes:?}; name each axis once")]
    AxisTwice {
        /// The axis, counted from the first.
        axis: usize,
        /// The axes as given.
        axes: Vec<isize>,
    },
    /// A part of a data set at no place that parts have.
    #[error(
        "a part of a data set cannot cover 2^{level} places from {start} on; it must start at a \
         multiple of its length"
    )]
    Place {
        /// The first place.
        start: u64,
        /// The logarithm of the number of places.
        level: u32,
    },
    /// Two parts of a data set at one place.
    #[error("place {place} of the data set is there twice: merge each part once")]
    PlaceTwice {
        /// The place, counted from 0.
        place: u64,
    },
    /// The samples' axis named as the channels'.
    #[error(
        "axis 0 holds the samples; {layer} needs the channels on another axis, such as 1 or -1"
    )]
    SampleAxis {
        /// The layer.
        layer: &'static str,
    },
    /// Channels that cannot be split into equal groups.
    #[error(
        "{} cannot be split into {}; possible: {}",
        counted(*channels, "channel"), counted(*groups, "group"), divisors(*channels)
    )]
    Groups {
        /// The number of channels.
        channels: usize,
        /// The number of groups asked for.
        groups: usize,
    },
    /// Letters that do not name the axes of a tensor.
    #[error("the layout {layout:?} does not suit a tensor of {}: {reason}", axes(*rank))]
    Layout {
        /// The letters.
        layout: String,
        /// The tensor's number of axes.
        rank: usize,
        /// The problem, and the remedy.
        reason: &'static str,
    },
    /// More elements than can be counted.
    #[error(
        "a tensor of shape {shape:?} has too many elements to count its bytes; give a smaller \
         shape"
    )]
    TooLarge {
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// The channel axis has another length than the layer's parameters.
    #[error(
        "axis {axis} of the shape {shape:?} has length {}, but the layer was made for {}; \
         is the channel axis another one?", shape[*axis], counted(*channels, "channel")
    )]
    Channels {
        /// The channel axis.
        axis: usize,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The layer's number of channels.
        channels: usize,
    },
    /// The trailing axes are not those that the layer normalizes.
    #[error(
        "the last axes of the shape {shape:?} are not {normalized:?}, which the layer normalizes"
    )]
    Normalized {
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The shape that the layer normalizes.
        normalized: Vec<usize>,
    },
    /// No axes to normalize over.
    #[error("no axes to normalize over; name at least one")]
    NoAxes,
    /// Not one length for each axis.
    #[error(
        "{}, {lengths:?}, for {}, {axes:?}; give one for each",
        counted(lengths.len(), "length"), self::axes(axes.len())
    )]
    Lengths {
        /// The axes.
        axes: Vec<isize>,
        /// The lengths.
        lengths: Vec<usize>,
    },
    /// The axes that the layer normalizes have other lengths in the tensor.
    #[error(
        "the axes {axes:?} of the shape {shape:?} have the lengths {given:?}; the layer was made \
         for {expected:?}"
    )]
    Over {
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The axes.
        axes: Vec<isize>,
        /// Their lengths in the tensor, in its order.
        given: Vec<usize>,
        /// The values that the layer was made for.
        expected: Vec<usize>,
    },
    /// A statistic over no values.
    #[error(
        "a statistic over no values: the shape {shape:?} has an axis of length 0; every axis \
         needs at least 1"
    )]
    Empty {
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// Only one value for each mean and variance in training: the variance is 0 and every output β.
    #[error(
        "{layer} over the shape {shape:?} has one value for each statistic: the variance would be \
         0 and each output beta, whatever the input; give at least 2 values a statistic (a larger \
         batch or more positions), or use inference"
    )]
    OneValue {
        /// The layer.
        layer: &'static str,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// No preset of this name.
    #[error(
        "no preset is named {name:?}; those that are, the closest first: {}{}",
        known.join(", "), opsets(known)
    )]
    UnknownPreset {
        /// The name asked for.
        name: String,
        /// The names that exist, the closest first.
        known: Vec<&'static str>,
    },
    /// A preset without this layer.
    #[error(
        "{preset} has no {normalization} normalization; it has: {}; others have it: {}",
        list(have), others.join(", ")
    )]
    MissingLayer {
        /// The preset.
        preset: String,
        /// The layer that it lacks.
        normalization: Normalization,
        /// The layers that it has.
        have: Vec<Normalization>,
        /// The presets that have the layer.
        others: Vec<&'static str>,
    },
    /// Semantics of another layer.
    #[error("{semantics} does not describe {layer}; take a preset that does")]
    OtherLayer {
        /// The layer.
        layer: &'static str,
        /// The name of the semantics.
        semantics: &'static str,
    },
    /// Something that a layer does not do.
    #[error("{layer} {what}")]
    Unsupported {
        /// The layer.
        layer: &'static str,
        /// The part that it does not do, and the remedy.
        what: &'static str,
    },
    /// A tensor that a checkpoint does not have.
    #[error("the checkpoint has no {name}{}", alike(like))]
    MissingTensor {
        /// The name looked for.
        name: String,
        /// Names that end alike.
        like: Vec<String>,
    },
    /// A tensor of a checkpoint that cannot be used.
    #[error("{name} {problem}")]
    Tensor {
        /// Its name.
        name: String,
        /// The problem with it.
        problem: String,
    },
    /// State that another framework cannot store as it is.
    #[error("{from} cannot become {to}: {problem}")]
    Conversion {
        /// The semantics that it has.
        from: &'static str,
        /// The names that it should have.
        to: &'static str,
        /// The obstacle, and the remedy.
        problem: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// The problem.
        problem: String,
    },
    /// A parameter or statistic of the wrong shape.
    #[error("{name} has the shape {given:?}; it must be {expected:?}")]
    Parameter {
        /// Which one.
        name: &'static str,
        /// Its shape.
        given: Vec<usize>,
        /// The right shape.
        expected: Vec<usize>,
    },
    /// A table that does not broadcast against x.
    #[error("{name} has the shape {given:?}, which does not broadcast to {x:?}")]
    Broadcast {
        /// Which one.
        name: &'static str,
        /// Its shape.
        given: Vec<usize>,
        /// The shape of x.
        x: Vec<usize>,
    },
    /// A number outside its range.
    #[error("{name} is {given}; it must be {expected}")]
    Number {
        /// Which number.
        name: &'static str,
        /// Its value.
        given: f64,
        /// The range.
        expected: &'static str,
    },
    /// Two tensors that should have the same shape.
    #[error("{name} has the shape {given:?}, but x has {expected:?}; they must be equal")]
    Shape {
        /// The other tensor.
        name: &'static str,
        /// Its shape.
        given: Vec<usize>,
        /// The shape of x.
        expected: Vec<usize>,
    },
    /// An instruction set that this machine does not have, or that the library does not know.
    #[error(
        "this machine has no instruction set {given:?} for the passes; possible: {}",
        possible.join(", ")
    )]
    InstructionSet {
        /// The name asked for.
        given: String,
        /// The names of those that can be had.
        possible: Vec<&'static str>,
    },
    /// Another rank is gone.
    #[error("rank {rank} is gone; look at what it said last, and start all ranks again")]
    RankGone {
        /// Its number.
        rank: usize,
    },
    /// Another rank failed.
    #[error("rank {rank} failed: {problem}")]
    RankFailed {
        /// Its number.
        rank: usize,
        /// The message of the other side.
        problem: String,
    },
    /// Ranks do not do the same.
    #[error(
        "the ranks do not do the same: rank 0 is at {first}, rank {rank} at {other}; run the same \
         program with the same settings on every rank"
    )]
    RanksDiffer {
        /// The first that does something else than rank 0.
        rank: usize,
        /// The request of rank 0.
        first: String,
        /// The request of that rank.
        other: String,
    },
    /// NaN or infinity in the input.
    #[error(
        "{name} holds NaN, infinity or numbers too large to sum, first seen in the statistic \
         with index {set} (of {sets}); look at what made it"
    )]
    NotFinite {
        /// The tensor.
        name: &'static str,
        /// The set of values that the number is in.
        set: usize,
        /// The number of sets.
        sets: usize,
    },
}

fn alike(like: &[String]) -> String {
    if like.is_empty() { String::new() } else { format!("; it has {}", like.join(", ")) }
}

/// That any opset is a name, where ONNX is among them.
fn opsets(known: &[&str]) -> &'static str {
    let has = known.iter().any(|name| name.starts_with("onnx-"));
    if has { ", and onnx- with any opset" } else { "" }
}

fn list(layers: &[Normalization]) -> String {
    layers.iter().map(Normalization::to_string).collect::<Vec<_>>().join(", ")
}

/// "1 channel", "2 channels".
pub(crate) fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn axes(rank: usize) -> String {
    if rank == 1 { "1 axis".into() } else { format!("{rank} axes") }
}

fn possible_axes(rank: usize) -> String {
    if rank == 0 { "none".into() } else { format!("{} to {}", -(rank as isize), rank as isize - 1) }
}

fn divisors(channels: usize) -> String {
    let small: Vec<usize> = (1..=channels.isqrt().min(1 << 16))
        .filter(|groups| channels.is_multiple_of(*groups))
        .collect();
    let large =
        small.iter().rev().map(|groups| channels / groups).filter(|groups| !small.contains(groups));
    let possible: Vec<String> =
        small.iter().copied().chain(large).map(|groups| groups.to_string()).collect();
    if possible.is_empty() { "none without a channel".into() } else { possible.join(", ") }
}

impl Error {
    /// A problem with a tensor of a checkpoint.
    pub(crate) fn tensor(name: &str, problem: impl ToString) -> Self {
        Self::Tensor { name: name.into(), problem: problem.to_string() }
    }
}

/// Whether ε can be used: finite, and large enough that 1/ε fits an f32.
///
/// # Errors
/// If it is not.
pub fn check_epsilon(epsilon: f64) -> Result<(), Error> {
    let sound = (1e-36..f64::INFINITY).contains(&epsilon);
    check_number("epsilon", epsilon, sound, "finite and at least 1e-36, such as 1e-5")
}

/// That a number is in its range.
pub(crate) fn check_number(
    name: &'static str,
    given: f64,
    sound: bool,
    expected: &'static str,
) -> Result<(), Error> {
    if sound { Ok(()) } else { Err(Error::Number { name, given, expected }) }
}

/// That all of some numbers are in their range.
pub(crate) fn check_numbers<'a>(
    name: &'static str,
    values: impl IntoIterator<Item = &'a f64>,
    sound: impl Fn(f64) -> bool,
    expected: &'static str,
) -> Result<(), Error> {
    let fault = values.into_iter().find(|value| !sound(**value));
    fault.map_or(Ok(()), |given| check_number(name, *given, false, expected))
}

/// That a parameter, a statistic or the like has the right shape.
pub(crate) fn check_shape(
    name: &'static str,
    given: &[usize],
    expected: &[usize],
) -> Result<(), Error> {
    if given == expected {
        return Ok(());
    }
    Err(Error::Parameter { name, given: given.to_vec(), expected: expected.to_vec() })
}

/// That channels can be split into equal groups.
pub(crate) fn check_groups(channels: usize, groups: usize) -> Result<(), Error> {
    if groups > 0 && channels.is_multiple_of(groups) {
        return Ok(());
    }
    Err(Error::Groups { channels, groups })
}

/// That a tensor has elements.
pub(crate) fn check_not_empty(shape: &[usize]) -> Result<(), Error> {
    if shape.contains(&0) { Err(Error::Empty { shape: shape.to_vec() }) } else { Ok(()) }
}

/// That dy has the shape of x.
pub(crate) fn check_dy(dy: &[usize], x: &[usize]) -> Result<(), Error> {
    if dy == x {
        return Ok(());
    }
    Err(Error::Shape { name: "dy", given: dy.to_vec(), expected: x.to_vec() })
}
