//! The outcome of a fold as a page: counts, the graph with folds as arcs, the proof, what stays.

use std::collections::HashMap;

use cellnorm_onnx::fold::Unfolded;
use cellnorm_onnx::proto::Graph;

use super::{Outcome, text};
use crate::format::{counted, thousands};
use crate::page::{self, escape};

const STYLE: &str = include_str!("style.css");

pub fn page(outcome: &Outcome<'_>) -> String {
    let name = outcome.source.path().file_name().unwrap_or_default().to_string_lossy();
    let sections =
        [counts(outcome), graph(outcome), proof(outcome), kept(outcome), conditions(outcome)];
    page::render(&format!("{}, folded", escape(&name)), STYLE, &lead(outcome), &sections)
}

fn lead(outcome: &Outcome<'_>) -> String {
    let report = &outcome.folded.report;
    let all = report.before.batch_norms;
    let gone = thousands(all.saturating_sub(report.after.batch_norms));
    let all = counted(all, "batch normalization");
    let proven = match outcome.certificate {
        Some(certificate) if certificate.holds => {
            " Each fold is proven with the weights that were written."
        }
        Some(_) => " <strong>The check failed.</strong>",
        None => " Nothing was written, and nothing checked.",
    };
    format!(
        "<p><strong>{gone}</strong> of {all} became part of the layers beside them.{proven}</p>"
    )
}

/// Before and after, a pair of bars for each quantity.
fn counts(outcome: &Outcome<'_>) -> String {
    let (before, after) = (outcome.folded.report.before, outcome.folded.report.after);
    let row = |name: &str, numbers: [f64; 2], labels: [String; 2]| {
        let largest = numbers[0].max(numbers[1]);
        let bar = |class: &str, place: usize| {
            let share = if largest > 0.0 { 100.0 * numbers[place] / largest } else { 0.0 };
            format!(
                "<div class=\"bar {class}\"><i style=\"width:{share:.1}%\"></i>\
                 <span>{}</span></div>",
                labels[place]
            )
        };
        format!("<dt>{name}</dt><dd>{}{}</dd>\n", bar("before", 0), bar("after", 1))
    };
    let counted = |name: &str, numbers: [usize; 2]| {
        row(name, numbers.map(|number| number as f64), numbers.map(thousands))
    };
    let mut list = counted("batch normalizations", [before.batch_norms, after.batch_norms])
        + &counted("nodes", [before.nodes, after.nodes]);
    if let Some(run) = outcome.certificate.and_then(|certificate| certificate.run.compared()) {
        let times = [run.before_ms, run.after_ms];
        list += &row("time of a run", times, times.map(|ms| format!("{ms:.2} ms")));
    }
    page::section("Before and after", &format!("<dl class=\"counts\">\n{list}</dl>\n"))
}

/// Nodes that are drawn; a browser is slow with more.
const MOST_NODES: usize = 3000;
/// The height of a row, and the place of the column of nodes.
const ROW_HEIGHT: f64 = 20.0;
const COLUMN: f64 = 150.0;

struct GraphRow {
    name: String,
    op: String,
    depth: usize,
}

/// The graph as a column of nodes; a fold is an arc from a node to the layers that hold it now.
fn graph(outcome: &Outcome<'_>) -> String {
    let Ok(model) = outcome.source.model() else { return String::new() };
    let mut rows = Vec::new();
    collect(&model.graph, 0, &mut rows);
    let all = rows.len();
    rows.truncate(MOST_NODES);
    let places: HashMap<&str, usize> =
        rows.iter().enumerate().map(|(place, row)| (row.name.as_str(), place)).collect();
    let report = &outcome.folded.report;
    let mut arcs = String::new();
    let mut class: HashMap<&str, &str> = HashMap::new();
    for kept in &report.kept {
        class.insert(&kept.node.name, "stays");
    }
    for fold in &report.folds {
        class.insert(&fold.node.name, "gone");
        for target in &fold.targets {
            class.entry(&target.name).or_insert("holds");
            if let (Some(from), Some(to)) =
                (places.get(fold.node.name.as_str()), places.get(target.name.as_str()))
            {
                arcs += &arc(*from, *to);
            }
        }
    }
    let mut nodes = String::new();
    for (place, row) in rows.iter().enumerate() {
        let class = class.get(row.name.as_str()).copied().unwrap_or("other");
        let (x, y) = (COLUMN + 16.0 * row.depth as f64, ROW_HEIGHT * (place as f64 + 0.5));
        let (text_x, text_y) = (x + 12.0, y + 4.5);
        let (op, name) = (escape(&row.op), escape(&row.name));
        nodes += &format!(
            "<g class=\"{class}\"><circle cx=\"{x}\" cy=\"{y}\" r=\"5\"/><text x=\"{text_x}\" \
             y=\"{text_y}\">{op} <tspan>{name}</tspan></text></g>\n"
        );
    }
    let height = ROW_HEIGHT * rows.len() as f64;
    let more = match all - rows.len() {
        0 => String::new(),
        more => format!(" Not drawn: the last {}.", counted(more, "node")),
    };
    let body = format!(
        "<p>Each node in the order of the file, except constants. \
         <span class=\"key gone\">Gone</span>, with an arc to <span class=\"key holds\">the layer \
         that holds it now</span>; <span class=\"key stays\">stays</span>.{more}</p>\n<div \
         class=\"scroll tall\"><svg class=\"graph\" viewBox=\"0 0 900 {height}\" width=\"900\" \
         height=\"{height}\" role=\"img\" aria-label=\"the nodes of the graph and the \
         folds\">\n{arcs}{nodes}</svg></div>\n"
    );
    page::section("The graph", &body)
}

fn collect(graph: &Graph<'_>, depth: usize, rows: &mut Vec<GraphRow>) {
    for node in graph.nodes.iter().filter(|node| !node.op.starts_with("Constant")) {
        let output = node.outputs.iter().flatten().next();
        let name = match node.name.is_empty() {
            true => output.map_or(String::new(), |output| graph.values[*output].name.to_string()),
            false => node.name.to_owned(),
        };
        rows.push(GraphRow { name, op: node.op.to_owned(), depth });
        for inner in node.attributes.iter().flat_map(|attribute| &attribute.graphs) {
            collect(inner, depth + 1, rows);
        }
    }
}

/// An arc on the left of the column, wider the further it reaches.
fn arc(from: usize, to: usize) -> String {
    let (y1, y2) = (ROW_HEIGHT * (from as f64 + 0.5), ROW_HEIGHT * (to as f64 + 0.5));
    let x = COLUMN - 8.0;
    let reach = (12.0 + 1.2 * (y2 - y1).abs()).min(COLUMN - 20.0);
    format!("<path class=\"arc\" d=\"M{x} {y1} C{0} {y1} {0} {y2} {x} {y2}\"/>\n", x - reach)
}

/// The size of the bars' drawing, and the lower left corner of the first bar.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 160.0;
const BASE: f64 = 130.0;
const LEFT: f64 = 40.0;

/// The proof as bars: the difference of each layer, as a share of what rounding explains.
fn proof(outcome: &Outcome<'_>) -> String {
    let proofs = outcome.certificate.map_or(&[][..], |certificate| &certificate.proofs);
    if proofs.is_empty() {
        return String::new();
    }
    let step = (WIDTH - LEFT) / proofs.len() as f64;
    let mut bars = String::new();
    for (place, proof) in proofs.iter().enumerate() {
        let (share, name) = (proof.share, escape(&proof.layer.name));
        let class = if share <= 1.0 { "holds" } else { "stays" };
        let (x, width) = (LEFT + step * place as f64, (step * 0.8).min(40.0));
        let height = 100.0 * share.min(1.2);
        let (y, height) = (BASE - height, height.max(0.5));
        bars += &format!(
            "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" \
             height=\"{height:.2}\"><title>{name}: {share:.3}</title></rect>\n"
        );
    }
    let line = |share: f64, class: &str| {
        let y = BASE - 100.0 * share;
        format!(
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\"/><text \
             x=\"4\" y=\"{}\">{share}</text>\n",
            y + 4.0
        )
    };
    let body = format!(
        "<p>Each of the {} changed layers was computed in 64 bits \
         on random numbers: as it was, followed or preceded by its normalizations, and as it was \
         written. A bar is the difference as a share of what rounding the weights explains; at 1 \
         or below the layer is proven.</p>\n<svg class=\"proof\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" aria-label=\"the share of each layer\">\n{}{}{}{bars}</svg>\n",
        proofs.len(),
        line(0.0, "axis"),
        line(0.5, "axis"),
        line(1.0, "limit")
    );
    page::section("The proof", &body)
}

fn kept(outcome: &Outcome<'_>) -> String {
    let kept = &outcome.folded.report.kept;
    if kept.is_empty() {
        return String::new();
    }
    let other = |kept: &Unfolded| match &kept.other_way {
        Some(other) => format!("; the other way {} at {}", other.reason.code(), escape(&other.at)),
        None => String::new(),
    };
    let row = |kept: &Unfolded| {
        let [name, op, at, advice] =
            [&kept.node.name, &kept.node.op, &kept.at, kept.advice].map(escape);
        let (reason, other) = (kept.reason.code(), other(kept));
        format!(
            "<tr><th scope=\"row\">{name}</th><td>{op}</td><td>{reason} at {at}{other}</td><td \
             class=\"words\">{advice}</td></tr>\n"
        )
    };
    let heads = "<th>node</th><th>operator</th><th>reason</th><th>what it means</th>";
    let table = page::table(" class=\"kept\"", heads, &kept.iter().map(row).collect::<String>());
    let words = "<p>Where a fold would not be exact, the node is kept.</p>\n";
    page::section("What stays", &(words.to_owned() + &table))
}

fn conditions(outcome: &Outcome<'_>) -> String {
    let mut rows = vec![("Model", escape(&outcome.source.path().display().to_string()))];
    if let Some((path, bytes)) = outcome.written {
        let path = escape(&path.display().to_string());
        rows.push(("Written to", format!("{path}, {}", counted(bytes, "byte"))));
    }
    if let Some(certificate) = outcome.certificate {
        rows.push(("Checked", escape(&text::checked(certificate)).replace('\n', "<br>")));
    }
    rows.push(("Version", format!("cellnorm {}", env!("CARGO_PKG_VERSION"))));
    page::conditions(rows)
}
