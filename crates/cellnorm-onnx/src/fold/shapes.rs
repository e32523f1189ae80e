//! The shapes of values as far as they follow from the inputs, the weights and what the model says.

use super::{Scope, places};
use crate::proto::{Node, NodeId, Shape, Value, ValueId, product};

/// The known shapes of a graph's values.
pub struct Shapes {
    shapes: Vec<Option<Shape>>,
}

impl Shapes {
    /// Follows the shapes through a graph's nodes, given in an order in which each comes after
    /// those that it reads.
    pub fn infer(scope: &Scope<'_, '_>, order: &[NodeId]) -> Self {
        let graph = scope.graph;
        let shape = |value: &Value<'_>| match value.initializer {
            Some(tensor) => Some(known(&graph.initializers[tensor].dims)),
            None => value.shape.clone(),
        };
        let mut shapes = Self { shapes: graph.values.iter().map(shape).collect() };
        for node in order.iter().map(|node| &graph.nodes[*node]) {
            let Some(output) = node.first_output() else { continue };
            let inferred = Rule { shapes: &shapes, scope, node }.output();
            shapes.shapes[output] = match (shapes.shapes[output].take(), inferred) {
                (Some(said), Some(inferred)) if said.len() == inferred.len() => {
                    let lengths = said.into_iter().zip(inferred);
                    Some(lengths.map(|(said, inferred)| said.or(inferred)).collect())
                }
                (said, inferred) => said.or(inferred),
            };
        }
        shapes
    }

    /// The shape of a value; `None` if not even the number of axes is known.
    pub fn get(&self, value: ValueId) -> Option<&Shape> {
        self.shapes.get(value)?.as_ref()
    }

    /// The number of axes.
    pub fn rank(&self, value: ValueId) -> Option<usize> {
        self.get(value).map(Vec::len)
    }
}

/// A shape whose lengths are all known.
pub fn known(dims: &[usize]) -> Shape {
    dims.iter().copied().map(Some).collect()
}

/// A node whose output's shape follows from what is known of its inputs.
struct Rule<'r, 's, 'a> {
    shapes: &'r Shapes,
    scope: &'r Scope<'s, 'a>,
    node: &'r Node<'a>,
}

impl Rule<'_, '_, '_> {
    /// The shape of the node's first output.
    fn output(&self) -> Option<Shape> {
        match self.node.op {
            _ if !self.node.domain.is_empty() => None,
            "Constant" => Some(known(&self.node.attribute("value")?.tensor.as_ref()?.dims)),
            "ConstantOfShape" => {
                let dims = self.scope.integers(self.node.input(0)?)?;
                Some(dims.into_iter().map(|length| usize::try_from(length).ok()).collect())
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => {
                Some(broadcast(self.input(0)?, self.input(1)?))
            }
            "Relu" | "LeakyRelu" | "PRelu" | "Elu" | "Selu" | "Gelu" | "HardSwish" | "Sigmoid"
            | "HardSigmoid" | "Tanh" | "Erf" | "Softmax" | "LogSoftmax" | "LRN" | "Clip"
            | "Abs" | "Neg" | "Exp" | "Sqrt" | "Cast" | "Dropout" | "Identity" => {
                self.input(0).cloned()
            }
            op if op.ends_with("Normalization") => self.input(0).cloned(),
            "Resize" | "Upsample" | "Pad" | "Slice" => Some(vec![None; self.input(0)?.len()]),
            "Gemm" | "MatMul" => self.product(),
            "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" | "GlobalAveragePool"
            | "GlobalMaxPool" => self.window(),
            "Concat" => self.concatenation(),
            _ => rearranged(self.scope, self.node, self.input(0)),
        }
    }

    fn input(&self, place: usize) -> Option<&Shape> {
        self.shapes.get(self.node.input(place)?)
    }

    /// Products of matrices.
    fn product(&self) -> Option<Shape> {
        if self.node.op == "Gemm" {
            let length = |place, transposed| {
                let is_transposed = self.node.integer(transposed, 0) != 0;
                *self.input(place)?.get(usize::from(is_transposed != (place == 1)))?
            };
            return Some(vec![length(0, "transA"), length(1, "transB")]);
        }
        let (a, b) = (self.input(0)?, self.input(1)?);
        let (mut shape, columns) = match (a.len(), b.len()) {
            (2.., 2) => (a.clone(), b[1]),
            (2, 3..) => (b.clone(), b[b.len() - 1]),
            _ => return None,
        };
        let rank = shape.len();
        shape[rank - 2] = a[a.len() - 2];
        shape[rank - 1] = columns;
        Some(shape)
    }

    /// Operators that slide a window over the axes from 2 on.
    fn window(&self) -> Option<Shape> {
        let node = self.node;
        let x = self.input(0)?;
        if node.op.starts_with("Global") {
            let lengths = x.iter().enumerate();
            return Some(lengths.map(|(axis, x)| if axis < 2 { *x } else { Some(1) }).collect());
        }
        if node.op.ends_with("Pool") {
            let kernel = node.integers("kernel_shape")?;
            let length = |axis: usize| {
                let kernel = usize::try_from(*kernel.get(axis - 2)?).ok()?;
                slid(node, axis - 2, x[axis]?, kernel)
            };
            return Some((0..x.len()).map(|a| if a < 2 { x[a] } else { length(a) }).collect());
        }
        let weight = self.input(1)?;
        let is_transposed = node.op == "ConvTranspose";
        let channels = if is_transposed {
            let groups = usize::try_from(node.integer("group", 1)).ok();
            weight.get(1).copied().flatten().and_then(|outputs| outputs.checked_mul(groups?))
        } else {
            weight.first().copied().flatten()
        };
        let mut shape = vec![x.first().copied().flatten(), channels];
        for (axis, kernel) in weight.iter().enumerate().skip(2) {
            let x = x.get(axis).copied().flatten().filter(|_| !is_transposed);
            shape.push(x.zip(*kernel).and_then(|(x, kernel)| slid(node, axis - 2, x, kernel)));
        }
        Some(shape)
    }

    fn concatenation(&self) -> Option<Shape> {
        let mut shape = self.input(0)?.clone();
        let axis = *places(&[self.node.integer("axis", 1)], shape.len())?.first()?;
        let inputs = 0..self.node.inputs.len();
        let mut lengths = inputs.map(|place| self.input(place)?.get(axis).copied().flatten());
        shape[axis] = lengths.try_fold(0_usize, |sum, length| sum.checked_add(length?));
        Some(shape)
    }
}

/// The shape of x after an operator that moves, merges, splits, inserts or drops axes.
pub fn rearranged(scope: &Scope<'_, '_>, node: &Node<'_>, x: Option<&Shape>) -> Option<Shape> {
    let listed = |name: &str| scope.listed(node, 1, name);
    if node.op == "Reshape" {
        return Some(reshape(x, &listed("shape")?, node.integer("allowzero", 0) != 0));
    }
    let x = x?;
    let rank = x.len();
    let axes = || places(&listed("axes")?, rank);
    match node.op {
        "Flatten" => {
            let axis = usize::try_from(node.integer("axis", 1)).ok();
            let axis = axis.filter(|axis| *axis <= rank)?;
            Some(vec![product_if_known(&x[..axis]), product_if_known(&x[axis..])])
        }
        "Transpose" => {
            let order = node.integers("perm");
            let order = order.unwrap_or_else(|| (0..rank as i64).rev().collect());
            places(&order, rank)?.iter().map(|axis| x.get(*axis).copied()).collect()
        }
        "Squeeze" => {
            // axes of length 1 where none are named
            let singles = (0..rank).filter(|axis| x[*axis] == Some(1)).collect();
            let is_named = node.input(1).is_some() || x.contains(&None);
            let axes = axes().or((!is_named).then_some(singles))?;
            Some((0..rank).filter(|axis| !axes.contains(axis)).map(|axis| x[axis]).collect())
        }
        "Unsqueeze" => {
            let new = listed("axes")?;
            let rank = rank + new.len();
            let new = places(&new, rank)?;
            let mut rest = x.iter().copied();
            let length = |axis| if new.contains(&axis) { Some(Some(1)) } else { rest.next() };
            (0..rank).map(length).collect()
        }
        "ReduceMean" => {
            let axes = axes()?;
            let reduced = (node.integer("keepdims", 1) != 0).then_some(Some(1));
            let length = |axis| if axes.contains(&axis) { reduced } else { Some(x[axis]) };
            Some((0..rank).filter_map(length).collect())
        }
        _ => None,
    }
}

/// The length of an axis after a window has slid over it.
fn slid(node: &Node<'_>, axis: usize, length: usize, kernel: usize) -> Option<usize> {
    if !matches!(node.text("auto_pad", "NOTSET"), "NOTSET" | "VALID")
        || node.integer("ceil_mode", 0) != 0
    {
        return None;
    }
    let list = |name, absent: Vec<i64>| -> Option<Vec<usize>> {
        let list = node.integers(name).unwrap_or(absent);
        list.iter().map(|number| usize::try_from(*number).ok()).collect()
    };
    let pads = list("pads", vec![0; 2 * (axis + 1)])?;
    let axes = pads.len() / 2;
    let stride = *list("strides", vec![1; axis + 1])?.get(axis)?;
    let dilation = *list("dilations", vec![1; axis + 1])?.get(axis)?;
    let padded = length.checked_add(pads.get(axis)?.checked_add(*pads.get(axis + axes)?)?)?;
    let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    padded.checked_sub(reach)?.checked_div(stride).map(|steps| steps + 1)
}

fn broadcast(a: &Shape, b: &Shape) -> Shape {
    let rank = a.len().max(b.len());
    let at = |shape: &Shape, axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(Some(1), |axis| shape[axis])
    };
    let length = |axis| match (at(a, axis), at(b, axis)) {
        (Some(1), other) | (other, Some(1)) => other,
        (known, other) => known.or(other),
    };
    (0..rank).map(length).collect()
}

/// The product of lengths; `None` if one is not known.
fn product_if_known(lengths: &[Option<usize>]) -> Option<usize> {
    product(lengths.iter().copied().collect::<Option<Vec<_>>>()?)
}

/// The shape after a reshape: 0 keeps a length unless `zeros` are zeros, -1 takes the rest.
fn reshape(x: Option<&Shape>, to: &[i64], zeros: bool) -> Shape {
    let length = |(axis, length): (usize, &i64)| match *length {
        0 if !zeros => x.and_then(|x| x.get(axis).copied()).flatten(),
        length => usize::try_from(length).ok(),
    };
    let mut new: Shape = to.iter().enumerate().map(length).collect();
    if let Some(open) = to.iter().position(|length| *length == -1) {
        let others: Vec<Option<usize>> =
            (0..new.len()).filter(|axis| *axis != open).map(|axis| new[axis]).collect();
        let all = x.and_then(|x| product_if_known(x));
        let rest = all.zip(product_if_known(&others));
        new[open] = rest.and_then(|(all, others)| all.checked_div(others));
        // a length left open that is kept on the other side cancels: [n, c, h, w] to [0, -1]
        if new[open].is_none() {
            new[open] = x.and_then(|x| rest_beside_kept(x, to, &others));
        }
    }
    new
}

/// The length that -1 stands for when the only unknown lengths are kept by 0.
fn rest_beside_kept(x: &Shape, to: &[i64], others: &[Option<usize>]) -> Option<usize> {
    let kept = |axis: usize| to.get(axis) == Some(&0) && x[axis].is_none();
    let unknown = x.iter().filter(|length| length.is_none()).count();
    if unknown != (0..x.len()).filter(|axis| kept(*axis)).count() {
        return None;
    }
    let known = |lengths: &[Option<usize>]| product(lengths.iter().copied().flatten());
    known(x)?.checked_div(known(others)?)
}
