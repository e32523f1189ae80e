//! The shapes of values as far as they follow from the inputs, the weights and what the model says.

use super::constants::{Scope, places};
use crate::proto::graph::{NodeId, ValueId};
use crate::proto::node::Node;
use crate::proto::shape::Shape;

/// What is known of the shape of each value of a graph.
pub struct Shapes {
    of: Vec<Option<Shape>>,
}

impl Shapes {
    /// Follows the shapes through a graph's nodes, given in an order in which each comes behind
    /// those that it reads.
    pub fn infer(scope: &Scope<'_, '_>, order: &[NodeId]) -> Self {
        let graph = scope.graph;
        let mut shapes =
            Self { of: graph.values.iter().map(|value| value.shape.clone()).collect() };
        for (value, shape) in graph.values.iter().zip(&mut shapes.of) {
            if let Some(tensor) = value.initializer {
                *shape = Some(
                    graph.initializers[tensor].dims.iter().map(|length| Some(*length)).collect(),
                );
            }
        }
        for node in order.iter().map(|node| &graph.nodes[*node]) {
            let Some(output) = node.outputs.first().copied().flatten() else { continue };
            let inferred = shapes.inferred(scope, node);
            shapes.of[output] = match (shapes.of[output].take(), inferred) {
                (Some(said), Some(inferred)) if said.len() == inferred.len() => Some(
                    said.into_iter()
                        .zip(inferred)
                        .map(|(said, inferred)| said.or(inferred))
                        .collect(),
                ),
                (said, inferred) => said.or(inferred),
            };
        }
        shapes
    }

    /// The shape of a value; `None` if not even the number of axes is known.
    pub fn of(&self, value: ValueId) -> Option<&Shape> {
        self.of.get(value)?.as_ref()
    }

    /// The number of axes.
    pub fn rank(&self, value: ValueId) -> Option<usize> {
        self.of(value).map(Vec::len)
    }

    /// The shape of a node's first output.
    fn inferred(&self, scope: &Scope<'_, '_>, node: &Node<'_>) -> Option<Shape> {
        if !node.domain.is_empty() {
            return None;
        }
        let input = |place| self.of(node.input(place)?);
        let listed = |place, name| {
            node.integers(name)
                .or_else(|| node.input(place).and_then(|value| scope.integers(value)))
        };
        match node.op {
            "Conv" | "ConvTranspose" => {
                let (x, weight) = (input(0)?, input(1)?);
                let channels = match node.op {
                    "Conv" => weight.first().copied().flatten(),
                    _ => {
                        let groups = usize::try_from(node.integer("group", 1)).ok();
                        weight
                            .get(1)
                            .copied()
                            .flatten()
                            .and_then(|outputs| outputs.checked_mul(groups?))
                    }
                };
                let spatial = (2..weight.len()).map(|axis| match node.op {
                    "Conv" => slid(node, axis - 2, x.get(axis).copied().flatten()?, weight[axis]?),
                    _ => None,
                });
                Some([x.first().copied().flatten(), channels].into_iter().chain(spatial).collect())
            }
            "Constant" => {
                let dims = node.attribute("value")?.tensor.as_ref()?.dims.clone();
                Some(dims.into_iter().map(Some).collect())
            }
            "ConstantOfShape" => {
                let dims = scope.integers(node.input(0)?)?;
                Some(dims.into_iter().map(|length| usize::try_from(length).ok()).collect())
            }
            "MaxPool" | "AveragePool" => {
                let (x, kernel) = (input(0)?, node.integers("kernel_shape")?);
                let mut shape = x.clone();
                for axis in 2..x.len() {
                    let kernel =
                        kernel.get(axis - 2).and_then(|length| usize::try_from(*length).ok());
                    shape[axis] = x[axis].and_then(|length| slid(node, axis - 2, length, kernel?));
                }
                Some(shape)
            }
            "GlobalAveragePool" | "GlobalMaxPool" => {
                let x = input(0)?;
                Some(
                    x.iter()
                        .enumerate()
                        .map(|(axis, length)| if axis < 2 { *length } else { Some(1) })
                        .collect(),
                )
            }
            "Gemm" => {
                let side = |place, transposed: &str| {
                    input(place)?
                        .get(usize::from((node.integer(transposed, 0) != 0) != (place == 1)))
                        .copied()
                        .flatten()
                };
                Some(vec![side(0, "transA"), side(1, "transB")])
            }
            "MatMul" => {
                let (a, b) = (input(0)?, input(1)?);
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
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => broadcast(input(0)?, input(1)?),
            "Flatten" => {
                let x = input(0)?;
                let axis = usize::try_from(node.integer("axis", 1))
                    .ok()
                    .filter(|axis| *axis <= x.len())?;
                Some(vec![product(&x[..axis]), product(&x[axis..])])
            }
            "Reshape" => reshape(input(0), &listed(1, "shape")?, node.integer("allowzero", 0) != 0),
            "Transpose" => {
                let x = input(0)?;
                let order =
                    node.integers("perm").unwrap_or_else(|| (0..x.len() as i64).rev().collect());
                places(&order, x.len())?.iter().map(|axis| x.get(*axis).copied()).collect()
            }
            "Squeeze" => {
                let x = input(0)?;
                let axes = places(&listed(1, "axes")?, x.len())?;
                Some((0..x.len()).filter(|axis| !axes.contains(axis)).map(|axis| x[axis]).collect())
            }
            "Unsqueeze" => {
                let (x, axes) = (input(0)?, listed(1, "axes")?);
                let axes = places(&axes, x.len() + axes.len())?;
                let mut rest = x.iter();
                (0..x.len() + axes.len())
                    .map(
                        |axis| {
                            if axes.contains(&axis) { Some(Some(1)) } else { rest.next().copied() }
                        },
                    )
                    .collect()
            }
            "ReduceMean" => {
                let x = input(0)?;
                let axes = places(&listed(1, "axes")?, x.len())?;
                let keep = node.integer("keepdims", 1) != 0;
                let of = |axis: usize| match axes.contains(&axis) {
                    true => keep.then_some(Some(1)),
                    false => Some(x[axis]),
                };
                Some((0..x.len()).filter_map(of).collect())
            }
            "Concat" => {
                let first = input(0)?;
                let axis = *places(&[node.integer("axis", 1)], first.len())?.first()?;
                let mut shape = first.clone();
                let lengths =
                    (0..node.inputs.len()).map(|place| input(place)?.get(axis).copied().flatten());
                shape[axis] =
                    lengths.into_iter().try_fold(0_usize, |sum, length| sum.checked_add(length?));
                Some(shape)
            }
            "BatchNormalization"
            | "InstanceNormalization"
            | "LayerNormalization"
            | "RMSNormalization"
            | "Relu"
            | "LeakyRelu"
            | "PRelu"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Tanh"
            | "Gelu"
            | "Erf"
            | "Sqrt"
            | "Exp"
            | "Clip"
            | "Elu"
            | "Selu"
            | "Softmax"
            | "LogSoftmax"
            | "LRN"
            | "Identity"
            | "Dropout"
            | "Cast"
            | "Neg"
            | "Abs" => input(0).cloned(),
            "Resize" | "Upsample" | "Pad" | "Slice" => Some(vec![None; input(0)?.len()]),
            _ => None,
        }
    }
}

/// The length of an axis after a window has slid over it.
fn slid(node: &Node<'_>, axis: usize, length: usize, kernel: usize) -> Option<usize> {
    if !matches!(node.text("auto_pad", "NOTSET"), "NOTSET" | "VALID")
        || node.integer("ceil_mode", 0) != 0
    {
        return None;
    }
    let list = |name, absent| -> Option<Vec<usize>> {
        let given = node
            .integers(name)
            .map(|list| list.iter().map(|number| usize::try_from(*number).ok()).collect());
        given.unwrap_or(Some(absent))
    };
    let at = |list: Vec<usize>, place: usize| list.get(place).copied();
    let (pads, axes) = (
        list("pads", vec![0; 2 * (axis + 1)])?,
        node.integers("pads").map_or(axis + 1, |pads| pads.len() / 2),
    );
    let stride = at(list("strides", vec![1; axis + 1])?, axis)?;
    let dilation = at(list("dilations", vec![1; axis + 1])?, axis)?;
    let padded = length.checked_add(pads.get(axis)?.checked_add(*pads.get(axis + axes)?)?)?;
    let reach = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
    padded.checked_sub(reach)?.checked_div(stride).map(|steps| steps + 1)
}

fn broadcast(a: &Shape, b: &Shape) -> Option<Shape> {
    let rank = a.len().max(b.len());
    let at = |shape: &Shape, axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(Some(1), |axis| shape[axis])
    };
    let length = |axis| match (at(a, axis), at(b, axis)) {
        (Some(1), other) | (other, Some(1)) => other,
        (known, None) | (None, known) => known,
        (known, _) => known,
    };
    Some((0..rank).map(length).collect())
}

fn product(lengths: &[Option<usize>]) -> Option<usize> {
    lengths.iter().try_fold(1_usize, |product, length| product.checked_mul((*length)?))
}

/// 0 keeps a length, unless `zeros` are zeros; -1 is what is left.
fn reshape(x: Option<&Shape>, to: &[i64], zeros: bool) -> Option<Shape> {
    let length = |(axis, length): (usize, &i64)| match *length {
        0 if !zeros => x.and_then(|x| x.get(axis).copied()).flatten(),
        length => usize::try_from(length).ok(),
    };
    let mut new: Shape = to.iter().enumerate().map(length).collect();
    if let Some(open) = to.iter().position(|length| *length == -1) {
        let others: Vec<Option<usize>> =
            (0..new.len()).filter(|axis| *axis != open).map(|axis| new[axis]).collect();
        let all = x.and_then(|x| product(x));
        new[open] = all.zip(product(&others)).and_then(|(all, others)| all.checked_div(others));
        // a length left open that is kept on the other side cancels: [n, c, h, w] to [0, -1]
        if new[open].is_none() {
            new[open] = x.and_then(|x| left_by_kept(x, to, &others));
        }
    }
    Some(new)
}

/// What -1 stands for when the only unknown lengths are kept by 0.
fn left_by_kept(x: &Shape, to: &[i64], others: &[Option<usize>]) -> Option<usize> {
    let kept = |axis: usize| to.get(axis) == Some(&0) && x[axis].is_none();
    let unknown = x.iter().filter(|length| length.is_none()).count();
    if unknown != (0..x.len()).filter(|axis| kept(*axis)).count() {
        return None;
    }
    let known = |lengths: &[Option<usize>]| {
        lengths.iter().flatten().try_fold(1_usize, |product, length| product.checked_mul(*length))
    };
    known(x)?.checked_div(known(others)?)
}
