//! Layers that a map can become part of: y\[o\] = Σ W\[o, i, k\]·x\[i, k\] + b\[o\] with constant W
//! and b.

use cellnorm::fold::Kernel;

use super::affine_node::affine_node;
use super::constants::{Constant, Scope};
use super::layer::Layers;
use super::map::{Axis, Map};
use super::reason::{Reason, Refusal};
use super::shapes::Shapes;
use crate::proto::graph::{NodeId, ValueId};
use crate::proto::node::Node;

/// What kind of layer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A convolution or a transposed one.
    Convolution,
    /// `Gemm`: α·A·B + β·C.
    Gemm,
    /// `MatMul`, and perhaps an `Add` behind it.
    MatMul,
    /// A batch normalization that another one becomes part of.
    BatchNorm,
}

/// Such a layer.
#[derive(Clone, Debug)]
pub struct Linear<'a> {
    /// The node.
    pub node: NodeId,
    /// Its kind.
    pub kind: Kind,
    /// How the weight is laid out.
    pub kernel: Kernel,
    /// The weight; of a batch normalization γ.
    pub weight: Constant<'a>,
    /// The place of the weight among the node's inputs.
    pub weight_place: usize,
    /// What the weight is multiplied by besides: α of `Gemm`.
    pub alpha: f64,
    /// The bias, one row of outputs or several, and what it is multiplied by besides: β of `Gemm`.
    pub bias: Option<Bias<'a>>,
    /// The `Add` behind a `MatMul` that holds its bias.
    pub add: Option<NodeId>,
    /// The axis of the inputs in x.
    pub input_axis: Axis,
    /// The axis of the outputs in y.
    pub output_axis: Axis,
    /// Whether zeros are padded to x.
    pub padded: bool,
    /// Of a batch normalization: what it does.
    pub own: Option<Map>,
}

/// A bias.
#[derive(Clone, Debug)]
pub struct Bias<'a> {
    /// The numbers as the model has them.
    pub constant: Constant<'a>,
    /// What they are multiplied by: β of `Gemm`.
    pub factor: f64,
}

impl Linear<'_> {
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
            // what is added to W·x stands in a column
            Kind::MatMul => values.len(),
            _ => constant.dims.last().copied().unwrap_or(1),
        };
        match columns {
            1 => values.iter().map(|value| vec![*value; outputs]).collect(),
            columns => values.chunks_exact(columns.max(1)).map(<[f64]>::to_vec).collect(),
        }
    }
}

/// Where layers are looked for.
#[derive(Clone, Copy)]
pub struct Search<'s, 'a> {
    /// The constants.
    pub scope: Scope<'s, 'a>,
    /// The shapes.
    pub shapes: &'s Shapes,
    /// The version of ONNX's operators.
    pub opset: i64,
    /// The layers that maps became part of already.
    pub layers: &'s Layers<'a>,
}

impl<'a> Search<'_, 'a> {
    /// The layer that a node is; `None` if it is none of the kinds.
    pub fn linear(&self, id: NodeId) -> Option<Result<Linear<'a>, Refusal>> {
        let node = &self.scope.graph.nodes[id];
        if let Some(layer) =
            self.layers.get(&id).filter(|layer| layer.linear.kind != Kind::BatchNorm)
        {
            return Some(Ok(layer.linear.clone()));
        }
        if !node.domain.is_empty() {
            return None;
        }
        match node.op {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" if node.only_output().is_none() => {
                Some(Err(refused(Reason::Parameters, node)))
            }
            "Conv" | "ConvTranspose" => Some(self.convolution(id, node)),
            "Gemm" => Some(self.gemm(id, node)),
            "MatMul" => Some(self.mat_mul(id, node)),
            _ => None,
        }
    }

    /// The layer that makes a value: its node, or the `Add` behind it.
    pub fn making(&self, value: ValueId) -> Option<Result<Linear<'a>, Refusal>> {
        let id = self.scope.graph.values[value].producer?;
        match self.biased(id) {
            Some(linear) => Some(Ok(linear)),
            None if self.scope.graph.nodes[id].is("BatchNormalization") => {
                let between = |_| refused(Reason::NonLinear, &self.scope.graph.nodes[id]);
                Some(self.batch_norm(id).map_err(between))
            }
            None => self.linear(id),
        }
    }

    /// The `MatMul` whose bias this node adds.
    pub fn biased(&self, add: NodeId) -> Option<Linear<'a>> {
        let node = &self.scope.graph.nodes[add];
        let product = node
            .is("Add")
            .then(|| node.inputs.iter().flatten().find_map(|value| self.product(*value)))
            .flatten()?;
        let linear = self.linear(product)?.ok()?;
        (linear.add == Some(add)).then_some(linear)
    }

    /// The `MatMul` that makes a value.
    fn product(&self, value: ValueId) -> Option<NodeId> {
        let graph = self.scope.graph;
        graph.values[value].producer.filter(|id| graph.nodes[*id].is("MatMul"))
    }

    fn convolution(&self, id: NodeId, node: &Node<'a>) -> Result<Linear<'a>, Refusal> {
        let weight = self.constant(node, 1)?;
        let groups = usize::try_from(node.integer("group", 1))
            .map_err(|_| refused(Reason::Parameters, node))?;
        let transposed = node.op == "ConvTranspose";
        let kernel = match transposed {
            true => Kernel::transposed_convolution(&weight.dims, groups),
            false => Kernel::convolution(&weight.dims, groups),
        };
        let kernel = kernel.map_err(|error| Refusal::new(Reason::Parameters, error.to_string()))?;
        let bias = self.bias(node, 2, 1.0)?;
        check_bias(node, bias.as_ref(), kernel.outputs(), false)?;
        // at the border of a transposed convolution fewer taps meet, unless there is but one
        let pads = node.integers("pads").unwrap_or_default();
        let auto = !matches!(node.text("auto_pad", "NOTSET"), "NOTSET" | "VALID");
        let padded = match transposed {
            true => {
                kernel.taps() > 1
                    || node
                        .integers("strides")
                        .is_some_and(|strides| strides.iter().any(|stride| *stride != 1))
            }
            false => pads.iter().any(|pad| *pad != 0) || auto && kernel.taps() > 1,
        };
        let padded = padded
            || transposed
                && node
                    .integers("output_padding")
                    .is_some_and(|pads| pads.iter().any(|pad| *pad != 0));
        Ok(Linear {
            node: id,
            kind: Kind::Convolution,
            kernel,
            weight,
            weight_place: 1,
            alpha: 1.0,
            bias,
            add: None,
            input_axis: Axis::Front(1),
            output_axis: Axis::Front(1),
            padded,
            own: None,
        })
    }

    fn gemm(&self, id: NodeId, node: &Node<'a>) -> Result<Linear<'a>, Refusal> {
        let weight = self.constant(node, 1)?;
        let kernel = dense(&weight, node.integer("transB", 0) != 0)
            .ok_or_else(|| refused(Reason::Parameters, node))?;
        let bias = self.bias(node, 2, node.float("beta", 1.0))?;
        check_bias(node, bias.as_ref(), kernel.outputs(), true)?;
        let input_axis = Axis::Front(usize::from(node.integer("transA", 0) == 0));
        Ok(Linear {
            node: id,
            kind: Kind::Gemm,
            kernel,
            weight,
            weight_place: 1,
            alpha: node.float("alpha", 1.0),
            bias,
            add: None,
            input_axis,
            output_axis: Axis::Front(1),
            padded: false,
            own: None,
        })
    }

    fn mat_mul(&self, id: NodeId, node: &Node<'a>) -> Result<Linear<'a>, Refusal> {
        let (weight, weight_place) = match self.constant(node, 1) {
            Ok(weight) => (weight, 1),
            Err(refusal) => (self.constant(node, 0).map_err(|_| refusal)?, 0),
        };
        // x·W has the channels on the last axis, W·x on the one before
        let axis = Axis::Back(1 - weight_place);
        let kernel =
            dense(&weight, weight_place == 0).ok_or_else(|| refused(Reason::Axis, node))?;
        // a vector as the other factor loses an axis
        if node.input(1 - weight_place).and_then(|value| self.shapes.rank(value)) == Some(1) {
            return Err(refused(Reason::Axis, node));
        }
        let (add, bias) = self.added(node, kernel.outputs(), 1 - weight_place).unzip();
        Ok(Linear {
            node: id,
            kind: Kind::MatMul,
            kernel,
            weight,
            weight_place,
            alpha: 1.0,
            bias,
            add,
            input_axis: axis,
            output_axis: axis,
            padded: false,
            own: None,
        })
    }

    /// A batch normalization as a layer of one weight for each channel.
    fn batch_norm(&self, id: NodeId) -> Result<Linear<'a>, Refusal> {
        let node = &self.scope.graph.nodes[id];
        let norm = affine_node(self, id).ok_or_else(|| refused(Reason::Unsupported, node))??;
        let weight = self.constant(node, 1)?;
        let channels = norm.map.channels.len();
        let kernel = Kernel::convolution(&[channels, 1], channels.max(1));
        Ok(Linear {
            node: id,
            kind: Kind::BatchNorm,
            kernel: kernel.map_err(|error| Refusal::new(Reason::Parameters, error.to_string()))?,
            weight,
            weight_place: 1,
            alpha: 1.0,
            bias: self.bias(node, 2, 1.0)?,
            add: None,
            input_axis: Axis::Front(1),
            output_axis: Axis::Front(1),
            padded: false,
            own: Some(norm.map),
        })
    }

    /// The `Add` of a constant for each output, so many axes from the last, that is all that reads
    /// a product.
    fn added(
        &self,
        product: &Node<'a>,
        outputs: usize,
        from_last: usize,
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
        let along =
            constant.dims.iter().rev().nth(from_last).is_some_and(|length| *length == count);
        let fits = count == 1 || count == outputs && along;
        (fits && constant.dims.len() <= rank).then_some((user, Bias { constant, factor: 1.0 }))
    }

    fn constant(&self, node: &Node<'a>, place: usize) -> Result<Constant<'a>, Refusal> {
        let value = node.input(place).ok_or_else(|| refused(Reason::Parameters, node))?;
        self.scope.floats(value)
    }

    fn bias(
        &self,
        node: &Node<'a>,
        place: usize,
        factor: f64,
    ) -> Result<Option<Bias<'a>>, Refusal> {
        let constant = node.input(place).map(|value| self.scope.floats(value)).transpose()?;
        Ok(constant.map(|constant| Bias { constant, factor }))
    }
}

fn refused(reason: Reason, node: &Node<'_>) -> Refusal {
    Refusal::new(reason, node.op)
}

/// The layout of a matrix.
fn dense(weight: &Constant<'_>, output_first: bool) -> Option<Kernel> {
    let dims = <[usize; 2]>::try_from(weight.dims.as_slice()).ok()?;
    if output_first { Kernel::dense(dims) } else { Kernel::dense_inputs_first(dims) }.ok()
}

/// One number for each output; where `rows` are allowed, those of a shape that broadcasts to (rows,
/// outputs), too.
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
    if fits {
        Ok(())
    } else {
        Err(Refusal::new(Reason::Parameters, format!("the bias of {}", node.op)))
    }
}
