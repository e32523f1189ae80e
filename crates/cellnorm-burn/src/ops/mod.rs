//! The fused operation behind the layers: a backend extension, with an implementation for Flex and
//! an autodiff node, which saves x, the parameters and the tables of statistics for a backward pass
//! that is fused too.
//!
//! Burn dispatches it by the device of its tensors. On a device without an implementation, the same
//! normalizations are composed of Burn's own operations.

#[cfg(feature = "flex")]
mod arranged;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod pool;
mod spec;

#[cfg(feature = "flex")]
pub use pool::keep_buffers;
pub use spec::Spec;
pub(crate) use spec::{CellSpec, Form, LineLayer, Ranks, RuleFormula};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend, DispatchDevice, backend_extension};

/// The operation that a backend implements for the layers to run fused.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub trait NormOps: Backend {
    /// (y, tables). `others` are β and the rule's other parameters, one after another, or the
    /// tables of an affine map. The tables that it returns are f64 and detached from the graph:
    ///
    /// * in closed form the mean and the variance of each set, \[2 · sets\];
    /// * of cells, the mean and M2 of each, \[2 · cells\], and after them mean, variance and number
    ///   of values that running averages move toward, \[3 · averages\], where there are any;
    /// * of moments the moments, \[2, cells\], as y;
    /// * of lines, of affine maps and with given statistics none, \[0\].
    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        others: FloatTensor<Self>,
        spec: Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The backward pass of [`NormOps`], of a backend that Burn differentiates. Burn differentiates
/// once, so `Autodiff` has none.
pub trait NormBackward: NormOps {
    /// (dx, dγ, the gradient of the others), from the same x, γ and others, and from the tables.
    fn normalize_backward(
        inputs: [FloatTensor<Self>; 3],
        tables: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        spec: Spec,
    ) -> [FloatTensor<Self>; 3];
}

/// The node of [`NormOps::normalize`].
#[derive(Debug)]
struct Normalize;

impl<B: Backend + NormBackward> Backward<B, 3> for Normalize {
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
        let inputs = inputs.map(|node| checkpointer.retrieve_node_output(node));
        let gradients = B::normalize_backward(inputs, tables, dy, spec);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + NormBackward, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
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
}

#[cfg(test)]
thread_local! {
    /// Whether this thread composes on every device.
    pub(crate) static COMPOSED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether a device has an implementation of [`NormOps`].
pub(crate) fn is_fused(device: &DispatchDevice) -> bool {
    #[cfg(test)]
    if COMPOSED.get() {
        return false;
    }
    match device {
        DispatchDevice::Autodiff(inner) => is_fused(inner),
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[allow(
            unreachable_patterns,
            reason = "which devices there are depends on Burn's features"
        )]
        _ => false,
    }
}
