//! Every pattern of `tests/fixtures/patterns.py`: what is folded and what is kept, and the results
//! beside ONNX Runtime's.

mod inspected;
mod options;
mod pattern;
mod results;

use std::collections::BTreeSet;

use cellnorm_onnx::fold::{self, Options};
use pattern::{Pattern, patterns};

#[test]
fn each_pattern_is_folded_or_kept_as_it_should() {
    let all = patterns();
    assert!(all.len() >= 239, "{} patterns", all.len());
    let wrong: Vec<String> = all.iter().filter_map(difference).collect();
    assert!(wrong.is_empty(), "{}\n{} of {} wrong", wrong.join("\n"), wrong.len(), all.len());
}

/// The difference between the expected folds of a pattern and the actual ones.
fn difference(pattern: &Pattern) -> Option<String> {
    let source = pattern.source();
    let folded = fold::fold(source.model().unwrap(), &Options::default()).unwrap();
    let left: BTreeSet<&str> = names(&folded.model.graph).into_iter().collect();
    let counted =
        pattern.expected.counted.iter().filter(|name| left.contains(name.as_str())).count();
    let kept: Vec<(String, &str)> = folded
        .report
        .kept
        .iter()
        .map(|kept| (kept.node.name.clone(), kept.reason.code()))
        .collect();
    let as_expected = kept.len() == pattern.expected.kept.len()
        && kept.iter().zip(&pattern.expected.kept).all(|((name, reason), expected)| {
            let reasons = expected.also.iter().chain([&expected.reason]);
            expected.node.as_ref().is_none_or(|node| node == name)
                && reasons.into_iter().any(|code| code == reason)
        });
    let batch_norms = folded.report.after.batch_norms;
    let expected = &pattern.expected;
    // what lies inside a function has no node of its own
    let counted = if pattern.name == "local-function" { batch_norms } else { counted };
    (batch_norms != expected.batch_norms_left || counted != expected.left || !as_expected).then(
        || {
            let (left, norms) = (expected.left, expected.batch_norms_left);
            format!(
                "{}: {counted} left for {left}, {batch_norms} norms for {norms}; kept {kept:?}, \
                 expected {:?}",
                pattern.name, expected.kept
            )
        },
    )
}

fn names<'a>(graph: &cellnorm_onnx::proto::Graph<'a>) -> Vec<&'a str> {
    let nodes = graph.nodes.iter().filter(|node| !node.removed);
    nodes
        .flat_map(|node| {
            let inner =
                node.attributes.iter().flat_map(|attribute| &attribute.graphs).flat_map(names);
            std::iter::once(node.name).chain(inner).collect::<Vec<_>>()
        })
        .collect()
}
