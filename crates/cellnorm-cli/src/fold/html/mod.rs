//! What was done, as a page: how much is gone, the graph with its folds as arcs, the proof, and
//! what stays.

use std::fmt::Write;

use cellnorm_onnx::fold::Unfolded;

use super::{Story, text};
use crate::numbers::{escape, thousands};
use crate::report;

mod graph;
mod proof;

const STYLE: &str = include_str!("style.css");

/// The page.
pub fn page(story: &Story<'_>) -> String {
    let name = story
        .source
        .path()
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name = escape(&name);
    let body = [
        header(story, &name),
        counts(story),
        graph::section(story),
        proof::section(story),
        kept(story),
        facts(story),
    ];
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta \
         name=\"color-scheme\" content=\"light dark\">\n<title>{name}, \
         folded</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\\
         n</html>\n",
        report::style(),
        body.concat()
    )
}

fn header(story: &Story<'_>, name: &str) -> String {
    let report = &story.folded.report;
    let gone = report.before.batch_norms.saturating_sub(report.after.batch_norms);
    let proven = match story.certificate {
        Some(certificate) if certificate.holds => {
            " Each fold is proven with the weights that were written."
        }
        Some(_) => " <strong>The check failed.</strong>",
        None => " Nothing was written, and nothing checked.",
    };
    format!(
        "<header>\n<h1>{name}, folded</h1>\n<p><strong>{}</strong> of {} batch normalizations \
         became part of the layers beside them.{proven}</p>\n</header>\n",
        thousands(gone),
        thousands(report.before.batch_norms)
    )
}

/// Before and after, a pair of bars for each quantity.
fn counts(story: &Story<'_>) -> String {
    let report = &story.folded.report;
    let whole = |number: usize| (number as f64, thousands(number));
    let mut rows = vec![
        ("batch normalizations", whole(report.before.batch_norms), whole(report.after.batch_norms)),
        ("nodes", whole(report.before.nodes), whole(report.after.nodes)),
    ];
    if let Some(run) = story.certificate.and_then(|certificate| certificate.run.compared()) {
        let time = |ms: f64| (ms, format!("{ms:.2} ms"));
        rows.push(("time of a run", time(run.before_ms), time(run.after_ms)));
    }
    let bar = |class: &str, value: f64, largest: f64, label: &str| {
        let share = if largest > 0.0 { 100.0 * value / largest } else { 0.0 };
        format!(
            "<div class=\"bar {class}\"><i \
             style=\"width:{share:.1}%\"></i><span>{label}</span></div>"
        )
    };
    let mut list = String::new();
    for (name, (before, before_label), (after, after_label)) in rows {
        let largest = before.max(after);
        // Writing to a String cannot fail.
        let _ = writeln!(
            list,
            "<dt>{name}</dt><dd>{}{}</dd>",
            bar("before", before, largest, &before_label),
            bar("after", after, largest, &after_label)
        );
    }
    format!(
        "<section>\n<h2>Before and after</h2>\n<dl class=\"counts\">\n{list}</dl>\n</section>\n"
    )
}

fn kept(story: &Story<'_>) -> String {
    let kept = &story.folded.report.kept;
    if kept.is_empty() {
        return String::new();
    }
    let other = |kept: &Unfolded| match &kept.other_way {
        Some(other) => format!("; the other way {} at {}", other.reason.code(), escape(&other.at)),
        None => String::new(),
    };
    let row = |kept: &Unfolded| {
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{} at {}{}</td><td \
             class=\"words\">{}</td></tr>\n",
            escape(&kept.node.name),
            escape(&kept.node.op),
            kept.reason.code(),
            escape(&kept.at),
            other(kept),
            escape(kept.advice)
        )
    };
    let rows: String = kept.iter().map(row).collect();
    format!(
        "<section>\n<h2>What stays</h2>\n<p>Where a fold would not be exact, the node is \
         kept.</p>\n<div class=\"scroll\"><table \
         class=\"kept\">\n<thead><tr><th>node</th><th>operator</th><th>reason</th><th>what it \
         means</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n</section>\n"
    )
}

fn facts(story: &Story<'_>) -> String {
    let mut rows = vec![("Model", escape(&story.source.path().display().to_string()))];
    if let Some((path, bytes)) = story.written {
        rows.push((
            "Written to",
            format!("{}, {} bytes", escape(&path.display().to_string()), thousands(bytes as usize)),
        ));
    }
    if let Some(certificate) = story.certificate {
        rows.push(("Checked", escape(&text::checked(certificate)).replace('\n', "<br>")));
    }
    rows.push(("Version", format!("cellnorm {}", env!("CARGO_PKG_VERSION"))));
    let list: String =
        rows.iter().map(|(term, text)| format!("<dt>{term}</dt><dd>{text}</dd>\n")).collect();
    format!("<section>\n<h2>How this was made</h2>\n<dl>\n{list}</dl>\n</section>\n")
}
