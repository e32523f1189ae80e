//! The folding of one graph, node by node.

use super::affine_node::{AffineNode, affine_node};
use super::change::label;
use super::constants::Scope;
use super::layer::{Layer, Layers};
use super::linear::{LayerKind, Linear, Search};
use super::map::Map;
use super::reason::{Reason, Refusal};
use super::report::{Fold, NodeName, Unfolded};
use super::shapes::Shapes;
use super::walk::{self, Side, Way};
use super::{Context, Folding, node_name};
use crate::proto::graph::{Graph, NodeId, ValueId};
use crate::proto::values::Float;

/// The folding of one graph.
pub struct Work<'w, 'o, 'a> {
    /// The folding of the whole model.
    pub folding: &'w mut Folding<'o, 'a>,
    /// The graph.
    pub graph: &'w mut Graph<'a>,
    /// The graph that it is in.
    pub outer: Option<&'w Scope<'w, 'a>>,
    /// The shapes of its values.
    pub shapes: &'w Shapes,
    /// The layers that maps became part of.
    pub layers: Layers<'a>,
    /// Layer and RMS normalizations whose γ and β are 1 and 0 now: the node, its channels, their
    /// type.
    pub reset: Vec<(NodeId, usize, Float)>,
}

impl<'a> Work<'_, '_, 'a> {
    /// The graph as it is searched for layers.
    pub fn search(&self) -> Search<'_, 'a> {
        let Context { opset, inputs_are_constant } = self.folding.context;
        let scope = Scope { graph: self.graph, outer: self.outer, inputs_are_constant };
        Search { scope, shapes: self.shapes, opset, layers: &self.layers }
    }

    /// Folds every map: backward from the first node to the last, then forward from the last to the
    /// first, until nothing moves.
    pub fn fold_all(&mut self, order: &[NodeId]) {
        let mut moved = true;
        while moved {
            moved = false;
            for node in order {
                moved |= self.fold_node(*node, Side::After).is_ok();
            }
            for node in order.iter().rev() {
                moved |= self.fold_node(*node, Side::Before).is_ok();
            }
        }
        for node in order.iter().filter(|node| self.is_worth_a_word(**node)).collect::<Vec<_>>() {
            self.report_unfolded(*node);
        }
    }

    /// Makes the map of a node part of layers that stand before it (`Side::After` them) or after
    /// it. `Err(None)` if there is nothing to fold.
    fn fold_node(&mut self, id: NodeId, side: Side) -> Result<(), Option<Refusal>> {
        if self.graph.nodes[id].removed {
            return Err(None);
        }
        let search = self.search();
        if search.biased(id).is_some() {
            return Err(None);
        }
        let AffineNode { input, output, map } = affine_node(&search, id).ok_or(None)??;
        let way = match side {
            Side::After => walk::layers_before(&search, input, &map),
            Side::Before => walk::layers_after(&search, output, &map),
        }?;
        self.commit(node_name(self.graph, id), &map, way, side)?;
        self.layers.remove(&id);
        if side == Side::After {
            // the node that made the input makes the result from now on, which keeps its name
            let maker = self.graph.values[input].producer.ok_or(None)?;
            let mut outputs = self.graph.nodes[maker].outputs.iter();
            let place = outputs.position(|made| *made == Some(input)).unwrap_or(0);
            self.graph.remove(id);
            self.graph.set_output(maker, place, output);
        } else {
            self.graph.remove(id);
            for user in self.graph.values[output].users.clone() {
                for place in 0..self.graph.nodes[user].inputs.len() {
                    if self.graph.nodes[user].inputs[place] == Some(output) {
                        self.graph.set_input(user, place, input);
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a map part of the layers at the end of a way: of all, or of none.
    pub fn commit(
        &mut self,
        node: NodeName,
        map: &Map,
        way: Way<'a>,
        side: Side,
    ) -> Result<(), Refusal> {
        let mut done = Vec::new();
        for target in &way.targets {
            let id = target.linear.node;
            if self.folding.options.no_copy && self.is_shared(&target.linear) {
                return Err(Refusal::new(Reason::Shared, label(self.graph, id)));
            }
            let layer = match self.layers.get(&id) {
                Some(layer) => layer.plus(target)?,
                None => Layer::new(target.linear.clone()).plus(target)?,
            };
            done.push((id, layer));
        }
        self.folding.report.folds.push(Fold {
            node,
            direction: side.into(),
            targets: done.iter().map(|(id, _)| node_name(self.graph, *id)).collect(),
            through: way.operators.into_iter().map(str::to_owned).collect(),
            channels: map.channels.len(),
        });
        self.layers.extend(done);
        Ok(())
    }

    /// Whether a layer's weights are read by others.
    fn is_shared(&self, linear: &Linear<'a>) -> bool {
        self.graph.nodes[linear.node].input(linear.weight_place).is_some_and(|weight| {
            let value = &self.graph.values[weight];
            value.users.len() > 1 || value.output || !value.made()
        })
    }

    /// Whether the report says why a node stays: of a batch normalization, and of arithmetic with a
    /// constant right after a layer.
    fn is_worth_a_word(&self, id: NodeId) -> bool {
        let (node, search) = (&self.graph.nodes[id], self.search());
        if node.removed || node.is("BatchNormalization") {
            return !node.removed;
        }
        let is_layer = |value: &ValueId| {
            let maker = search.maker(*value).and_then(Result::ok);
            maker.is_some_and(|linear| linear.kind != LayerKind::BatchNorm)
        };
        affine_node(&search, id).is_some()
            && search.biased(id).is_none()
            && node.inputs.iter().flatten().any(is_layer)
    }

    /// Reports why a node stays.
    fn report_unfolded(&mut self, id: NodeId) {
        let mut tried =
            [Side::After, Side::Before].map(|side| self.fold_node(id, side).err().flatten());
        let node = &self.graph.nodes[id];
        // where nothing stands before the node, the reason after it tells more
        if node.input(0).is_some_and(|input| self.graph.values[input].producer.is_none()) {
            tried.reverse();
        }
        let [Some(first), second] = tried else { return };
        // arithmetic that other nodes read as well is no surprise
        let is_shared = matches!(first.reason, Reason::FanOut | Reason::GraphOutput);
        if is_shared && !node.is("BatchNormalization") {
            return;
        }
        let second = second.filter(|second| *second != first);
        self.folding.report.kept.push(Unfolded::new(node_name(self.graph, id), first, second));
    }
}
