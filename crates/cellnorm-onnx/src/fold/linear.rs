//! Layers that a map can become part of: y\[o\] = Σ W\[o, i, k\]·x\[i, k\] + b\[o\] with constant W
//! and b.

use cellnorm::fold::Kernel;

use super::{Axis, Constant, Layers, Map, Reason, Refusal, Scope, Shapes, affine_node};
use crate::proto::{Node, NodeId, ValueId};

/// A kind of layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A convolution or a transposed one.
    Convolution,
    /// `Gemm`: α·A·B + β·C.
    Gemm,
    /// `MatMul`, and perhaps an `Add` after it.
    MatMul,
    /// A batch normalization that another one becomes part of.
    BatchNorm,
}

/// A layer that a map can become part of.
#[derive(Clone, Debug)]
pub struct Linear<'a> {
    /// The node.
    pub node: NodeId,
    /// Its kind.
    pub kind: LayerKind,
    /// How the weight is laid out.
    pub kernel: Kernel,
    /// The weight; of a batch normalization γ.
    pub weight: Constant<'a>,
    /// The place of the weight among the node's inputs.
    pub weight_place: usize,
    /// The factor of the weight: α of `Gemm`.
    pub alpha: f64,
    /// The bias, one row of outputs or several.
    pub bias: Option<Bias<'a>>,
    /// The `Add` after a `MatMul` that holds its bias.
    pub add: Option<NodeId>,
    /// The axis of the inputs in x.
    pub input_axis: Axis,
    /// The axis of the outputs in y.
    pub output_axis: Axis,
    /// Whether zeros are padded to x.
    pub padded: bool,
    /// The map of a batch normalization.
    pub own: Option<Map>,
}

/// A bias.
#[derive(Clone, Debug)]
pub struct Bias<'a> {
    /// The numbers as the model has them.
    pub constant: Constant<'a>,
    /// Their factor: β of `Gemm`.
    pub factor: f64,
}

impl<'a> Linear<'a> {
    /// A layer with its channels on axis 1, and its weight as the second input.
    fn new(node: NodeId, kind: LayerKind, kernel: Kernel, weight: Constant<'a>) -> Self {
        Self {
            node,
            kind,
            kernel,
            weight,
            weight_place: 1,
            alpha: 1.0,
            bias: None,
            add: None,
            input_axis: Axis::Front(1),
            output_axis: Axis::Front(1),
            padded: false,
            own: None,
        }
    }

    /// The place of x among the node's inputs.
    pub fn data_place(&self) -> usize {
        1 - self.weight_place
    }

    /// The bias as rows of one number for each output; no row if there is none.
    pub fn bias_rows(&self) -> Vec<Vec<f64>> {
        let Some(Bias { constant, factor }) = &self.bias else { return Vec::new() };
        let outputs = self.kernel.outputs();
        let values: Vec<f64> =
            constant.values.to_vec().into_iter().map(|value| factor * value).collect();
        let columns = match self.kind {
            // the bias of W·x is a column
            LayerKind::MatMul => values.len(),
            _ => constant.dims.last().copied().unwrap_or(1),
        };
        match columns {
            1 => values.iter().map(|value| vec![*value; outputs]).collect(),
            columns => values.chunks_exact(columns.max(1)).map(<[f64]>::to_vec).collect(),
        }
    }
}

/// A graph in which layers are searched.
#[derive(Clone, Copy)]
pub struct Search<'s, 'a> {
    /// The constants.
    pub scope: Scope<'s, 'a>,
    /// The shapes.
    pub shapes: &'s Shapes,
    /// The layers that maps became part of already.
    pub layers: &'s Layers<'a>,
}

impl<'a> Search<'_, 'a> {
    /// The layer that a node is; `None` if it is none of the kinds.
    pub fn linear(&self, id: NodeId) -> Option<Result<Linear<'a>, Refusal>> {
        let node = &self.scope.graph.nodes[id];
        let folded = self.layers.get(&id).map(|layer| &layer.linear);
        if let Some(linear) = folded.filter(|linear| linear.kind != LayerKind::BatchNorm) {
            return Some(Ok(linear.clone()));
        }
        match node.op {
            _ if !node.domain.is_empty() => None,
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" if node.only_output().is_none() => {
                Some(Err(Reason::Parameters.at(node.op)))
            }
            "Conv" | "ConvTranspose" => Some(self.convolution(id, node)),
            "Gemm" => Some(self.gemm(id, node)),
            "MatMul" => Some(self.mat_mul(id, node)),
            _ => None,
        }
    }

    /// The layer that makes a value: its node, or the `Add` after it.
    pub fn maker(&self, value: ValueId) -> Option<Result<Linear<'a>, Refusal>> {
        let id = self.scope.graph.values[value].producer?;
        let node = &self.scope.graph.nodes[id];
        match self.biased(id) {
            Some(linear) => Some(Ok(linear)),
            None if node.is("BatchNormalization") => {
                Some(self.batch_norm(id).map_err(|_| Reason::NonLinear.at(node.op)))
            }
            None => self.linear(id),
        }
    }

    /// The `MatMul` whose bias this node adds.
    pub fn biased(&self, add: NodeId) -> Option<Linear<'a>> {
        let graph = self.scope.graph;
        let product = |value: &ValueId| {
            graph.values[*value].producer.filter(|id| graph.nodes[*id].is("MatMul"))
        };
        let node = &graph.nodes[add];
        let product = node.inputs.iter().flatten().find_map(product).filter(|_| node.is("Add"))?;
        let linear = self.linear(product)?.ok()?;
        (linear.add == Some(add)).then_some(linear)
    }

    fn convolution(&self, id: NodeId, node: &Node<'a>) -> Result<Linear<'a>, Refusal> {
        let weight = self.constant(node, 1)?;
        let groups = usize::try_from(node.integer("group", 1))
            .map_err(|_| Reason::Parameters.at(node.op))?;
        let transposed = node.op == "ConvTranspose";
        let kernel = match transposed {
            true => Kernel::transposed_convolution(&weight.dims, groups),
            false => Kernel::convolution(&weight.dims, groups),
        };
        let kernel = kernel.map_err(|error| Reason::Parameters.at(error))?;
        let bias = self.bias(node, 1.0)?;
        check_bias(node, bias.as_ref(), kernel.outputs(), false)?;
        let any = |name, other_than: i64| {
            node.integers(name).is_some_and(|list| list.iter().any(|number| *number != other_than))
        };
        let pads_itself = !matches!(node.text("auto_pad", "NOTSET"), "NOTSET" | "VALID");
        let padded = match transposed {
            // at the border fewer taps meet, unless there is one tap
            true => kernel.taps() > 1 || any("strides", 1) || any("output_padding", 0),
            false => any("pads", 0) || pads_itself && kernel.taps() > 1,
        };
        Ok(Linear { bias, padded, ..Linear::new(id, LayerKind::Convolution, kernel, weight) })
    }

    fn gemm(&self, id: NodeId, node: &Node<'a>) -> Result<Linear<'a>, Refusal> {
        let weight = self.constant(node, 1)?;
        let kernel = dense(&weight, node.integer("transB", 0) != 0)
            .ok_or_else(|| Reason::Parameters.at(node.op))?;
        let bias = self.bias(node, node.float("beta", 1.0))?;
        check_bias(node, bias.as_ref(), kernel.outputs(), true)?;
        Ok(Linear {
            alpha: node.float("alpha", 1.0),
            bias,
            input_axis: Axis::Front(usize::from(node.integer("transA", 0) == 0)),
            ..Linear::new(id, LayerKind::Gemm, kernel, weight)
        })
    }

    fn mat_mul(&self, id: NodeId, node: &Node<'a>) -> Result<Linear<'a>, Refusal> {
        let (weight, weight_place) = match self.constant(node, 1) {
            Ok(weight) => (weight, 1),
            Err(refusal) => (self.constant(node, 0).map_err(|_| refusal)?, 0),
        };
        // x·W has the channels on the last axis, W·x on the one before
        let axis = Axis::Back(1 - weight_place);
        let kernel = dense(&weight, weight_place == 0).ok_or_else(|| Reason::Axis.at(node.op))?;
        // a vector as the other factor loses an axis
        if node.input(1 - weight_place).and_then(|value| self.shapes.rank(value)) == Some(1) {
            return Err(Reason::Axis.at(node.op));
        }
        let (add, bias) = self.added_bias(node, kernel.outputs(), 1 - weight_place).unzip();
        Ok(Linear {
            weight_place,
            bias,
            add,
            input_axis: axis,
            output_axis: axis,
            ..Linear::new(id, LayerKind::MatMul, kernel, weight)
        })
    }

    /// A batch normalization as a layer of one weight for each channel.
    fn batch_norm(&self, id: NodeId) -> Result<Linear<'a>, Refusal> {
        let node = &self.scope.graph.nodes[id];
        let norm = affine_node(self, id).ok_or_else(|| Reason::Unsupported.at(node.op))??;
        let weight = self.constant(node, 1)?;
        let channels = norm.map.channels.len();
        let kernel = Kernel::convolution(&[channels, 1], channels.max(1))
            .map_err(|error| Reason::Parameters.at(error))?;
        Ok(Linear {
            bias: self.bias(node, 1.0)?,
            own: Some(norm.map),
            ..Linear::new(id, LayerKind::BatchNorm, kernel, weight)
        })
    }

    /// The `Add` that alone reads a product, and the constant that it adds to each output; the
    /// outputs lie on the axis `axis_back`, 0 being the last.
    fn added_bias(
        &self,
        product: &Node<'a>,
        outputs: usize,
        axis_back: usize,
    ) -> Option<(NodeId, Bias<'a>)> {
        let graph = self.scope.graph;
        let output = product.only_output()?;
        let value = &graph.values[output];
        let [user] = value.users[..] else { return None };
        let node = &graph.nodes[user];
        if value.output || !node.is("Add") {
            return None;
        }
        let other = node.inputs.iter().flatten().find(|input| **input != output)?;
        let constant = self.scope.floats(*other).ok()?;
        let rank = self.shapes.rank(output).unwrap_or(2);
        let count = constant.values.len();
        let fits = match count {
            1 => true,
            _ => count == outputs && constant.dims.iter().rev().nth(axis_back) == Some(&count),
        };
        (fits && constant.dims.len() <= rank).then_some((user, Bias { constant, factor: 1.0 }))
    }

    fn constant(&self, node: &Node<'a>, place: usize) -> Result<Constant<'a>, Refusal> {
        let value = node.input(place).ok_or_else(|| Reason::Parameters.at(node.op))?;
        self.scope.floats(value)
    }

    fn bias(&self, node: &Node<'a>, factor: f64) -> Result<Option<Bias<'a>>, Refusal> {
        let constant = node.input(2).map(|value| self.scope.floats(value)).transpose()?;
        Ok(constant.map(|constant| Bias { constant, factor }))
    }
}

/// The layout of a matrix.
fn dense(weight: &Constant<'_>, output_first: bool) -> Option<Kernel> {
    let dims = <[usize; 2]>::try_from(weight.dims.as_slice()).ok()?;
    if output_first { Kernel::dense(dims) } else { Kernel::dense_inputs_first(dims) }.ok()
}

/// An error unless a bias has one number for each output or, where `rows` are allowed, a shape that
/// broadcasts to (rows, outputs).
fn check_bias(
    node: &Node<'_>,
    bias: Option<&Bias<'_>>,
    outputs: usize,
    rows: bool,
) -> Result<(), Refusal> {
    let fits = bias.is_none_or(|bias| match bias.constant.dims[..] {
        [length] => length == outputs || rows && length == 1,
        [] => rows,
        [_, columns] => rows && (columns == outputs || columns == 1),
        _ => false,
    });
    fits.then_some(()).ok_or_else(|| Reason::Parameters.at(format!("the bias of {}", node.op)))
}
