//! A whole rule as one operation: forward moments, table, affine map; backward sums, table,
//! gradient map.
//!
//! The table is computed in f64 on the library's own tape ([`cellnorm::tables::Formula`]), so that
//! small tensors of tables, and an autodiff node for each operation between them, are not needed.
//! The parameters come as one flat tensor, one after another.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, Backend, backend_extension};
use cellnorm::Moments;
use cellnorm::passes::{Gradient, Sums};
use cellnorm::tables::{Answer, Formula, Parameters, Region, Rule};

use super::autodiff::FIRST_ORDER;

/// The formula of a rule, whichever it is: operations of a backend cannot be generic.
pub(crate) trait AnyFormula: Debug + Send + Sync {
    fn forward(&self, moments: &[Moments], parameters: &Parameters) -> Answer;
    fn backward(
        &self,
        moments: &[Moments],
        parameters: &Parameters,
        sums: &[Sums],
    ) -> (Vec<Gradient>, Vec<Option<Vec<f64>>>);
}

impl<R: Rule> AnyFormula for Formula<R> {
    fn forward(&self, moments: &[Moments], parameters: &Parameters) -> Answer {
        Formula::forward(self, moments, parameters)
    }

    fn backward(
        &self,
        moments: &[Moments],
        parameters: &Parameters,
        sums: &[Sums],
    ) -> (Vec<Gradient>, Vec<Option<Vec<f64>>>) {
        Formula::backward(self, moments, parameters, sums)
    }
}

/// A rule for the cells of one tensor.
#[derive(Clone, Debug)]
pub struct RuleSpec {
    /// The cells of the row-major tensor.
    pub(super) region: Arc<Region>,
    formula: Arc<dyn AnyFormula>,
    /// The names of the parameters and how many elements each has; None for one that the layer does
    /// not have.
    slots: Vec<(&'static str, Option<usize>)>,
}

impl RuleSpec {
    pub(crate) fn new<R: Rule + 'static>(
        formula: Formula<R>,
        region: Region,
        slots: Vec<(&'static str, Option<usize>)>,
    ) -> Self {
        Self::of(Arc::new(formula), region, slots)
    }

    pub(crate) fn of(
        formula: Arc<dyn AnyFormula>,
        region: Region,
        slots: Vec<(&'static str, Option<usize>)>,
    ) -> Self {
        Self { region: Arc::new(region), formula, slots }
    }

    pub(super) fn forward(&self, moments: &[Moments], parameters: &[f64]) -> Answer {
        self.formula.forward(moments, &self.named(parameters))
    }

    /// The gradient map of each cell, and the gradients of the parameters, one after another.
    pub(super) fn backward(
        &self,
        moments: &[Moments],
        parameters: &[f64],
        sums: &[Sums],
    ) -> (Vec<Gradient>, Vec<f64>) {
        let (gradients, of_slots) = self.formula.backward(moments, &self.named(parameters), sums);
        (gradients, of_slots.into_iter().flatten().flatten().collect())
    }

    fn named(&self, parameters: &[f64]) -> Parameters {
        let mut rest = parameters;
        let slot = |(name, len): &(&'static str, Option<usize>)| {
            let values =
                len.map(|len| rest.split_off(..len).expect("as many as the slots have").to_vec());
            (*name, values)
        };
        self.slots.iter().map(slot).collect()
    }
}

/// The operations that a backend implements for rules to run fused.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub trait RuleOps: Backend {
    /// (y, \[mean, M2\] of each cell, \[mean, variance, number of values\] that running averages
    /// move toward); all but y are f64 and detached from the graph, the last of them empty where
    /// there are no running averages to move.
    fn rule(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        spec: RuleSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// (dx, the gradient of the parameters) of [`rule`](Self::rule).
    fn rule_backward(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        spec: RuleSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// The node of [`RuleOps::rule`].
#[derive(Debug)]
struct ByRule;

impl<B: Backend + RuleOps> Backward<B, 2> for ByRule {
    /// x and the parameters by reference to the graph, the cells' moments.
    type State = (NodeId, NodeId, FloatTensor<B>, RuleSpec);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x, node_parameters] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (x, parameters, moments, spec) = ops.state;
        let x = checkpointer.retrieve_node_output(x);
        let parameters = checkpointer.retrieve_node_output(parameters);
        let (dx, dparameters) = B::rule_backward(x, parameters, moments, dy, spec);
        for (node, gradient) in [(node_x, dx), (node_parameters, dparameters)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + RuleOps, C: CheckpointStrategy> RuleOps for Autodiff<B, C> {
    fn rule(
        x: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        spec: RuleSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (y, moments, tracked) =
            match ByRule.prepare::<C>([x.node(), parameters.node()]).compute_bound().stateful() {
                OpsKind::Tracked(mut prep) => {
                    let saved = (prep.checkpoint(&x), prep.checkpoint(&parameters));
                    let (y, moments, tracked) =
                        B::rule(x.into_primitive(), parameters.into_primitive(), spec.clone());
                    (prep.finish((saved.0, saved.1, moments.clone(), spec), y), moments, tracked)
                }
                OpsKind::UnTracked(prep) => {
                    let (y, moments, tracked) =
                        B::rule(x.into_primitive(), parameters.into_primitive(), spec);
                    (prep.finish(y), moments, tracked)
                }
            };
        (
            y,
            <Self as AutodiffBackend>::from_inner(moments),
            <Self as AutodiffBackend>::from_inner(tracked),
        )
    }

    fn rule_backward(
        _x: FloatTensor<Self>,
        _parameters: FloatTensor<Self>,
        _moments: FloatTensor<Self>,
        _dy: FloatTensor<Self>,
        _spec: RuleSpec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        panic!("{FIRST_ORDER}")
    }
}
