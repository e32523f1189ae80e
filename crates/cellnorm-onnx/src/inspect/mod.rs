//! Every normalization of a model: its meaning, the health of its numbers, and whether and where it
//! folds.
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
use crate::fold::{self, Fold, NodeName, Options, Refusal, Report, Scope, Unfolded, label};
use crate::proto::graph::{Graph, NodeId, ValueId};
use crate::proto::node::Node;
use crate::source::Source;
use operators::Operator;
pub use operators::{Meaning, Statistics};

/// A normalization of a model.
#[derive(Clone, Debug)]
pub struct NormNode {
    /// The node's name, or the name of what it makes.
    pub name: String,
    /// The nodes whose graphs it is in, the outermost first.
    pub inside: Vec<String>,
    /// Its operator.
    pub operator: String,
    /// Its meaning; `None` inside a function of the model.
    pub meaning: Option<Meaning>,
    /// Its numbers, where they are constant.
    pub numbers: Option<Numbers>,
    /// The health of the numbers.
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
    Stays(Unfolded),
    /// It computes statistics of its input, so it is no map that could become part of a layer.
    Computes,
    /// No layer before or after it could take its γ and β.
    Nowhere,
}

/// The normalizations of a model, in the order of the file. Initializers that are also inputs,
/// which a caller may override, count as constants.
///
/// # Errors
/// If the model is damaged.
pub fn inspect(source: &Source) -> Result<Vec<NormNode>, Error> {
    let model = source.model()?;
    let folded = fold::fold(source.model()?, &Options::default())?;
    let mut labels = HashSet::new();
    gather(&model.graph, &mut labels);
    let (inside, found) = (Vec::new(), Vec::new());
    let mut walk = Walk { opset: model.opset, report: folded.report, labels, inside, found };
    walk.graph(&model.graph, &folded.model.graph, None);
    for norm in &model.function_norms {
        let verdict = walk.verdict(norm.node, "BatchNormalization", false);
        walk.found.push(NormNode {
            name: norm.node.to_owned(),
            inside: vec![norm.function.to_owned()],
            operator: "BatchNormalization".into(),
            meaning: None,
            numbers: None,
            health: Health::default(),
            verdict,
        });
    }
    Ok(walk.found)
}

struct Walk {
    opset: i64,
    /// The report of the folding. An entry is removed when its node is found: names may be shared.
    report: Report,
    /// The names and operators of all nodes.
    labels: HashSet<(String, String)>,
    inside: Vec<String>,
    found: Vec<NormNode>,
}

impl Walk {
    /// Walks through a graph as it was and as it is folded: nodes have the same places in both.
    fn graph<'a>(&mut self, graph: &Graph<'a>, folded: &Graph<'a>, outer: Option<&Scope<'_, 'a>>) {
        let scope = Scope { graph, outer, inputs_are_constant: true };
        for (id, (node, after)) in graph.nodes.iter().zip(&folded.nodes).enumerate() {
            if let Some(operator) = Operator::from_node(node) {
                self.norm(&scope, id, operator, after.removed);
            }
            let count = node.graphs().count();
            if count > 0 && count == after.graphs().count() {
                self.inside.push(label(graph, id));
                for (inner, after) in node.graphs().zip(after.graphs()) {
                    self.graph(inner, after, Some(&scope));
                }
                self.inside.pop();
            }
        }
    }

    fn norm(&mut self, scope: &Scope<'_, '_>, id: NodeId, operator: Operator, removed: bool) {
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
        self.found.push(NormNode {
            name,
            inside: self.inside.clone(),
            operator: node.op.to_owned(),
            meaning: Some(operator.meaning(self.opset, node)),
            health: numbers.as_ref().map(Health::of).unwrap_or_default(),
            numbers,
            verdict,
        });
    }

    /// The folding's verdict on a node. The report calls a node without a name by the output that
    /// it took over from a node after it. Such a node was removed, and no node of the file has that
    /// name.
    fn verdict(&mut self, name: &str, op: &str, removed: bool) -> Verdict {
        let Self { report, labels, .. } = self;
        let is_named = |node: &NodeName| node.name == name && node.op == op;
        let is_renamed = |node: &NodeName| {
            removed && node.op == op && !labels.contains(&(node.name.clone(), node.op.clone()))
        };
        let fold = report.folds.iter().position(|fold| is_named(&fold.node));
        let kept = report.kept.iter().position(|kept| is_named(&kept.node));
        let renamed = || report.folds.iter().position(|fold| is_renamed(&fold.node));
        match (fold, kept) {
            (Some(place), _) => Verdict::Folds(report.folds.remove(place)),
            (None, Some(place)) => Verdict::Stays(report.kept.remove(place)),
            (None, None) => match renamed() {
                Some(place) => Verdict::Folds(report.folds.remove(place)),
                None => Verdict::Computes,
            },
        }
    }
}

/// The name and the operator of each node of a graph and of those inside it.
fn gather(graph: &Graph<'_>, labels: &mut HashSet<(String, String)>) {
    for (id, node) in graph.nodes.iter().enumerate() {
        labels.insert((label(graph, id), node.op.to_owned()));
        node.graphs().for_each(|inner| gather(inner, labels));
    }
}

/// The numbers of a node; `None` if it has none, or one is not constant.
fn numbers(scope: &Scope<'_, '_>, node: &Node<'_>, operator: Operator) -> Option<Numbers> {
    let [gamma, beta, mean, variance] =
        operator.places().map(|place| place.and_then(|place| node.input(place)));
    [gamma, beta, mean, variance].into_iter().flatten().next()?;
    let floats = |value: Option<ValueId>| -> Result<_, Refusal> {
        value.map(|value| Ok(scope.floats(value)?.values.to_vec())).transpose()
    };
    Some(Numbers {
        gamma: floats(gamma).ok()?,
        beta: floats(beta).ok()?,
        mean: floats(mean).ok()?,
        variance: floats(variance).ok()?,
        epsilon: operator.epsilon(node).unwrap_or(0.0),
    })
}
