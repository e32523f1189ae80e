//! The folding of one graph: node by node, then the maps at its ends that no node makes.

use super::{
    AffineNode, Axis, Data, Direction, Fold, FoldedData, Folding, Formula, Layer, LayerKind,
    Layers, Linear, Map, NodeName, Reason, Refusal, Scope, Search, Shapes, Unfolded, affine_node,
    label, node_name, walk, walk::Way,
};
use crate::error::Error;
use crate::proto::{Float, Graph, NodeId, ValueId};

/// The folding of one graph.
pub struct Work<'w, 'o, 'a> {
    pub folding: &'w mut Folding<'o, 'a>,
    /// The number of the graph.
    pub index: usize,
    pub graph: &'w mut Graph<'a>,
    pub outer: Option<&'w Scope<'w, 'a>>,
    pub shapes: &'w Shapes,
    pub layers: Layers<'a>,
    /// Layer and RMS normalizations whose γ and β are 1 and 0 now: the node, its channels, their
    /// type.
    pub reset: Vec<(NodeId, usize, Float)>,
}

impl<'a> Work<'_, '_, 'a> {
    /// The graph as it is searched for layers.
    pub fn search(&self) -> Search<'_, 'a> {
        let context = self.folding.context;
        let scope = Scope { graph: self.graph, outer: self.outer, context };
        Search { scope, shapes: self.shapes, layers: &self.layers }
    }

    fn name(&self, node: NodeId) -> NodeName {
        node_name(self.index, self.graph, node)
    }

    /// Folds every map: backward from the first node to the last, then forward from the last to the
    /// first, until nothing moves.
    pub fn fold_all(&mut self, order: &[NodeId]) {
        let mut moved = true;
        while moved {
            moved = false;
            for node in order {
                moved |= self.fold_node(*node, Direction::Backward).is_ok();
            }
            for node in order.iter().rev() {
                moved |= self.fold_node(*node, Direction::Forward).is_ok();
            }
        }
        for id in order {
            if self.is_worth_a_word(*id) {
                self.report_unfolded(*id);
            } else if let Err(Some(refusal)) = self.fold_node(*id, Direction::Forward)
                && refusal.reason == Reason::Cancellation
            {
                let kept = Unfolded::new(self.name(*id), refusal, None);
                self.folding.report.kept.push(kept);
            }
        }
    }

    /// Makes the map of a node part of layers that stand before it or after it. `Err(None)` if
    /// there is nothing to fold.
    fn fold_node(&mut self, id: NodeId, direction: Direction) -> Result<(), Option<Refusal>> {
        let search = self.search();
        if self.graph.nodes[id].removed || search.biased(id).is_some() {
            return Err(None);
        }
        let AffineNode { input, output, map } = affine_node(&search, id).ok_or(None)??;
        let value = if direction == Direction::Backward { input } else { output };
        let way = walk::layers(&search, direction, value, &map)?;
        let is_data = direction == Direction::Forward && self.is_data(input);
        self.commit(self.name(id), &map, way, is_data)?;
        self.layers.remove(&id);
        if direction == Direction::Backward {
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

    /// Whether a value is the model's input, or the same numbers in another order or type: unlike
    /// computed values, they have no rounding error.
    fn is_data(&self, mut value: ValueId) -> bool {
        const REARRANGING: [&str; 10] = [
            "Cast",
            "Flatten",
            "Gather",
            "Identity",
            "Reshape",
            "Slice",
            "Split",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
        ];
        loop {
            let Some(maker) = self.graph.values[value].producer else {
                return self.outer.is_none() && self.graph.values[value].input_only();
            };
            let node = &self.graph.nodes[maker];
            match node.input(0) {
                Some(input) if REARRANGING.iter().any(|op| node.is(op)) => value = input,
                _ => return false,
            }
        }
    }

    /// Makes a map part of the layers at the end of a way: of all, or of none. `is_data`: whether
    /// it is a map of the model's data.
    fn commit(
        &mut self,
        node: NodeName,
        map: &Map,
        way: Way<'a>,
        is_data: bool,
    ) -> Result<(), Refusal> {
        let mut done = Vec::new();
        for target in &way.targets {
            let id = target.linear.node;
            if self.folding.options.no_copy && self.is_shared(&target.linear) {
                return Err(Reason::Shared.at(label(self.graph, id)));
            }
            let layer = self.layers.get(&id).cloned();
            let layer = layer.unwrap_or_else(|| Layer::new(target.linear.clone()));
            let layer = layer.plus(way.direction, &target.map)?;
            if is_data && !self.folding.options.allow_cancellation {
                layer.check_cancellation(&target.map)?;
            }
            done.push((id, layer));
        }
        self.folding.report.folds.push(Fold {
            node,
            direction: way.direction,
            targets: done.iter().map(|(id, _)| self.name(*id)).collect(),
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
        let mut tried = [Direction::Backward, Direction::Forward]
            .map(|direction| self.fold_node(id, direction).err().flatten());
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
        self.folding.report.kept.push(Unfolded::new(self.name(id), first, second));
    }

    /// Folds the normalization of the data, which no node makes, into what reads the input.
    pub fn fold_data(&mut self) -> Result<(), Error> {
        let Some(Data { input, mean, deviation }) = self.folding.options.data.clone() else {
            return Ok(());
        };
        let id = self.data_input(input.as_deref())?;
        let axis = self.data_axis(id, mean.len().max(deviation.len()));
        let wide = |numbers: Vec<f64>, other: usize| {
            if numbers.len() == 1 { vec![numbers[0]; other] } else { numbers }
        };
        let (mean, deviation) = (wide(mean.clone(), deviation.len()), wide(deviation, mean.len()));
        let map =
            Map::new(Formula::Data { mean: mean.clone(), deviation: deviation.clone() }, axis)?;
        let input = self.graph.values[id].name.to_string();
        let op = "data normalization".into();
        let node = NodeName { name: input.clone(), makes: input.clone(), op, place: None };
        let length = axis.and_then(|axis| *self.shapes.get(id)?.get(axis.front(None)?)?);
        let may_widen = axis.is_some() && length != Some(mean.len());
        if self.fold_forward(node, id, &Map { may_widen, ..map }, true) {
            let axis = axis.and_then(|axis| axis.front(None)).unwrap_or(0);
            self.folding.data = Some(FoldedData { input, axis, mean, deviation });
        }
        Ok(())
    }

    /// Makes a map of a value part of the layers that read it, or reports why it stays.
    fn fold_forward(&mut self, node: NodeName, value: ValueId, map: &Map, is_data: bool) -> bool {
        let way = walk::layers(&self.search(), Direction::Forward, value, map);
        let folded = way.and_then(|way| self.commit(node.clone(), map, way, is_data));
        let stays = |refusal| self.folding.report.kept.push(Unfolded::new(node, refusal, None));
        folded.map_err(stays).is_ok()
    }

    /// The input whose data are normalized.
    fn data_input(&self, name: Option<&str>) -> Result<ValueId, Error> {
        let values = &self.graph.values;
        let inputs: Vec<ValueId> =
            (0..values.len()).filter(|id| values[*id].input_only()).collect();
        let names = || inputs.iter().map(|id| values[*id].name.to_string()).collect::<Vec<_>>();
        match (name, inputs.as_slice()) {
            (None, [only]) => Ok(*only),
            (Some(name), _) => {
                let found = inputs.iter().copied().find(|id| values[*id].name == name);
                found.ok_or_else(|| Error::NoInput { name: name.to_owned(), inputs: names() })
            }
            (None, _) => Err(Error::WhichInput { inputs: names() }),
        }
    }

    /// The axis of the data's channels: 1 if it has that length or none has, otherwise the last
    /// that has it.
    fn data_axis(&self, input: ValueId, channels: usize) -> Option<Axis> {
        let shape = self.shapes.get(input).cloned().unwrap_or_default();
        let fits = |axis: &usize| shape.get(*axis) == Some(&Some(channels));
        let axis = if fits(&1) { None } else { (2..shape.len()).rev().find(fits) };
        (channels > 1).then(|| Axis::Front(axis.unwrap_or(1)))
    }

    /// Folds γ and β, which layer and RMS normalizations end with, into the dense layers after.
    pub fn fold_gamma_and_beta(&mut self, order: &[NodeId]) {
        for id in order {
            let Some((output, map, float)) = self.gamma_and_beta(*id) else { continue };
            if map.is_identity() {
                continue;
            }
            if self.fold_forward(self.name(*id), output, &map, false) {
                self.reset.push((*id, map.channels.len(), float));
            }
        }
    }

    /// The output of a layer or RMS normalization of the last axis, the map γ·x + β that it ends
    /// with, and the type of γ.
    fn gamma_and_beta(&self, id: NodeId) -> Option<(ValueId, Map, Float)> {
        let node = &self.graph.nodes[id];
        if !node.is("LayerNormalization") && !node.is("RMSNormalization") {
            return None;
        }
        let (input, output) = (node.input(0)?, node.first_output()?);
        let axis = node.integer("axis", -1);
        if axis != -1 && self.shapes.rank(input).map(|rank| rank as i64 - 1) != Some(axis) {
            return None;
        }
        let floats = |value: ValueId| self.search().scope.floats(value).ok();
        let gamma = floats(node.input(1)?).filter(|gamma| gamma.dims.len() == 1)?;
        let beta = match node.input(2) {
            None => vec![0.0; gamma.values.len()],
            Some(beta) => floats(beta)?.values.to_vec(),
        };
        let formula = Formula::ScaleShift { gamma: gamma.values.to_vec(), beta };
        Some((output, Map::new(formula, Some(Axis::Back(0))).ok()?, gamma.values.float))
    }
}
