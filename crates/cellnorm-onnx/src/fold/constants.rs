//! What is constant: initializers that nobody can override, and what a few operators make of them.

use super::reason::{Reason, Refusal};
use crate::proto::graph::{Graph, ValueId};
use crate::proto::node::Node;
use crate::proto::tensor::Tensor;
use crate::proto::values::{Float, Values};

/// A constant tensor of floats.
#[derive(Clone, Debug)]
pub struct Constant<'a> {
    /// Its shape.
    pub dims: Vec<usize>,
    /// Its numbers.
    pub values: Values<'a>,
}

/// Where constants are looked up: a graph, and those around it.
#[derive(Clone, Copy)]
pub struct Scope<'s, 'a> {
    /// The graph.
    pub graph: &'s Graph<'a>,
    /// The one that it is in.
    pub outer: Option<&'s Scope<'s, 'a>>,
    /// Whether an initializer that is also an input is constant: before version 4 of the format it
    /// had to be one.
    pub inputs_are_constant: bool,
}

/// Operators on constants that lead to a constant; more in a row is no model.
const LONGEST: usize = 16;

impl<'a> Scope<'_, 'a> {
    /// The constant floats that a value is.
    pub fn floats(&self, value: ValueId) -> Result<Constant<'a>, Refusal> {
        self.floats_after(value, LONGEST)
    }

    /// The constant integers that a value is.
    pub fn integers(&self, value: ValueId) -> Option<Vec<i64>> {
        let of = &self.graph.values[value];
        if let Some(tensor) = of.initializer {
            return self.graph.initializers[tensor].integers().filter(|_| self.is_fixed(value));
        }
        match of.producer {
            Some(node) => {
                let node = &self.graph.nodes[node];
                let list = || {
                    node.integers("value_ints")
                        .or_else(|| Some(vec![node.attribute("value_int")?.integer()?]))
                };
                let tensor = || node.attribute("value")?.tensor.as_ref()?.integers();
                node.is("Constant").then(|| tensor().or_else(list)).flatten()
            }
            None if of.input => None,
            None => self.outer.and_then(|outer| outer.integers(outer.graph.find(&of.name)?)),
        }
    }

    fn is_fixed(&self, value: ValueId) -> bool {
        !self.graph.values[value].input || self.inputs_are_constant
    }

    fn floats_after(&self, value: ValueId, left: usize) -> Result<Constant<'a>, Refusal> {
        let of = &self.graph.values[value];
        let refused = |reason| Refusal::new(reason, of.name.clone());
        if let Some(tensor) = of.initializer {
            if !self.is_fixed(value) {
                return Err(refused(Reason::Overridable));
            }
            return constant(&self.graph.initializers[tensor])
                .ok_or_else(|| refused(Reason::NotConstant));
        }
        match of.producer {
            Some(node) if left > 0 => self
                .made_by(&self.graph.nodes[node], left - 1)?
                .ok_or_else(|| refused(Reason::NotConstant)),
            Some(_) => Err(refused(Reason::NotConstant)),
            None if of.input => Err(refused(Reason::NotConstant)),
            None => {
                let outer = self.outer.and_then(|outer| Some((outer, outer.graph.find(&of.name)?)));
                let (outer, value) = outer.ok_or_else(|| refused(Reason::NotConstant))?;
                outer.floats_after(value, left)
            }
        }
    }

    /// What a node makes of constants; `Ok(None)` if it is none of the few operators, or its other
    /// inputs are not constant.
    fn made_by(&self, node: &Node<'a>, left: usize) -> Result<Option<Constant<'a>>, Refusal> {
        if !node.domain.is_empty() {
            return Ok(None);
        }
        let of = |place| node.input(place).map(|value| self.floats_after(value, left)).transpose();
        let listed = |place, name| {
            node.integers(name).or_else(|| node.input(place).and_then(|value| self.integers(value)))
        };
        Ok(match node.op {
            "Constant" => literal(node),
            "ConstantOfShape" => node
                .input(0)
                .and_then(|value| self.integers(value))
                .and_then(|dims| filled(node, &dims)),
            "Identity" => of(0)?,
            "Cast" => of(0)?.and_then(|constant| {
                let float = Float::of(node.integer("to", 0) as i32)?;
                Some(Constant { dims: constant.dims, values: constant.values.cast(float) })
            }),
            "Reshape" => of(0)?.and_then(|constant| {
                let dims = reshaped(&constant.dims, &listed(1, "shape")?)?;
                Some(Constant { dims, values: constant.values })
            }),
            "Squeeze" => of(0)?.map(|constant| {
                let axes = listed(1, "axes").and_then(|axes| places(&axes, constant.dims.len()));
                let ones = || {
                    constant
                        .dims
                        .iter()
                        .enumerate()
                        .filter(|(_, length)| **length == 1)
                        .map(|(axis, _)| axis)
                };
                let axes = axes.unwrap_or_else(|| ones().collect());
                let left =
                    constant.dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
                Constant {
                    dims: left.map(|(_, length)| *length).collect(),
                    values: constant.values,
                }
            }),
            "Unsqueeze" => of(0)?.and_then(|constant| {
                let axes = listed(1, "axes")?;
                let axes = places(&axes, constant.dims.len() + axes.len())?;
                let mut rest = constant.dims.iter();
                let dims: Option<Vec<usize>> = (0..constant.dims.len() + axes.len())
                    .map(|axis| if axes.contains(&axis) { Some(1) } else { rest.next().copied() })
                    .collect();
                Some(Constant { dims: dims?, values: constant.values })
            }),
            _ => None,
        })
    }
}

fn constant<'a>(tensor: &Tensor<'a>) -> Option<Constant<'a>> {
    Some(Constant { dims: tensor.dims.clone(), values: tensor.floats()? })
}

/// The number or the numbers of a `Constant`.
fn literal<'a>(node: &Node<'a>) -> Option<Constant<'a>> {
    if let Some(tensor) = node.attribute("value") {
        return constant(tensor.tensor.as_ref()?);
    }
    let (dims, numbers) = match node.attribute("value_floats") {
        Some(list) => list.floats().map(|numbers| (vec![numbers.len()], numbers))?,
        None => (Vec::new(), vec![node.attribute("value_float")?.float()?]),
    };
    let mut bytes = vec![0; 4 * numbers.len()];
    Float::F32.store(&numbers, &mut bytes);
    Some(Constant { dims, values: Values::of_bytes(Float::F32, bytes) })
}

/// The most numbers that a node of a few bytes may stand for, and the most of an axis: a damaged
/// file must not fill the memory.
const MOST_FILLED: usize = 1 << 28;
const LONGEST_FILLED: usize = 1 << 17;

/// What `ConstantOfShape` makes: one number, 0 if it names none.
fn filled<'a>(node: &Node<'a>, dims: &[i64]) -> Option<Constant<'a>> {
    let dims: Vec<usize> =
        dims.iter().map(|length| usize::try_from(*length).ok()).collect::<Option<_>>()?;
    let count = dims.iter().try_fold(1_usize, |product, length| product.checked_mul(*length))?;
    if count > MOST_FILLED || dims.iter().any(|length| *length > LONGEST_FILLED) {
        return None;
    }
    let (float, value) = match node.attribute("value") {
        None => (Float::F32, 0.0),
        Some(value) => {
            let values = value.tensor.as_ref()?.floats().filter(|values| values.len() == 1)?;
            (values.float, values.to_vec()[0])
        }
    };
    Some(Constant { dims, values: Values::fill(float, value, count) })
}

/// Axes counted from the first; `None` if one does not exist.
pub fn places(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    let rank = i64::try_from(rank).ok()?;
    let place = |axis: &i64| usize::try_from(if *axis < 0 { axis + rank } else { *axis }).ok();
    axes.iter().map(|axis| place(axis).filter(|place| (*place as i64) < rank)).collect()
}

/// The shape that `Reshape` makes: 0 keeps a length, -1 is what is left.
fn reshaped(dims: &[usize], to: &[i64]) -> Option<Vec<usize>> {
    let all: usize = dims.iter().product();
    let length = |(axis, length): (usize, &i64)| match *length {
        0 => dims.get(axis).copied(),
        -1 => Some(1),
        length => usize::try_from(length).ok(),
    };
    let mut new: Vec<usize> = to.iter().enumerate().map(length).collect::<Option<_>>()?;
    let known = new.iter().try_fold(1_usize, |product, length| product.checked_mul(*length))?;
    if let Some(open) = to.iter().position(|length| *length == -1) {
        new[open] = all.checked_div(known)?;
    }
    (new.iter().try_fold(1_usize, |product, length| product.checked_mul(*length))? == all)
        .then_some(new)
}
