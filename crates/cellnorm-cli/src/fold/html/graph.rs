//! The graph as a column of nodes; each fold is an arc from the node that is gone to the layers
//! that hold it now.

use std::collections::HashMap;
use std::fmt::Write;

use cellnorm_onnx::proto::graph::Graph;

use crate::fold::Story;
use crate::numbers::{escape, thousands};

/// Nodes that are drawn; a page of more is slow in a browser.
const MOST: usize = 3000;
/// The height of a row, and the place of the column of nodes.
const ROW: f64 = 20.0;
const LEFT: f64 = 150.0;

/// What a node of the figure is.
struct Row {
    name: String,
    op: String,
    depth: usize,
}

/// The figure and its words.
pub fn section(story: &Story<'_>) -> String {
    let Ok(model) = story.source.model() else { return String::new() };
    let mut rows = Vec::new();
    collect(&model.graph, 0, &mut rows);
    let all = rows.len();
    rows.truncate(MOST);
    let places: HashMap<&str, usize> =
        rows.iter().enumerate().map(|(place, row)| (row.name.as_str(), place)).collect();
    let report = &story.folded.report;
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
                arcs.push_str(&arc(*from, *to));
            }
        }
    }
    let mut nodes = String::new();
    for (place, row) in rows.iter().enumerate() {
        let class = class.get(row.name.as_str()).copied().unwrap_or("other");
        let (x, y) = (LEFT + 16.0 * row.depth as f64, ROW * (place as f64 + 0.5));
        // Writing to a String cannot fail.
        let _ = writeln!(
            nodes,
            "<g class=\"{class}\"><circle cx=\"{x}\" cy=\"{y}\" r=\"5\"/><text x=\"{}\" \
             y=\"{}\">{} <tspan>{}</tspan></text></g>",
            x + 12.0,
            y + 4.5,
            escape(&row.op),
            escape(&row.name)
        );
    }
    let height = ROW * rows.len() as f64;
    let more = match all - rows.len() {
        0 => String::new(),
        more => format!(" The last {} nodes are not drawn.", thousands(more)),
    };
    format!(
        "<section>\n<h2>The graph</h2>\n<p>Each node in the order of the file but constants. \
         <span class=\"key gone\">Gone</span>, with an arc to <span class=\"key holds\">the layer \
         that holds it now</span>; <span class=\"key stays\">stays</span>.{more}</p>\n<div \
         class=\"scroll tall\"><svg class=\"graph\" viewBox=\"0 0 900 {height}\" width=\"900\" \
         height=\"{height}\" role=\"img\" aria-label=\"the nodes of the graph and the \
         folds\">\n{arcs}{nodes}</svg></div>\n</section>\n"
    )
}

fn collect(graph: &Graph<'_>, depth: usize, rows: &mut Vec<Row>) {
    for node in graph.nodes.iter().filter(|node| !node.op.starts_with("Constant")) {
        let made = node
            .outputs
            .iter()
            .flatten()
            .next()
            .map(|output| graph.values[*output].name.to_string());
        let name =
            if node.name.is_empty() { made.unwrap_or_default() } else { node.name.to_owned() };
        rows.push(Row { name, op: node.op.to_owned(), depth });
        for inner in node.attributes.iter().flat_map(|attribute| &attribute.graphs) {
            collect(inner, depth + 1, rows);
        }
    }
}

/// An arc on the left of the column, wider the further it reaches.
fn arc(from: usize, to: usize) -> String {
    let (y1, y2) = (ROW * (from as f64 + 0.5), ROW * (to as f64 + 0.5));
    let x = LEFT - 8.0;
    let reach = (12.0 + 1.2 * (y2 - y1).abs()).min(LEFT - 20.0);
    format!("<path class=\"arc\" d=\"M{x} {y1} C{0} {y1} {0} {y2} {x} {y2}\"/>\n", x - reach)
}
