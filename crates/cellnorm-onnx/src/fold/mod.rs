//! Folding a graph: every map of channels becomes part of a layer that makes its input or reads its result, where that is exact.

mod affine_node;
mod change;
mod constants;
mod layer;
mod linear;
mod map;
mod passage;
mod reason;
mod report;
mod shapes;
mod walk;

use crate::error::Error;
use crate::proto::graph::{Graph, NodeId, ValueId};
use crate::proto::model::{InFunction, Model};
use crate::proto::node::Node;
use crate::proto::values::Float;
use affine_node::{AffineNode, affine_node};
use change::label;
pub use change::{Changes, NewTensor};
pub use constants::Scope;
pub use layer::{Layer, Layers, Numbers, blocks};
pub use linear::{Kind, Linear, Search};
use map::{Axis, Formula, Map};
pub use reason::{Reason, Refusal};
pub use report::{Counts, Direction, Fold, Kept, NodeName, Report};
pub use shapes::Shapes;
pub use walk::Side;
use walk::Way;

/// What to fold, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Take initializers that are also inputs for constants, and remove these inputs.
    pub freeze_inputs: bool,
    /// Do not copy weights that several layers share: keep the normalizations instead.
    pub no_copy: bool,
    /// A normalization of the data, to become part of the first layer.
    pub data: Option<Data>,
}

/// A normalization of the data: (x − mean)/deviation for each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// The model's input; its only one when `None`.
    pub input: Option<String>,
    /// The mean of each channel, or of all.
    pub mean: Vec<f64>,
    /// The standard deviation of each channel, or of all.
    pub deviation: Vec<f64>,
}

/// A model that was folded in memory, and what was done.
pub struct Folded<'a> {
    /// The model with its graph changed.
    pub model: Model<'a>,
    /// What changes in the constants of each graph: the model's own first, then those inside nodes, in the order of the file.
    pub changes: Vec<Changes<'a>>,
    /// The layers with other numbers than before.
    pub layers: Vec<FoldedLayer<'a>>,
    /// Whether initializers that are inputs, too, were taken for constants.
    pub inputs_are_constant: bool,
    /// The normalization of the data, if it became part of the model.
    pub data: Option<FoldedData>,
    /// What was done.
    pub report: Report,
}

/// A normalization of the data that became part of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedData {
    /// The model's input.
    pub input: String,
    /// The axis of its channels.
    pub axis: usize,
    /// The mean of each channel, or of all.
    pub mean: Vec<f64>,
    /// The standard deviation of each channel, or of all.
    pub deviation: Vec<f64>,
}

/// A layer that maps became part of.
pub struct FoldedLayer<'a> {
    /// Its graph: 0 is the model's own, then those inside nodes, in the order of the file.
    pub graph: usize,
    /// The name of what it makes.
    pub output: String,
    /// Its name.
    pub name: NodeName,
    /// As it was, and the maps.
    pub layer: Layer<'a>,
}

/// What a graph is read by.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The version of ONNX's operators.
    pub opset: i64,
    /// Whether initializers that are inputs, too, are constants.
    pub inputs_are_constant: bool,
}

struct Folding<'o, 'a> {
    options: &'o Options,
    context: Context,
    names: change::Names,
    changes: Vec<Changes<'a>>,
    layers: Vec<FoldedLayer<'a>>,
    data: Option<FoldedData>,
    report: Report,
}

/// Folds what can be folded exactly.
///
/// # Errors
/// If the graph is damaged: a node waits for its own result, or the input that data are normalized for does not exist.
pub fn fold<'a>(mut model: Model<'a>, options: &Options) -> Result<Folded<'a>, Error> {
    let mut names = change::Names::new();
    model.graph.all_names(&mut |name| {
        names.insert(name.to_owned());
    });
    let context = Context { opset: model.opset, inputs_are_constant: model.ir_version < 4 || options.freeze_inputs };
    let mut folding = Folding {
        options,
        context,
        names,
        changes: Vec::new(),
        layers: Vec::new(),
        data: None,
        report: Report { before: count(&model), ..Report::default() },
    };
    folding.fold_graph(&mut model.graph, None)?;
    let in_function = |inside: &InFunction<'_>| {
        let node = NodeName { name: inside.node.to_owned(), op: "BatchNormalization".into() };
        Kept::new(
            node,
            Refusal::new(Reason::Unsupported, format!("inside the model's function {}", inside.function)),
            None,
        )
    };
    folding.report.kept.extend(model.in_functions.iter().map(in_function));
    folding.report.after = count(&model);
    Ok(Folded {
        changes: folding.changes,
        layers: folding.layers,
        report: folding.report,
        data: folding.data,
        inputs_are_constant: context.inputs_are_constant,
        model,
    })
}

fn count(model: &Model<'_>) -> Counts {
    let mut counts = count_graph(&model.graph);
    counts.batch_norms += model.in_functions.len();
    counts
}

fn count_graph(graph: &Graph<'_>) -> Counts {
    let mut counts = Counts::default();
    for node in graph.nodes.iter().filter(|node| !node.removed) {
        counts.nodes += 1;
        counts.batch_norms += usize::from(node.is("BatchNormalization"));
        for inner in node.attributes.iter().flat_map(|attribute| &attribute.graphs) {
            let inner = count_graph(inner);
            counts.nodes += inner.nodes;
            counts.batch_norms += inner.batch_norms;
        }
    }
    counts
}

fn name_of(graph: &Graph<'_>, node: NodeId) -> NodeName {
    NodeName { name: label(graph, node), op: graph.nodes[node].op.to_owned() }
}

impl<'a> Folding<'_, 'a> {
    /// Folds a graph and those inside its nodes. Returns whether anything changed.
    fn fold_graph(&mut self, graph: &mut Graph<'a>, outer: Option<&Scope<'_, 'a>>) -> Result<bool, Error> {
        let index = self.changes.len();
        self.changes.push(Changes::default());
        let folds_before = self.report.folds.len();
        let order = graph.order()?;
        let were_read = change::constants_in_use(graph);
        let inputs_are_constant = self.context.inputs_are_constant;
        let shapes = Shapes::infer(&Scope { graph, outer, inputs_are_constant }, &order);
        let mut work = Work { folding: self, graph, outer, shapes: &shapes, layers: Layers::new(), reset: Vec::new() };
        work.fold_all(&order);
        if outer.is_none() {
            work.fold_data()?;
        }
        work.fold_last(&order);
        let Work { layers, reset, .. } = work;

        let mut changed = false;
        for node in 0..graph.nodes.len() {
            if graph.nodes[node].has_graphs() {
                let mut attributes = std::mem::take(&mut graph.nodes[node].attributes);
                let scope = Scope { graph, outer, inputs_are_constant };
                let mut inner_changed = false;
                for inner in attributes.iter_mut().flat_map(|attribute| &mut attribute.graphs) {
                    inner_changed |= self.fold_graph(inner, Some(&scope))?;
                }
                graph.nodes[node].attributes = attributes;
                graph.nodes[node].changed |= inner_changed;
                graph.capture_again(node);
                changed |= inner_changed;
            }
        }
        let changes = &mut self.changes[index];
        for (node, channels, float) in reset {
            change::reset(graph, changes, &mut self.names, node, channels, float);
        }
        for layer in layers.into_values() {
            let applied = change::apply(graph, changes, &mut self.names, self.context.opset, &layer);
            // that the numbers can be computed was seen when the map was folded
            applied.map_err(|refusal| crate::Malformed(refusal.at))?;
            let makes = layer.linear.add.unwrap_or(layer.linear.node);
            let output = graph.nodes[makes].outputs.iter().flatten().next();
            let output = output.map(|output| graph.values[*output].name.to_string()).unwrap_or_default();
            let name = name_of(graph, layer.linear.node);
            self.layers.push(FoldedLayer { graph: index, output, name, layer });
        }
        change::drop_unread(graph, changes, &were_read);
        Ok(changed || self.report.folds.len() > folds_before)
    }
}

/// The folding of one graph.
struct Work<'w, 'o, 'a> {
    folding: &'w mut Folding<'o, 'a>,
    graph: &'w mut Graph<'a>,
    outer: Option<&'w Scope<'w, 'a>>,
    shapes: &'w Shapes,
    layers: Layers<'a>,
    /// Layer and RMS normalizations whose γ and β are 1 and 0 now: the node, its channels, their type.
    reset: Vec<(NodeId, usize, Float)>,
}

impl<'a> Work<'_, '_, 'a> {
    fn search(&self) -> Search<'_, 'a> {
        let scope = Scope {
            graph: self.graph,
            outer: self.outer,
            inputs_are_constant: self.folding.context.inputs_are_constant,
        };
        Search { scope, shapes: self.shapes, opset: self.folding.context.opset, layers: &self.layers }
    }

    /// Folds every map: backward from the first node to the last, then forward from the last to the first, until nothing moves.
    fn fold_all(&mut self, order: &[NodeId]) {
        loop {
            let mut moved = false;
            for node in order {
                moved |= self.fold_node(*node, Side::Behind).is_ok();
            }
            for node in order.iter().rev() {
                moved |= self.fold_node(*node, Side::Ahead).is_ok();
            }
            if !moved {
                break;
            }
        }
        for node in order.iter().filter(|node| self.is_worth_a_word(**node)).collect::<Vec<_>>() {
            self.keep(*node);
        }
    }

    /// Folds one node to one side. `Err(None)` if there is nothing to fold.
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
            Side::Behind => walk::up(&search, input, &map),
            Side::Ahead => walk::down(&search, output, &map),
        }?;
        self.commit(name_of(self.graph, id), &map, way, side)?;
        self.layers.remove(&id);
        if side == Side::Behind {
            // what made the input makes the result from now on, so that the result keeps its name
            let maker = self.graph.values[input].producer.ok_or(None)?;
            let place = self.graph.nodes[maker].outputs.iter().position(|made| *made == Some(input)).unwrap_or(0);
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
    fn commit(&mut self, node: NodeName, map: &Map, way: Way<'a>, side: Side) -> Result<(), Refusal> {
        let mut done = Vec::new();
        for target in &way.targets {
            let id = target.linear.node;
            if self.folding.options.no_copy && self.is_shared(&self.graph.nodes[id]) {
                return Err(Refusal::new(Reason::Shared, label(self.graph, id)));
            }
            let layer = match self.layers.get(&id) {
                Some(layer) => layer.with(target)?,
                None => Layer::new(target.linear.clone()).with(target)?,
            };
            done.push((id, layer));
        }
        self.folding.report.folds.push(Fold {
            node,
            direction: side.into(),
            targets: done.iter().map(|(id, _)| name_of(self.graph, *id)).collect(),
            through: way.through.into_iter().map(str::to_owned).collect(),
            channels: map.channels.len(),
        });
        self.layers.extend(done);
        Ok(())
    }

    /// Whether a layer's weights are read by others.
    fn is_shared(&self, node: &Node<'a>) -> bool {
        node.input(1).is_some_and(|weight| {
            let value = &self.graph.values[weight];
            value.users.len() > 1 || value.output || !value.made()
        })
    }

    /// Whether a reader asks why a node stays: a batch normalization, or arithmetic with a constant right behind a layer.
    fn is_worth_a_word(&self, id: NodeId) -> bool {
        let (node, search) = (&self.graph.nodes[id], self.search());
        if node.removed || node.is("BatchNormalization") {
            return !node.removed;
        }
        let layer =
            |value: &ValueId| matches!(search.making(*value), Some(Ok(linear)) if linear.kind != Kind::BatchNorm);
        affine_node(&search, id).is_some() && search.biased(id).is_none() && node.inputs.iter().flatten().any(layer)
    }

    /// Notes why a node stays.
    fn keep(&mut self, id: NodeId) {
        let mut tried = [Side::Behind, Side::Ahead].map(|side| self.fold_node(id, side).err().flatten());
        let from_input = self.graph.nodes[id].input(0).is_some_and(|input| self.graph.values[input].producer.is_none());
        // with nothing before it, what is behind it tells more
        if from_input {
            tried.reverse();
        }
        let [Some(first), second] = tried else { return };
        // arithmetic that others read as well is no surprise
        let shared = matches!(first.reason, Reason::FanOut | Reason::GraphOutput);
        if shared && !self.graph.nodes[id].is("BatchNormalization") {
            return;
        }
        let second = second.filter(|second| *second != first);
        self.folding.report.kept.push(Kept::new(name_of(self.graph, id), first, second));
    }

    /// Folds the normalization of the data into what reads the input.
    fn fold_data(&mut self) -> Result<(), Error> {
        let Some(Data { input, mean, deviation }) = self.folding.options.data.clone() else { return Ok(()) };
        let id = self.data_input(input.as_deref())?;
        let axis = self.data_axis(id, mean.len().max(deviation.len()));
        let wide = |numbers: Vec<f64>, other: usize| if numbers.len() == 1 { vec![numbers[0]; other] } else { numbers };
        let (mean, deviation) = (wide(mean.clone(), deviation.len()), wide(deviation, mean.len()));
        let map = Map::new(Formula::Data { mean: mean.clone(), deviation: deviation.clone() }, axis)?;
        let node = NodeName { name: self.graph.values[id].name.to_string(), op: "data normalization".into() };
        let input = node.name.clone();
        let way = walk::down(&self.search(), id, &map);
        match way.and_then(|way| self.commit(node.clone(), &map, way, Side::Ahead)) {
            Ok(()) => {
                let axis = axis.and_then(|axis| axis.front(None)).unwrap_or(0);
                self.folding.data = Some(FoldedData { input, axis, mean, deviation });
            }
            Err(refusal) => self.folding.report.kept.push(Kept::new(node, refusal, None)),
        }
        Ok(())
    }

    /// The input whose data are normalized.
    fn data_input(&self, name: Option<&str>) -> Result<ValueId, Error> {
        let values = &self.graph.values;
        let inputs: Vec<ValueId> = (0..values.len()).filter(|id| values[*id].input_only()).collect();
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

    /// The axis of the data's channels: 1 if it has that length or none has, otherwise the last that has it.
    fn data_axis(&self, input: ValueId, channels: usize) -> Option<Axis> {
        let shape = self.shapes.of(input).cloned().unwrap_or_default();
        let is = |axis: usize| shape.get(axis) == Some(&Some(channels));
        let axis = if is(1) { None } else { (2..shape.len()).rev().find(|axis| is(*axis)) };
        (channels > 1).then(|| Axis::Front(axis.unwrap_or(1)))
    }

    /// Folds what layer and RMS normalizations end with, γ and β, into the dense layers behind.
    fn fold_last(&mut self, order: &[NodeId]) {
        for id in order {
            let Some((output, map, float)) = self.last_of(*id) else { continue };
            if map.is_identity() {
                continue;
            }
            let way = walk::down(&self.search(), output, &map);
            let (name, channels) = (name_of(self.graph, *id), map.channels.len());
            match way.and_then(|way| self.commit(name.clone(), &map, way, Side::Ahead)) {
                Ok(()) => self.reset.push((*id, channels, float)),
                Err(refusal) => self.folding.report.kept.push(Kept::new(name, refusal, None)),
            }
        }
    }

    /// γ and β of a layer or RMS normalization of the last axis, and the value that they end in.
    fn last_of(&self, id: NodeId) -> Option<(ValueId, Map, Float)> {
        let node = &self.graph.nodes[id];
        if !node.is("LayerNormalization") && !node.is("RMSNormalization") {
            return None;
        }
        let (input, output) = (node.input(0)?, node.outputs.first().copied().flatten()?);
        let axis = node.integer("axis", -1);
        if axis != -1 && self.shapes.rank(input).map(|rank| rank as i64 - 1) != Some(axis) {
            return None;
        }
        let search = self.search();
        let gamma = search.scope.floats(node.input(1)?).ok().filter(|gamma| gamma.dims.len() == 1)?;
        let beta = match node.input(2) {
            None => vec![0.0; gamma.values.len()],
            Some(beta) => search.scope.floats(beta).ok()?.values.to_vec(),
        };
        let formula = Formula::Last { gamma: gamma.values.to_vec(), beta };
        Some((output, Map::new(formula, Some(Axis::Back(0))).ok()?, gamma.values.float))
    }
}
