//! Normalizations of lines as one operation: no parameters, y and dx from x and dy.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use cellnorm::norms::Lines;
use cellnorm::tables::Along;
use cellnorm::{Cells, Element, LocalResponseNorm, LpNorm};

use super::autodiff::FIRST_ORDER;

/// The normalization of a tensor's lines.
#[derive(Clone, Debug)]
pub struct LineSpec {
    layer: Layer,
    /// The axes that lines lie along.
    pub(super) along: Vec<bool>,
}

#[derive(Clone, Debug)]
enum Layer {
    Lp(LpNorm),
    LocalResponse(LocalResponseNorm),
}

impl From<LpNorm> for Layer {
    fn from(layer: LpNorm) -> Self {
        Self::Lp(layer)
    }
}

impl From<LocalResponseNorm> for Layer {
    fn from(layer: LocalResponseNorm) -> Self {
        Self::LocalResponse(layer)
    }
}

#[expect(private_bounds, reason = "these two layers and no others")]
impl LineSpec {
    /// This layer for tensors that share along these axes.
    pub(crate) fn new(layer: impl Into<Layer>, along: &[Along]) -> Self {
        Self {
            layer: layer.into(),
            along: along.iter().map(|along| *along != Along::Apart).collect(),
        }
    }

    /// y of all lines. What is not finite in x is not finite in y, and that is all: a tensor
    /// library goes on.
    pub(super) fn forward<T: Element>(&self, x: &[T], y: &mut [T], lines: &Cells) {
        let _ = match &self.layer {
            Layer::Lp(layer) => layer.forward_lines(x, y, lines),
            Layer::LocalResponse(layer) => layer.forward_lines(x, y, lines),
        };
    }

    /// dx over dy.
    pub(super) fn backward<T: Element>(&self, x: &[T], dy_dx: &mut [T], lines: &Cells) {
        let _ = match &self.layer {
            Layer::Lp(layer) => layer.backward_lines(x, dy_dx, lines),
            Layer::LocalResponse(layer) => layer.backward_lines(x, dy_dx, lines),
        };
    }
}

/// The operations that a backend implements for normalizations of lines to run fused.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub trait LineOps: Backend {
    /// y.
    fn lines(x: FloatTensor<Self>, spec: LineSpec) -> FloatTensor<Self>;

    /// dx of [`lines`](Self::lines).
    fn lines_backward(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        spec: LineSpec,
    ) -> FloatTensor<Self>;
}

/// The node of [`LineOps::lines`].
#[derive(Debug)]
struct OfLines;

impl<B: Backend + LineOps> Backward<B, 1> for OfLines {
    /// x by reference to the graph.
    type State = (NodeId, LineSpec);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (x, spec) = ops.state;
        if let Some(node) = node_x {
            let x = checkpointer.retrieve_node_output(x);
            grads.register::<B>(node.id, B::lines_backward(x, dy, spec));
        }
    }
}

impl<B: Backend + LineOps, C: CheckpointStrategy> LineOps for Autodiff<B, C> {
    fn lines(x: FloatTensor<Self>, spec: LineSpec) -> FloatTensor<Self> {
        match OfLines.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved_x = prep.checkpoint(&x);
                let y = B::lines(x.into_primitive(), spec.clone());
                prep.finish((saved_x, spec), y)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::lines(x.into_primitive(), spec)),
        }
    }

    fn lines_backward(
        _x: FloatTensor<Self>,
        _dy: FloatTensor<Self>,
        _spec: LineSpec,
    ) -> FloatTensor<Self> {
        panic!("{FIRST_ORDER}")
    }
}
