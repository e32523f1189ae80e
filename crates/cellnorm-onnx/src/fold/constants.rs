//! The constants of a graph: initializers that nobody can override, and what a few operators make
//! of them.

use super::{Context, Reason, Refusal, known, rearranged};
use crate::proto::{Float, Graph, Node, Tensor, ValueId, Values, product};

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
    /// The rules by which the model is read.
    pub context: Context,
}

/// Operators on constants that lead to a constant; more in a row is no model.
const LONGEST: usize = 16;

impl<'a> Scope<'_, 'a> {
    /// The constant floats that a value is.
    pub fn floats(&self, value: ValueId) -> Result<Constant<'a>, Refusal> {
        self.floats_within(value, LONGEST)
    }

    /// The constant integers that a value is.
    pub fn integers(&self, value: ValueId) -> Option<Vec<i64>> {
        let about = &self.graph.values[value];
        if let Some(tensor) = about.initializer {
            return self.graph.initializers[tensor].integers().filter(|_| self.is_fixed(value));
        }
        let Some(node) = about.producer else {
            return self.outer_value(value).and_then(|(outer, value)| outer.integers(value));
        };
        let node = &self.graph.nodes[node];
        let tensor = || node.attribute("value")?.tensor.as_ref()?.integers();
        let single = || Some(vec![node.attribute("value_int")?.integer()?]);
        let list = || tensor().or_else(|| node.integers("value_ints")).or_else(single);
        node.is("Constant").then(list).flatten()
    }

    /// The integers that a node reads: in newer operator sets an input, in older ones an attribute.
    pub fn listed(&self, node: &Node<'_>, place: usize, name: &str) -> Option<Vec<i64>> {
        node.integers(name).or_else(|| self.integers(node.input(place)?))
    }

    fn is_fixed(&self, value: ValueId) -> bool {
        !self.graph.values[value].input || self.context.inputs_are_constant
    }

    /// The value of an outer graph that a value without a producer stands for.
    fn outer_value(&self, value: ValueId) -> Option<(&Self, ValueId)> {
        let about = &self.graph.values[value];
        let outer = self.outer.filter(|_| !about.input)?;
        Some((outer, outer.graph.find(&about.name)?))
    }

    /// The constant that a value is, at the end of at most `steps` operators.
    fn floats_within(&self, value: ValueId, steps: usize) -> Result<Constant<'a>, Refusal> {
        let about = &self.graph.values[value];
        let constant = match (about.initializer, about.producer) {
            (Some(_), _) if !self.is_fixed(value) => {
                return Err(Reason::Overridable.at(&about.name));
            }
            (Some(tensor), _) => constant(&self.graph.initializers[tensor]),
            (None, Some(node)) if steps > 0 => self.result(&self.graph.nodes[node], steps - 1)?,
            (None, Some(_)) => None,
            (None, None) => match self.outer_value(value) {
                Some((outer, value)) => return outer.floats_within(value, steps),
                None => None,
            },
        };
        constant.ok_or_else(|| Reason::NotConstant.at(&about.name))
    }

    /// The constant that a node makes of constants; `Ok(None)` if it is none of the few operators,
    /// or its other inputs are not constant.
    fn result(&self, node: &Node<'a>, steps: usize) -> Result<Option<Constant<'a>>, Refusal> {
        match node.op {
            _ if !node.domain.is_empty() => return Ok(None),
            "Constant" => return Ok(literal(node)),
            "ConstantOfShape" => {
                let dims = node.input(0).and_then(|value| self.integers(value));
                return Ok(dims.and_then(|dims| filled(node, &dims)));
            }
            "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze" => {}
            _ => return Ok(None),
        }
        let Some(input) = node.input(0) else { return Ok(None) };
        let Constant { dims, values } = self.floats_within(input, steps)?;
        if node.op == "Cast" {
            let float = Float::from_onnx(node.integer("to", 0) as i32);
            return Ok(float.map(|float| Constant { dims, values: values.cast(float) }));
        }
        if node.op == "Identity" {
            return Ok(Some(Constant { dims, values }));
        }
        let shape = rearranged(self, node, Some(&known(&dims)));
        let dims: Option<Vec<usize>> = shape.and_then(|shape| shape.into_iter().collect());
        let dims = dims.filter(|dims| product(dims.iter().copied()) == Some(values.len()));
        Ok(dims.map(|dims| Constant { dims, values }))
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
    Some(Constant { dims, values: Values::from_bytes(Float::F32, Float::F32.bytes(&numbers)) })
}

/// The most numbers that a node of a few bytes may stand for, and the most of an axis: a damaged
/// file must not fill the memory.
const MOST_FILLED: usize = 1 << 28;
const LONGEST_FILLED: usize = 1 << 17;

/// The result of `ConstantOfShape`: one number everywhere, 0 if it names none.
fn filled<'a>(node: &Node<'a>, dims: &[i64]) -> Option<Constant<'a>> {
    let dims: Vec<usize> =
        dims.iter().map(|length| usize::try_from(*length).ok()).collect::<Option<_>>()?;
    let count = product(dims.iter().copied())?;
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
