//! Folding a graph: every map of channels becomes part of a layer that makes its input or reads its
//! result, where that is exact.

mod change;
mod constants;
mod layer;
mod linear;
mod map;
mod passage;
mod report;
mod shapes;
mod walk;
mod work;

use crate::error::{Error, Malformed};
use crate::proto::{FunctionNorm, Graph, Model, NodeId};
pub(crate) use change::label;
pub use change::{Changes, NewTensor};
use change::{Editor, Names, first_output};
pub use constants::Scope;
use constants::{Constant, places};
pub use layer::{Layer, Layers, Numbers, PART, blocks};
pub use linear::{LayerKind, Linear, Search};
pub(crate) use map::batch_statistics;
use map::{AffineNode, Axis, Formula, Map, affine_node};
pub use report::{Counts, Direction, Fold, NodeName, Reason, Refusal, Report, Unfolded};
pub use shapes::Shapes;
use shapes::{known, rearranged};
use work::Work;

/// The folds to make, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Take initializers that are also inputs for constants, and remove these inputs.
    pub freeze_inputs: bool,
    /// Do not copy weights that several layers share: keep the normalizations instead.
    pub no_copy: bool,
    /// Fold maps that take data far from 0 near it, though the layer loses digits by it.
    pub allow_cancellation: bool,
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
    /// The changes of each graph's constants: the model's own first, then those inside nodes,
    /// in the order of the file.
    pub changes: Vec<Changes<'a>>,
    /// The layers with other numbers than before.
    pub layers: Vec<FoldedLayer<'a>>,
    /// The rules by which it was read.
    pub context: Context,
    /// The normalization of the data, if it became part of the model.
    pub data: Option<FoldedData>,
    /// A report of the folds.
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

/// The rules by which a graph is read.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The version of ONNX's operators.
    pub opset: i64,
    /// Whether an initializer that is also an input is constant: before version 4 of the format it
    /// had to be one.
    pub inputs_are_constant: bool,
}

struct Folding<'o, 'a> {
    options: &'o Options,
    context: Context,
    names: Names,
    changes: Vec<Changes<'a>>,
    layers: Vec<FoldedLayer<'a>>,
    data: Option<FoldedData>,
    report: Report,
}

/// Folds what can be folded exactly.
///
/// # Errors
/// If the graph is damaged: a node waits for its own result, or the input that data are normalized
/// for does not exist.
pub fn fold<'a>(mut model: Model<'a>, options: &Options) -> Result<Folded<'a>, Error> {
    let mut names = Names::new();
    model.graph.all_names(&mut |name| {
        names.insert(name.to_owned());
    });
    let context = Context {
        opset: model.opset,
        inputs_are_constant: model.ir_version < 4 || options.freeze_inputs,
    };
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
    let function_norm = |norm: &FunctionNorm<'_>| {
        let (name, makes) = (norm.node.to_owned(), norm.makes.to_owned());
        let node = NodeName { name, makes, op: "BatchNormalization".into(), place: None };
        let at = format!("inside the model's function {}", norm.function);
        Unfolded::new(node, Reason::Unsupported.at(at), None)
    };
    folding.report.kept.extend(model.function_norms.iter().map(function_norm));
    folding.report.after = count(&model);
    Ok(Folded {
        changes: folding.changes,
        layers: folding.layers,
        report: folding.report,
        data: folding.data,
        context,
        model,
    })
}

fn count(model: &Model<'_>) -> Counts {
    let mut counts = Counts { nodes: 0, batch_norms: model.function_norms.len() };
    count_graph(&model.graph, &mut counts);
    counts
}

fn count_graph(graph: &Graph<'_>, counts: &mut Counts) {
    for node in graph.nodes.iter().filter(|node| !node.removed) {
        counts.nodes += 1;
        counts.batch_norms += usize::from(node.is("BatchNormalization"));
        node.graphs().for_each(|inner| count_graph(inner, counts));
    }
}

/// The name of a node of the graph with the number `index`.
fn node_name(index: usize, graph: &Graph<'_>, node: NodeId) -> NodeName {
    let (op, place) = (graph.nodes[node].op.to_owned(), Some((index, node)));
    NodeName { name: label(graph, node), makes: first_output(graph, node), op, place }
}

impl<'a> Folding<'_, 'a> {
    /// Folds a graph and those inside its nodes. Returns whether anything changed.
    fn fold_graph(
        &mut self,
        graph: &mut Graph<'a>,
        outer: Option<&Scope<'_, 'a>>,
    ) -> Result<bool, Error> {
        let index = self.changes.len();
        self.changes.push(Changes::default());
        let folds_before = self.report.folds.len();
        let order = graph.order()?;
        let were_read = change::constants_in_use(graph);
        let context = self.context;
        let shapes = &Shapes::infer(&Scope { graph, outer, context }, &order);
        let (layers, reset) = (Layers::new(), Vec::new());
        let mut work = Work { folding: self, index, graph, outer, shapes, layers, reset };
        work.fold_all(&order);
        if outer.is_none() {
            work.fold_data()?;
        }
        work.fold_gamma_and_beta(&order);
        let Work { layers, reset, .. } = work;

        let mut changed = false;
        for node in 0..graph.nodes.len() {
            if graph.nodes[node].graphs().next().is_none() {
                continue;
            }
            let mut attributes = std::mem::take(&mut graph.nodes[node].attributes);
            let scope = Scope { graph, outer, context };
            let mut inner_changed = false;
            for inner in attributes.iter_mut().flat_map(|attribute| &mut attribute.graphs) {
                inner_changed |= self.fold_graph(inner, Some(&scope))?;
            }
            graph.nodes[node].attributes = attributes;
            graph.nodes[node].changed |= inner_changed;
            graph.capture_again(node);
            changed |= inner_changed;
        }
        let changes = &mut self.changes[index];
        let (names, opset) = (&mut self.names, context.opset);
        let mut editor = Editor { graph, changes, names, opset };
        for (node, channels, float) in reset {
            editor.reset(node, channels, float);
        }
        for layer in layers.into_values() {
            // numbers that cannot be computed were refused when the map was folded
            editor.apply(&layer).map_err(|refusal| Malformed(refusal.at))?;
            let makes = layer.linear.add.unwrap_or(layer.linear.node);
            let output = first_output(editor.graph, makes);
            let name = node_name(index, editor.graph, layer.linear.node);
            self.layers.push(FoldedLayer { graph: index, output, name, layer });
        }
        change::drop_unread(editor.graph, editor.changes, &were_read);
        Ok(changed || self.report.folds.len() > folds_before)
    }
}
