//! The figure as a drawing: a cube whose front is the first sample, or a sheet where there are no
//! positions.
//!
//! Channels go right, positions down, samples to the back; the faces that one sees are the first
//! sample, the first position and the last channel. Colours are the report's, light and dark.

use std::fmt::Write;

use super::figure::{Figure, Item, Side};
use crate::numbers::escape;
use crate::report::palette;

/// One figure and the words around it.
pub struct Panel {
    pub figure: Figure,
    /// The normalization whose colour the marked cells have.
    pub ink: &'static str,
    pub title: String,
    pub caption: String,
}

/// A cell's width and height, that of a gap, and of the space between blocks.
const CELL: f64 = 24.0;
const GAP: f64 = 18.0;
const WALL: f64 = 7.0;
/// How far one sample lies right of and above the one before it, per unit of length.
const BACK: (f64, f64) = (0.5, 0.34);
const MARGIN: f64 = 24.0;
/// A letter's width, at most.
const LETTER: f64 = 7.2;

/// A whole drawing, figures side by side.
pub fn draw(title: &str, panels: &[Panel]) -> String {
    let drawings: Vec<Drawing> = panels.iter().map(Drawing::new).collect();
    let head = 34.0;
    let words = title.chars().count() as f64 * LETTER * 1.5 + 2.0 * MARGIN;
    let width = (drawings.iter().map(|drawing| drawing.width).sum::<f64>() + MARGIN).max(words);
    let height = drawings.iter().map(|drawing| drawing.height).fold(0.0, f64::max) + head + MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" \
         role=\"img\">\n<title>{title}</title>\n<style>\n{}</style>\n<rect class=\"paper\" \
         width=\"100%\" height=\"100%\"/>\n<text class=\"words\" x=\"{MARGIN}\" y=\"34\" \
         font-size=\"17\" font-weight=\"600\">{title}</text>\n",
        style(panels),
        title = escape(title),
    );
    let mut x = 0.0;
    for drawing in &drawings {
        // Writing to a String cannot fail.
        let _ =
            write!(svg, "<g transform=\"translate({x:.1} {head:.1})\">\n{}</g>\n", drawing.body);
        x += drawing.width;
    }
    svg + "</svg>\n"
}

fn style(panels: &[Panel]) -> String {
    let theme = |dark: bool| {
        let color = |name: &str| palette(name, dark);
        let mut inks: Vec<&str> = panels.iter().map(|panel| panel.ink).collect();
        inks.dedup();
        let inks: String =
            inks.iter().map(|ink| format!(".{ink} .on {{ fill: {} }}\n", color(ink))).collect();
        format!(
            ".paper {{ fill: {} }}\n.words {{ fill: {} }}\n.quiet {{ fill: {} }}\n.off {{ fill: \
             {} }}\n.cell, .skip {{ stroke: {} }}\n{inks}",
            color("paper"),
            color("words"),
            color("quiet"),
            color("card"),
            color("quiet"),
        )
    };
    format!(
        "text {{ font-family: system-ui, -apple-system, \"Segoe UI\", Roboto, \"DejaVu Sans\", \
         sans-serif }}\n.cell, .skip {{ stroke-width: 0.8; stroke-linejoin: round }}\n.skip {{ \
         stroke-dasharray: 2 2 }}\n.top {{ opacity: 0.82 }}\n.side {{ opacity: 0.66 }}\n{}@media \
         (prefers-color-scheme: dark) {{\n{}}}\n",
        theme(false),
        theme(true)
    )
}

/// A figure that has become lines and areas, with its size.
struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

/// Where each cell of a side begins, and where the last ends.
fn edges(side: &Side) -> Vec<(f64, f64)> {
    let mut at = 0.0;
    let edge = |item: &Item| {
        let start = at + if item.border { WALL } else { 0.0 };
        at = start + if item.is_gap() { GAP } else { CELL };
        (start, at)
    };
    side.items.iter().map(edge).collect()
}

impl Drawing {
    fn new(panel: &Panel) -> Self {
        let figure = &panel.figure;
        let mut body = format!("<g class=\"{}\">\n", panel.ink);
        let across = edges(&figure.channels);
        let (down_side, depth_side) = match &figure.positions {
            Some(positions) => (positions, Some(&figure.samples)),
            None => (&figure.samples, None),
        };
        // tall enough for the words beside it
        let tall = down_side.title.chars().count() as f64 * LETTER / end(&edges(down_side));
        let down: Vec<_> = edges(down_side)
            .into_iter()
            .map(|(y, to)| (y * tall.max(1.0), to * tall.max(1.0)))
            .collect();
        let depth = depth_side.map_or_else(Vec::new, edges);
        let (w, h) = (end(&across), end(&down));
        let (back_x, back_y) = (end(&depth) * BACK.0, end(&depth) * BACK.1);

        let widest =
            down_side.items.iter().map(|item| item.label.len()).max().unwrap_or(0) as f64 * LETTER;
        let left = MARGIN + 22.0 + widest;
        let title = if panel.title.is_empty() { 0.0 } else { 42.0 };
        let top = MARGIN + title + back_y;
        // a point by its distance right, down and back from the front's upper left corner
        let at = |x: f64, y: f64, z: f64| (left + x + z * BACK.0, top + y - z * BACK.1);

        if let Some(samples) = depth_side {
            let first_row = &down_side.items[0];
            let last_column = &figure.channels.items[figure.channels.items.len() - 1];
            for (sample, z) in samples.items.iter().zip(&depth).rev() {
                for (column, x) in figure.channels.items.iter().zip(&across) {
                    let corners = [
                        at(x.0, 0.0, z.0),
                        at(x.1, 0.0, z.0),
                        at(x.1, 0.0, z.1),
                        at(x.0, 0.0, z.1),
                    ];
                    face(&mut body, "top", corners, &[sample, first_row, column]);
                }
                for (row, y) in down_side.items.iter().zip(&down) {
                    let corners =
                        [at(w, y.0, z.0), at(w, y.0, z.1), at(w, y.1, z.1), at(w, y.1, z.0)];
                    face(&mut body, "side", corners, &[sample, row, last_column]);
                }
            }
        }
        let first_sample = depth_side.map(|samples| &samples.items[0]);
        for (row, y) in down_side.items.iter().zip(&down) {
            for (column, x) in figure.channels.items.iter().zip(&across) {
                let corners =
                    [at(x.0, y.0, 0.0), at(x.1, y.0, 0.0), at(x.1, y.1, 0.0), at(x.0, y.1, 0.0)];
                let mut items = vec![row, column];
                items.extend(first_sample);
                face(&mut body, "front", corners, &items);
            }
        }
        body += "</g>\n";

        for (item, x) in figure.channels.items.iter().zip(&across) {
            small(&mut body, (left + (x.0 + x.1) / 2.0, top + h + 14.0), "middle", tick(item, "⋯"));
        }
        for (item, y) in down_side.items.iter().zip(&down) {
            small(&mut body, (left - 6.0, top + (y.0 + y.1) / 2.0 + 4.0), "end", tick(item, "⋮"));
        }
        for (item, z) in depth_side.iter().flat_map(|side| &side.items).zip(&depth) {
            let (x, y) = at(w, h, (z.0 + z.1) / 2.0);
            small(&mut body, (x + 5.0, y + 9.0), "start", tick(item, "⋰"));
        }
        words(&mut body, (left + w / 2.0, top + h + 33.0), "middle", &figure.channels.title);
        let (x, y) = (left - 14.0 - widest, top + h / 2.0);
        let _ = writeln!(
            body,
            "<text class=\"words\" font-size=\"12\" text-anchor=\"middle\" \
             transform=\"translate({x:.1} {y:.1}) rotate(-90)\">{}</text>",
            down_side.title
        );
        let mut right = left + w + back_x + 30.0;
        if let Some(samples) = depth_side {
            let (x, y) = at(w, h, end(&depth) / 2.0);
            words(&mut body, (x + 24.0, y + 24.0), "start", &samples.title);
            right = right.max(x + 24.0 + samples.title.chars().count() as f64 * LETTER);
        }
        if !panel.title.is_empty() {
            let text = escape(&panel.title);
            let _ = writeln!(
                body,
                "<text class=\"words\" x=\"{MARGIN}\" y=\"48\" font-size=\"14\" \
                 font-weight=\"600\">{text}</text>"
            );
        }
        for (i, line) in panel.caption.lines().enumerate() {
            small(&mut body, (MARGIN, top + h + 58.0 + 16.0 * i as f64), "start", line);
            right = right.max(MARGIN + line.chars().count() as f64 * LETTER * 0.9);
        }
        right = right.max(MARGIN + panel.title.chars().count() as f64 * LETTER * 1.2);
        Self {
            body,
            width: right + MARGIN / 2.0,
            height: top + h + 58.0 + 16.0 * panel.caption.lines().count() as f64,
        }
    }
}

fn end(edges: &[(f64, f64)]) -> f64 {
    edges.last().map_or(0.0, |edge| edge.1)
}

/// One cell on a face of the cube, in the set if it is so along every side.
fn face(body: &mut String, face: &str, corners: [(f64, f64); 4], items: &[&Item]) {
    let state = if items.iter().all(|item| item.on) { "on" } else { "off" };
    // a cell at the edge of the cube stands for its own index, never for what is left out
    let kind = if items.iter().any(|item| item.is_gap()) { "skip" } else { "cell" };
    let points: Vec<String> = corners.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        body,
        "<polygon class=\"{kind} {face} {state}\" points=\"{}\"/>",
        points.join(" ")
    );
}

fn tick<'a>(item: &'a Item, gap: &'a str) -> &'a str {
    if item.is_gap() { gap } else { &item.label }
}

fn small(body: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = escape(text);
    let _ = writeln!(
        body,
        "<text class=\"quiet\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"11\" \
         text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn words(body: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = escape(text);
    let _ = writeln!(
        body,
        "<text class=\"words\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"12\" \
         text-anchor=\"{anchor}\">{text}</text>"
    );
}
