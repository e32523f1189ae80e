//! What was done, as tables for the terminal.

use std::collections::BTreeMap;
use std::fmt::Write;

use cellnorm_onnx::check::{Certificate, Outcome};
use cellnorm_onnx::fold::{Direction, Fold, Report, Unfolded};
use comfy_table::ContentArrangement;

use super::Story;
use crate::error::Error;
use crate::numbers::thousands;
use crate::table;

/// Rows of a table; what is more is counted.
const MOST_ROWS: usize = 24;

/// The whole report.
pub fn report(story: &Story<'_>, width: usize) -> String {
    let report = &story.folded.report;
    let parts = [
        heading(story),
        listed(
            report.folds.iter().map(fold_row),
            ["folded", "channels", "into", "direction", "through"],
            width,
        ),
        listed(
            report.kept.iter().map(kept_row),
            ["kept", "operator", "reason", "seen at", ""],
            width,
        ),
        advice(&report.kept),
        story.certificate.map(checked).unwrap_or_default(),
        place(story),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// One line: how much is gone.
pub fn heading(story: &Story<'_>) -> String {
    let report = &story.folded.report;
    let (before, after) = (report.before, report.after);
    format!(
        "{}: {} of {} batch normalizations folded; {} nodes before, {} after\n",
        story.source.path().display(),
        thousands(before.batch_norms.saturating_sub(after.batch_norms)),
        thousands(before.batch_norms),
        thousands(before.nodes),
        thousands(after.nodes)
    )
}

fn fold_row(fold: &Fold) -> [String; 5] {
    let into: Vec<&str> = fold.targets.iter().map(|target| target.name.as_str()).collect();
    [
        fold.node.name.clone(),
        fold.channels.to_string(),
        into.join(", "),
        direction(fold).into(),
        fold.through.join(", "),
    ]
}

/// The way that a map went.
pub fn direction(fold: &Fold) -> &'static str {
    match fold.direction {
        Direction::Backward => "backward",
        Direction::Forward => "forward",
    }
}

fn kept_row(kept: &Unfolded) -> [String; 5] {
    [
        kept.node.name.clone(),
        kept.node.op.clone(),
        kept.reason.code().into(),
        kept.at.clone(),
        String::new(),
    ]
}

fn listed(rows: impl Iterator<Item = [String; 5]>, heads: [&str; 5], width: usize) -> String {
    let rows: Vec<[String; 5]> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let columns: Vec<usize> =
        (0..5).filter(|column| rows.iter().any(|row| !row[*column].is_empty())).collect();
    let mut table = table::plain();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width as u16);
    table.set_header(columns.iter().map(|column| heads[*column]));
    let shown = if rows.len() > MOST_ROWS + 1 { MOST_ROWS } else { rows.len() };
    for row in &rows[..shown] {
        table.add_row(columns.iter().map(|column| row[*column].clone()));
    }
    let more = match rows.len() - shown {
        0 => String::new(),
        more => format!("and {} more; --json names them\n", thousands(more)),
    };
    format!("{table}\n{more}")
}

/// What each reason means, once.
fn advice(kept: &[Unfolded]) -> String {
    let reasons: BTreeMap<&str, &str> =
        kept.iter().map(|kept| (kept.reason.code(), kept.advice)).collect();
    reasons.iter().map(|(code, advice)| format!("{code}: {advice}.\n")).collect()
}

/// What was checked, in lines.
pub fn checked(certificate: &Certificate) -> String {
    let worst = certificate.proofs.iter().map(|proof| proof.share).fold(0.0, f64::max);
    let mut text = format!(
        "proof: {} {}, each alone in float64, with the weights as they were written: differences \
         at most {worst:.2} of what rounding explains\n",
        thousands(certificate.proofs.len()),
        if certificate.proofs.len() == 1 { "layer" } else { "layers" }
    );
    // Writing to a String cannot fail.
    let _ = match &certificate.run {
        Outcome::NotRun(problem) => writeln!(text, "whole model: not run; {problem}"),
        Outcome::Compared(run) => writeln!(
            text,
            "whole model in {}, {} {}: largest difference {:.1e} of the largest number (allowed \
             {:.1e}), {:.1e} at the outputs{}{}; a run takes {:.2} ms before, {:.2} ms after",
            run.runtime,
            thousands(run.runs),
            if run.runs == 1 { "input" } else { "inputs" },
            run.largest_relative,
            certificate.tolerance,
            run.largest_difference,
            match run.same_largest {
                (_, 0) => String::new(),
                (same, all) => format!(
                    ", largest number at the same place in {} of {} rows",
                    thousands(same),
                    thousands(all)
                ),
            },
            match run.not_finite_before {
                0 => String::new(),
                count => format!(
                    ", {} numbers that are infinite or NaN before the fold left out",
                    thousands(count)
                ),
            },
            run.before_ms,
            run.after_ms
        ),
    };
    text
}

/// Why a check failed.
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

fn place(story: &Story<'_>) -> String {
    match story.written {
        Some((path, bytes)) => {
            let before = story.source.bytes().len();
            format!(
                "written to {} ({} bytes; {} before)\n",
                path.display(),
                thousands(bytes as usize),
                thousands(before)
            )
        }
        None => "nothing written\n".into(),
    }
}

/// What became of one node.
pub fn explain(report: &Report, name: &str) -> Result<String, Error> {
    let mut text = String::new();
    for fold in report.folds.iter().filter(|fold| {
        fold.node.is_called(name) || fold.targets.iter().any(|into| into.is_called(name))
    }) {
        let into: Vec<String> =
            fold.targets.iter().map(|into| format!("{} ({})", into.name, into.op)).collect();
        let through = match fold.through.as_slice() {
            [] => String::new(),
            through => format!(", through {}", through.join(", ")),
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
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{node} ({op}, {channels} channels) became part of {}, {}{through}.\n{formula}.",
            into.join(" and "),
            direction(fold)
        );
    }
    for kept in report.kept.iter().filter(|kept| kept.node.is_called(name)) {
        let _ = writeln!(
            text,
            "{} ({}) stays: {}, seen at {}.\n{}.",
            kept.node.name,
            kept.node.op,
            kept.reason.code(),
            kept.at,
            kept.advice
        );
        if let Some(other) = &kept.other_way {
            let _ = writeln!(
                text,
                "The other way: {}, seen at {}.\n{}.",
                other.reason.code(),
                other.at,
                other.reason.advice()
            );
        }
    }
    if text.is_empty() {
        let known = report
            .folds
            .iter()
            .map(|fold| &fold.node)
            .chain(report.kept.iter().map(|kept| &kept.node));
        return Err(Error::UnknownNode {
            name: name.into(),
            known: known.map(|node| node.name.clone()).collect(),
        });
    }
    Ok(text)
}
