//! One autodiff node for each operation: the forward pass saves x, the parameters and the tables of
//! statistics; the backward pass is fused too.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend};
use cellnorm::shape::Cells;

use super::{NormOps, Spec};

/// The node of [`NormOps::normalize`].
#[derive(Debug)]
struct Normalize;

impl<B: Backend + NormOps> Backward<B, 3> for Normalize {
    /// x and the parameters by reference to the graph, the tables.
    type State = ([NodeId; 3], FloatTensor<B>, Spec);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (inputs, tables, spec) = ops.state;
        let [x, gamma, others] = inputs.map(|node| checkpointer.retrieve_node_output(node));
        let (dx, dgamma, dothers) = B::normalize_backward(x, gamma, others, tables, dy, spec);
        for (node, gradient) in ops.parents.into_iter().zip([dx, dgamma, dothers]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// The node of [`NormOps::cell_moments`].
#[derive(Debug)]
struct CellMoments;

impl<B: Backend + NormOps> Backward<B, 1> for CellMoments {
    type State = (NodeId, FloatTensor<B>, Cells);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x] = ops.parents;
        let dmoments = grads.consume::<B>(&ops.node);
        let (x, moments, cells) = ops.state;
        if let Some(node) = node_x {
            let x = checkpointer.retrieve_node_output(x);
            grads.register::<B>(node.id, B::cell_moments_backward(x, moments, dmoments, cells));
        }
    }
}

/// The node of [`NormOps::cell_affine`].
#[derive(Debug)]
struct CellAffine;

impl<B: Backend + NormOps> Backward<B, 4> for CellAffine {
    type State = ([NodeId; 3], Cells);

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (inputs, cells) = ops.state;
        let [x, center, scale] = inputs.map(|node| checkpointer.retrieve_node_output(node));
        let (dx, dcenter, dscale, doffset) = B::cell_affine_backward(x, center, scale, dy, cells);
        for (node, gradient) in ops.parents.into_iter().zip([dx, dcenter, dscale, doffset]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + NormOps, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        others: FloatTensor<Self>,
        spec: Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let inputs = [x, gamma, others];
        let nodes = inputs.each_ref().map(|input| input.node());
        let (y, tables) = match Normalize.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved = inputs.each_ref().map(|input| prep.checkpoint(input));
                let [x, gamma, others] = inputs.map(|input| input.into_primitive());
                let (y, tables) = B::normalize(x, gamma, others, spec.clone());
                (prep.finish((saved, tables.clone(), spec), y), tables)
            }
            OpsKind::UnTracked(prep) => {
                let [x, gamma, others] = inputs.map(|input| input.into_primitive());
                let (y, tables) = B::normalize(x, gamma, others, spec);
                (prep.finish(y), tables)
            }
        };
        (y, <Self as AutodiffBackend>::from_inner(tables))
    }

    fn normalize_backward(
        _x: FloatTensor<Self>,
        _gamma: FloatTensor<Self>,
        _others: FloatTensor<Self>,
        _tables: FloatTensor<Self>,
        _dy: FloatTensor<Self>,
        _spec: Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("{FIRST_ORDER}")
    }

    fn cell_moments(x: FloatTensor<Self>, cells: Cells) -> FloatTensor<Self> {
        match CellMoments.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved_x = prep.checkpoint(&x);
                let moments = B::cell_moments(x.into_primitive(), cells);
                prep.finish((saved_x, moments.clone(), cells), moments)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::cell_moments(x.into_primitive(), cells)),
        }
    }

    fn cell_moments_backward(
        _x: FloatTensor<Self>,
        _moments: FloatTensor<Self>,
        _dmoments: FloatTensor<Self>,
        _cells: Cells,
    ) -> FloatTensor<Self> {
        panic!("{FIRST_ORDER}")
    }

    fn cell_affine(
        x: FloatTensor<Self>,
        center: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        cells: Cells,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), center.node(), scale.node(), offset.node()];
        match CellAffine.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let saved =
                    [prep.checkpoint(&x), prep.checkpoint(&center), prep.checkpoint(&scale)];
                let [x, center, scale, offset] =
                    [x, center, scale, offset].map(|t| t.into_primitive());
                prep.finish((saved, cells), B::cell_affine(x, center, scale, offset, cells))
            }
            OpsKind::UnTracked(prep) => {
                let [x, center, scale, offset] =
                    [x, center, scale, offset].map(|t| t.into_primitive());
                prep.finish(B::cell_affine(x, center, scale, offset, cells))
            }
        }
    }

    fn cell_affine_backward(
        _x: FloatTensor<Self>,
        _center: FloatTensor<Self>,
        _scale: FloatTensor<Self>,
        _dy: FloatTensor<Self>,
        _cells: Cells,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("{FIRST_ORDER}")
    }
}

const FIRST_ORDER: &str = "Burn differentiates once: the gradient of a gradient is not available";
