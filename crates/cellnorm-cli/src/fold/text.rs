//! The outcome of a fold as tables for the terminal.

use std::collections::BTreeMap;

use cellnorm_onnx::check::{self, Certificate};
use cellnorm_onnx::fold::{Direction, Fold, Report, Unfolded};

use super::{FoldError, Outcome};
use crate::format::{counted, join, paragraphs, sparse_table, thousands};

/// Rows of a table; further rows are counted.
const MOST_ROWS: usize = 24;

pub fn report(outcome: &Outcome<'_>, width: usize) -> String {
    let report = &outcome.folded.report;
    paragraphs([
        heading(outcome),
        listed(
            report.folds.iter().map(fold_row).collect(),
            ["folded", "channels", "into", "direction", "through"],
            width,
        ),
        listed(
            report.kept.iter().map(kept_row).collect(),
            ["kept", "operator", "reason", "seen at"],
            width,
        ),
        advice(report.kept.iter().map(|kept| (kept.reason.code(), kept.advice))),
        outcome.certificate.map(checked).unwrap_or_default(),
        place(outcome),
    ])
}

/// One line: how much is gone.
pub fn heading(outcome: &Outcome<'_>) -> String {
    let report = &outcome.folded.report;
    let (before, after) = (report.before, report.after);
    format!(
        "{}: {} of {} folded; {} before, {} after\n",
        outcome.source.path().display(),
        thousands(before.batch_norms.saturating_sub(after.batch_norms)),
        counted(before.batch_norms, "batch normalization"),
        counted(before.nodes, "node"),
        thousands(after.nodes)
    )
}

fn fold_row(fold: &Fold) -> [String; 5] {
    [
        fold.node.name.clone(),
        fold.channels.to_string(),
        targets(fold),
        direction(fold).into(),
        fold.through.join(", "),
    ]
}

pub fn targets(fold: &Fold) -> String {
    join(fold.targets.iter().map(|target| &target.name), ", ")
}

pub fn direction(fold: &Fold) -> &'static str {
    match fold.direction {
        Direction::Backward => "backward",
        Direction::Forward => "forward",
    }
}

fn kept_row(kept: &Unfolded) -> [String; 4] {
    [kept.node.name.clone(), kept.node.op.clone(), kept.reason.code().into(), kept.at.clone()]
}

fn listed<const N: usize>(rows: Vec<[String; N]>, heads: [&str; N], width: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let (table, _, _, more) = sparse_table(heads, &rows, MOST_ROWS, width);
    format!("{table}\n{more}")
}

/// The meaning of each reason, once.
pub fn advice<'a>(reasons: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let reasons: BTreeMap<&str, &str> = reasons.collect();
    reasons.iter().map(|(code, advice)| format!("{code}: {advice}.\n")).collect()
}

pub fn checked(certificate: &Certificate) -> String {
    let worst = certificate.proofs.iter().map(|proof| proof.share).fold(0.0, f64::max);
    let mut text = format!(
        "proof: {}, each alone in float64, with the weights as they were written: differences at \
         most {worst:.2} of what rounding explains\n",
        counted(certificate.proofs.len(), "layer")
    );
    text += &match &certificate.run {
        check::Outcome::NotRun(problem) => format!("whole model: not run; {problem}\n"),
        check::Outcome::Compared(run) => format!(
            "whole model in {}, {}: largest difference {:.1e} of the largest number (allowed \
             {:.1e}), {:.1e} at the outputs{}{}; a run takes {:.2} ms before, {:.2} ms after\n",
            run.runtime,
            counted(run.runs, "input"),
            run.largest_relative,
            certificate.tolerance,
            run.largest_difference,
            match run.same_largest {
                (_, 0) => String::new(),
                (same, all) => format!(
                    ", largest number at the same place in {} of {}",
                    thousands(same),
                    counted(all, "row")
                ),
            },
            match run.not_finite_before {
                0 => String::new(),
                count => format!(
                    ", {} infinite or NaN before the fold left out",
                    counted(count, "number")
                ),
            },
            run.before_ms,
            run.after_ms
        ),
    };
    text
}

pub fn failure(certificate: &Certificate) -> String {
    let unproven: Vec<&str> = certificate
        .proofs
        .iter()
        .filter(|proof| proof.share > 1.0)
        .map(|proof| proof.layer.name.as_str())
        .collect();
    match (unproven.as_slice(), certificate.run.compared()) {
        ([], Some(run)) => format!(
            "an output differs by {:.1e} of its largest number, and {:.1e} is allowed",
            run.largest_relative, certificate.tolerance
        ),
        (layers, _) => format!("these layers are not what they were: {}", layers.join(", ")),
    }
}

fn place(outcome: &Outcome<'_>) -> String {
    match outcome.written {
        Some((path, bytes)) => format!(
            "written to {} ({}; {} before)\n",
            path.display(),
            counted(bytes, "byte"),
            thousands(outcome.source.bytes().len())
        ),
        None => "nothing written\n".into(),
    }
}

pub fn explain(report: &Report, name: &str) -> Result<String, FoldError> {
    let mut text = String::new();
    for fold in report.folds.iter().filter(|fold| {
        fold.node.is_called(name) || fold.targets.iter().any(|into| into.is_called(name))
    }) {
        let targets = fold.targets.iter().map(|into| format!("{} ({})", into.name, into.op));
        let steps = match fold.through.as_slice() {
            [] => String::new(),
            nodes => format!(", through {}", nodes.join(", ")),
        };
        let (node, op, channels) = (&fold.node.name, &fold.node.op, fold.channels);
        let formula = match fold.direction {
            Direction::Backward => {
                "W'[o] = a[o] W[o], b'[o] = a[o] b[o] + c[o] for each output o: the scale a and \
                 the shift c of the node's channel"
            }
            Direction::Forward => {
                "W'[o, i] = W[o, i] a[i], b'[o] = b[o] + sum of W[o, i] c[i] for each input i: the \
                 scale a and the shift c of the node's channel"
            }
        };
        text += &format!(
            "{node} ({op}, {}) became part of {}, {}{steps}.\n{formula}.\n",
            counted(channels, "channel"),
            join(targets, " and "),
            direction(fold)
        );
    }
    for kept in report.kept.iter().filter(|kept| kept.node.is_called(name)) {
        text += &format!(
            "{} ({}) stays: {}, seen at {}.\n{}.\n",
            kept.node.name,
            kept.node.op,
            kept.reason.code(),
            kept.at,
            kept.advice
        );
        if let Some(other) = &kept.other_way {
            text += &format!(
                "The other way: {}, seen at {}.\n{}.\n",
                other.reason.code(),
                other.at,
                other.reason.advice()
            );
        }
    }
    if text.is_empty() {
        let folded = report.folds.iter().map(|fold| &fold.node);
        let known = folded.chain(report.kept.iter().map(|kept| &kept.node));
        let known = known.map(|node| node.name.clone()).collect();
        return Err(FoldError::UnknownNode { name: name.into(), known });
    }
    Ok(text)
}
