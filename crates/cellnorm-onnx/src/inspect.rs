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

use cellnorm::inspect::{Health, Numbers};
use cellnorm::{Normalization, Semantics};

use crate::error::Error;
use crate::fold::{
    self, Context, Fold, Options, Refusal, Report, Scope, Unfolded, batch_statistics, label,
};
use crate::proto::{Graph, Node, NodeId, ValueId};
use crate::source::Source;

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

/// The meaning of a normalization.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// The semantics as [`Semantics::preset`] knows them, such as "onnx-15 batch"; `None` for
    /// operators that it does not know.
    pub preset: Option<&'static str>,
    /// ε, where there is one.
    pub epsilon: Option<f64>,
    /// Where the statistics come from: constants, the batch, or each input.
    pub statistics: Statistics,
    /// Over what, in words.
    pub words: String,
}

/// Where statistics come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// They are constants of the model.
    Fixed,
    /// They are those of each batch, as in training.
    Batch,
    /// They are those of each input alone.
    Input,
}

/// The normalizations of a model, in the order of the file. Initializers that are also inputs,
/// which a caller may override, count as constants.
///
/// # Errors
/// If the model is damaged.
pub fn inspect(source: &Source) -> Result<Vec<NormNode>, Error> {
    let model = source.model()?;
    let report = fold::fold(source.model()?, &Options::default())?.report;
    let context = Context { opset: model.opset, inputs_are_constant: true };
    let mut walk = Walk { context, report, graphs: 0, inside: Vec::new(), found: Vec::new() };
    walk.graph(&model.graph, None);
    // the folding keeps those inside functions, which have no place in a graph, in the same order
    let kept = walk.report.kept.into_iter().filter(|kept| kept.node.place.is_none());
    walk.found.extend(model.function_norms.iter().zip(kept).map(|(norm, kept)| NormNode {
        name: norm.node.to_owned(),
        inside: vec![norm.function.to_owned()],
        operator: "BatchNormalization".into(),
        meaning: None,
        numbers: None,
        health: Health::default(),
        verdict: Verdict::Stays(kept),
    }));
    Ok(walk.found)
}

struct Walk {
    context: Context,
    /// The report of the folding.
    report: Report,
    /// How many graphs were met.
    graphs: usize,
    inside: Vec<String>,
    found: Vec<NormNode>,
}

impl Walk {
    fn graph<'a>(&mut self, graph: &Graph<'a>, outer: Option<&Scope<'_, 'a>>) {
        let scope = Scope { graph, outer, context: self.context };
        let index = self.graphs;
        self.graphs += 1;
        for (id, node) in graph.nodes.iter().enumerate() {
            if let Some((norm, parameters)) = operator(node) {
                self.norm(&scope, (index, id), norm, parameters);
            }
            self.inside.push(label(graph, id));
            node.graphs().for_each(|inner| self.graph(inner, Some(&scope)));
            self.inside.pop();
        }
    }

    fn norm(
        &mut self,
        scope: &Scope<'_, '_>,
        place: (usize, NodeId),
        norm: Option<Normalization>,
        parameters: usize,
    ) {
        let node = &scope.graph.nodes[place.1];
        let numbers = numbers(scope, node, parameters);
        let Report { folds, kept, .. } = &self.report;
        let fold = folds.iter().find(|fold| fold.node.place == Some(place)).cloned();
        let kept = kept.iter().find(|kept| kept.node.place == Some(place)).cloned();
        let verdict = match node.op {
            "LayerNormalization" | "RMSNormalization" => Verdict::Nowhere,
            _ => Verdict::Computes,
        };
        let verdict = kept.map_or(verdict, Verdict::Stays);
        self.found.push(NormNode {
            name: label(scope.graph, place.1),
            inside: self.inside.clone(),
            operator: node.op.to_owned(),
            meaning: Some(meaning(self.context.opset, node, norm)),
            health: numbers.as_ref().map(Health::of).unwrap_or_default(),
            numbers,
            verdict: fold.map_or(verdict, Verdict::Folds),
        });
    }
}

/// The normalization that an operator of ONNX's own set is, as [`Semantics::preset`] knows it, and
/// how many of γ, β, mean and variance follow its first input; `None` if it does not normalize.
fn operator(node: &Node<'_>) -> Option<(Option<Normalization>, usize)> {
    let operator = match node.op {
        "BatchNormalization" => (Some(Normalization::Batch), 4),
        "InstanceNormalization" => (Some(Normalization::Instance), 2),
        "LayerNormalization" => (Some(Normalization::Layer), 2),
        "GroupNormalization" => (Some(Normalization::Group), 2),
        "RMSNormalization" => (Some(Normalization::Rms), 1),
        "LpNormalization" | "LRN" | "MeanVarianceNormalization" => (None, 0),
        _ => return None,
    };
    node.domain.is_empty().then_some(operator)
}

/// The numbers of a node; `None` if it has none, or one is not constant.
fn numbers(scope: &Scope<'_, '_>, node: &Node<'_>, parameters: usize) -> Option<Numbers> {
    let [gamma, beta, mean, variance] =
        [1, 2, 3, 4].map(|place| node.input(place).filter(|_| place <= parameters));
    [gamma, beta, mean, variance].into_iter().flatten().next()?;
    let floats = |value: Option<ValueId>| -> Result<_, Refusal> {
        value.map(|value| Ok(scope.floats(value)?.values.to_vec())).transpose()
    };
    Some(Numbers {
        gamma: floats(gamma).ok()?,
        beta: floats(beta).ok()?,
        mean: floats(mean).ok()?,
        variance: floats(variance).ok()?,
        epsilon: epsilon(node).unwrap_or(0.0),
    })
}

/// ε; 1e-5 where it is left out.
fn epsilon(node: &Node<'_>) -> Option<f64> {
    match node.op {
        "LpNormalization" | "LRN" => None,
        // the function that defines the operator adds it to the deviation
        "MeanVarianceNormalization" => Some(1e-9),
        _ => Some(node.float("epsilon", 1e-5)),
    }
}

/// The meaning of a node that normalizes.
fn meaning(opset: i64, node: &Node<'_>, norm: Option<Normalization>) -> Meaning {
    let preset = |layer| {
        Semantics::preset(&format!("onnx-{opset}"), layer).ok().map(|semantics| semantics.name)
    };
    let axis = node.integer("axis", -1);
    let mut statistics = Statistics::Input;
    let words = match node.op {
        "BatchNormalization" => {
            let source = batch_statistics(opset, node);
            statistics = source.map_or(Statistics::Fixed, |_| Statistics::Batch);
            match source {
                Some(attribute) => format!("each batch's statistics ({attribute}) of axis 1"),
                None if opset < 9 && node.integer("spatial", 1) == 0 => {
                    "fixed statistics for each element (spatial=0)".into()
                }
                None => "fixed statistics of axis 1".into(),
            }
        }
        "InstanceNormalization" => "over the positions of each channel and sample".into(),
        "LayerNormalization" => format!("over the axes from {axis} on"),
        "RMSNormalization" => format!("mean square over the axes from {axis} on"),
        "GroupNormalization" => {
            let groups = match node.integer("num_groups", 0) {
                1 => "1 group".to_owned(),
                groups => format!("{groups} groups"),
            };
            format!("over {groups} of axis 1 and all positions")
        }
        "LpNormalization" => format!("L{} length over axis {axis}", node.integer("p", 2)),
        "LRN" => {
            let (size, alpha) = (node.integer("size", 0), node.float("alpha", 1e-4));
            let (beta, bias) = (node.float("beta", 0.75), node.float("bias", 1.0));
            format!(
                "squares of {size} neighbours on axis 1, alpha {alpha:.3e}, beta {beta}, bias \
                 {bias}"
            )
        }
        _ => {
            let axes = node.integers("axes").unwrap_or_else(|| vec![0, 2, 3]);
            format!("over the axes {axes:?}, without γ and β")
        }
    };
    let preset = norm.and_then(preset);
    Meaning { preset, epsilon: epsilon(node), statistics, words }
}
