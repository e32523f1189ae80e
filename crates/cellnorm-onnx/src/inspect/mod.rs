//! Every normalization of a model: what it does, whether its numbers are sound, and whether and
//! where it folds.
//!
//! ```
//! use cellnorm_onnx::Source;
//! use cellnorm_onnx::inspect::{Verdict, inspect};
//!
//! # let model = "tests/fixtures/patterns/conv2d-bn.onnx";
//! let source = Source::open(model)?;
//! let layers = inspect(&source)?;
//! assert_eq!(layers[0].operator, "BatchNormalization");
//! assert!(matches!(layers[0].verdict, Verdict::Folds(_)));
//! # Ok::<(), cellnorm_onnx::Error>(())
//! ```

mod operators;

use std::collections::HashSet;

use cellnorm::inspect::{Health, Numbers};

use crate::error::Error;
use crate::fold::{self, Fold, Kept, Options, Report, Scope, label};
use crate::proto::graph::{Graph, NodeId, ValueId};
use crate::proto::node::Node;
use crate::source::Source;
use operators::Operator;
pub use operators::{Meaning, Statistics};

/// A normalization of a model.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The node's name, or the name of what it makes.
    pub name: String,
    /// The nodes with graphs that it is inside of, the outermost first.
    pub inside: Vec<String>,
    /// Its operator.
    pub operator: String,
    /// What the operator does here; `None` for one inside a function of the model.
    pub meaning: Option<Meaning>,
    /// Its numbers, where they are constant.
    pub numbers: Option<Numbers>,
    /// What they say.
    pub health: Health,
    /// Whether it folds, and where.
    pub verdict: Verdict,
}

/// Whether a normalization becomes part of layers.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It does; of a layer or RMS normalization, γ and β do.
    Folds(Fold),
    /// It stays.
    Stays(Kept),
    /// It computes statistics of what it is given, and is no map that could become part of a layer.
    Computes,
    /// Nothing is behind or before it to take its γ and β.
    Nowhere,
}

/// The normalizations of a model, in the order of the file. What a caller of the model may override
/// is taken for constant.
///
/// # Errors
/// If the model is damaged.
pub fn inspect(source: &Source) -> Result<Vec<Layer>, Error> {
    let model = source.model()?;
    let folded = fold::fold(source.model()?, &Options::default())?;
    let mut labels = HashSet::new();
    gather(&model.graph, &mut labels);
    let (inside, layers) = (Vec::new(), Vec::new());
    let mut walk = Walk { opset: model.opset, report: folded.report, labels, inside, layers };
    walk.graph(&model.graph, &folded.model.graph, None);
    for inside in &model.in_functions {
        let verdict = walk.verdict(inside.node, "BatchNormalization", false);
        walk.layers.push(Layer {
            name: inside.node.to_owned(),
            inside: vec![inside.function.to_owned()],
            operator: "BatchNormalization".into(),
            meaning: None,
            numbers: None,
            health: Health::default(),
            verdict,
        });
    }
    Ok(walk.layers)
}

struct Walk {
    opset: i64,
    /// Entries that have found their node are taken out: names may be shared.
    report: Report,
    /// The names and operators of all nodes.
    labels: HashSet<(String, String)>,
    inside: Vec<String>,
    layers: Vec<Layer>,
}

impl Walk {
    /// A graph as it was and as it is folded: nodes have the same places in both.
    fn graph<'a>(&mut self, graph: &Graph<'a>, folded: &Graph<'a>, outer: Option<&Scope<'_, 'a>>) {
        let scope = Scope { graph, outer, inputs_are_constant: true };
        for (id, (node, after)) in graph.nodes.iter().zip(&folded.nodes).enumerate() {
            if let Some(operator) = Operator::of(node) {
                self.layer(&scope, id, operator, after.removed);
            }
            let graphs = |node: &Node<'a>| {
                node.attributes.iter().map(|attribute| attribute.graphs.len()).sum::<usize>()
            };
            if graphs(node) > 0 && graphs(node) == graphs(after) {
                self.inside.push(label(graph, id));
                let inner = node.attributes.iter().flat_map(|attribute| &attribute.graphs);
                let after = after.attributes.iter().flat_map(|attribute| &attribute.graphs);
                for (inner, after) in inner.zip(after) {
                    self.graph(inner, after, Some(&scope));
                }
                self.inside.pop();
            }
        }
    }

    fn layer(&mut self, scope: &Scope<'_, '_>, id: NodeId, operator: Operator, removed: bool) {
        let node = &scope.graph.nodes[id];
        let name = label(scope.graph, id);
        let numbers = numbers(scope, node, operator);
        let verdict = match operator {
            Operator::Batch => self.verdict(&name, node.op, removed),
            Operator::Layer | Operator::Rms => match self.verdict(&name, node.op, false) {
                Verdict::Computes => Verdict::Nowhere,
                known => known,
            },
            _ => Verdict::Computes,
        };
        self.layers.push(Layer {
            name,
            inside: self.inside.clone(),
            operator: node.op.to_owned(),
            meaning: Some(operator.meaning(self.opset, node)),
            health: numbers.as_ref().map(Health::of).unwrap_or_default(),
            numbers,
            verdict,
        });
    }

    /// What the folding says of a node. One without a name that took over what came behind it has
    /// that one's name in the report: then it is gone, and an entry is of no node that the file
    /// had.
    fn verdict(&mut self, name: &str, op: &str, removed: bool) -> Verdict {
        let is = |node: &fold::NodeName| node.name == name && node.op == op;
        if let Some(place) = self.report.folds.iter().position(|fold| is(&fold.node)) {
            return Verdict::Folds(self.report.folds.remove(place));
        }
        if let Some(place) = self.report.kept.iter().position(|kept| is(&kept.node)) {
            return Verdict::Stays(self.report.kept.remove(place));
        }
        let is_new =
            |node: &fold::NodeName| !self.labels.contains(&(node.name.clone(), node.op.clone()));
        let mut folds = self.report.folds.iter();
        let renamed = folds.position(|fold| removed && fold.node.op == op && is_new(&fold.node));
        renamed.map_or(Verdict::Computes, |place| Verdict::Folds(self.report.folds.remove(place)))
    }
}

/// The name and the operator of each node of a graph and of those inside it.
fn gather(graph: &Graph<'_>, labels: &mut HashSet<(String, String)>) {
    for (id, node) in graph.nodes.iter().enumerate() {
        labels.insert((label(graph, id), node.op.to_owned()));
        node.attributes
            .iter()
            .flat_map(|attribute| &attribute.graphs)
            .for_each(|inner| gather(inner, labels));
    }
}

/// The numbers of a node, where those that it has are constant.
fn numbers(scope: &Scope<'_, '_>, node: &Node<'_>, operator: Operator) -> Option<Numbers> {
    let of = |value: ValueId| scope.floats(value).ok().map(|constant| constant.values.to_vec());
    let mut found =
        operator.places().map(|place| place.and_then(|place| node.input(place)).map(of));
    if found.iter().any(|values| matches!(values, Some(None))) || found.iter().all(Option::is_none)
    {
        return None;
    }
    let [gamma, beta, mean, variance] = &mut found;
    let take = |values: &mut Option<Option<Vec<f64>>>| values.take().flatten();
    Some(Numbers {
        gamma: take(gamma),
        beta: take(beta),
        mean: take(mean),
        variance: take(variance),
        epsilon: operator.epsilon(node).unwrap_or(0.0),
    })
}
