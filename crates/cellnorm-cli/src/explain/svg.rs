//! The cube as SVG: channels go right, positions down, samples to the back; the visible faces are
//! the first sample, the first position and the last channel. Without positions it is a sheet of
//! samples and channels. Colours are the report's, light and dark.

use super::cube::{Cube, Item, Side};
use crate::page::{escape, palette};

pub struct Panel {
    pub cube: Cube,
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

/// A whole drawing, with the panels side by side.
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
        svg += &format!("<g transform=\"translate({x:.1} {head:.1})\">\n{}</g>\n", drawing.body);
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

/// A cell, and where it begins and ends.
type Placed<'a> = (&'a Item, f64, f64);

/// The cells of a side, `stretch` times as long as usual.
fn placed<'a>(side: &'a Side, stretch: f64) -> Vec<Placed<'a>> {
    let mut end = 0.0;
    let place = |item: &'a Item| {
        let start = end + if item.border { WALL } else { 0.0 };
        end = start + if item.is_gap() { GAP } else { CELL };
        (item, start * stretch, end * stretch)
    };
    side.items.iter().map(place).collect()
}

fn end(cells: &[Placed]) -> f64 {
    cells.last().map_or(0.0, |cell| cell.2)
}

fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

/// The sides of a cube as they are drawn, and the front's upper left corner.
struct Frame<'a> {
    columns: Vec<Placed<'a>>,
    rows: Vec<Placed<'a>>,
    /// No samples where they are the rows.
    samples: Vec<Placed<'a>>,
    left: f64,
    top: f64,
}

impl<'a> Frame<'a> {
    fn new(cube: &'a Cube, row_side: &'a Side, left: f64, top: f64) -> Self {
        // tall enough for the words beside it
        let tall = (text_width(&row_side.title) / end(&placed(row_side, 1.0))).max(1.0);
        let samples = match cube.positions {
            Some(_) => placed(&cube.samples, 1.0),
            None => vec![],
        };
        let top = top + end(&samples) * BACK.1;
        let (columns, rows) = (placed(&cube.channels, 1.0), placed(row_side, tall));
        Self { columns, rows, samples, left, top }
    }

    /// A point by its distance right, down and back from the front's upper left corner.
    fn point(&self, (x, y, z): (f64, f64, f64)) -> (f64, f64) {
        (self.left + x + z * BACK.0, self.top + y - z * BACK.1)
    }

    /// The faces, the hindmost first.
    fn faces(&self) -> String {
        let (first_row, last_column) = (self.rows[0].0, self.columns[self.columns.len() - 1].0);
        let w = end(&self.columns);
        let mut body = String::new();
        for &(sample, z, z_to) in self.samples.iter().rev() {
            for &(column, x, x_to) in &self.columns {
                let corners = [(x, 0.0, z), (x_to, 0.0, z), (x_to, 0.0, z_to), (x, 0.0, z_to)];
                body += &self.face("top", corners, &[sample, first_row, column]);
            }
            for &(row, y, y_to) in &self.rows {
                let corners = [(w, y, z), (w, y, z_to), (w, y_to, z_to), (w, y_to, z)];
                body += &self.face("side", corners, &[sample, row, last_column]);
            }
        }
        let first_sample = self.samples.first().map(|sample| sample.0);
        for &(row, y, y_to) in &self.rows {
            for &(column, x, x_to) in &self.columns {
                let corners = [(x, y, 0.0), (x_to, y, 0.0), (x_to, y_to, 0.0), (x, y_to, 0.0)];
                let items: Vec<&Item> = [row, column].into_iter().chain(first_sample).collect();
                body += &self.face("front", corners, &items);
            }
        }
        body
    }

    /// One cell on a face of the cube; it is in the set if it is in the set along every side.
    fn face(&self, face: &str, corners: [(f64, f64, f64); 4], items: &[&Item]) -> String {
        let state = if items.iter().all(|item| item.marked) { "on" } else { "off" };
        // a cell at the edge of the cube stands for its own index, never for cells left out
        let kind = if items.iter().any(|item| item.is_gap()) { "skip" } else { "cell" };
        let points =
            corners.map(|corner| self.point(corner)).map(|(x, y)| format!("{x:.1},{y:.1}"));
        format!("<polygon class=\"{kind} {face} {state}\" points=\"{}\"/>\n", points.join(" "))
    }

    /// The indices along the visible edges.
    fn ticks(&self) -> String {
        let (w, h) = (end(&self.columns), end(&self.rows));
        let label = |item: &Item, gap: &str| {
            if item.is_gap() { gap.to_owned() } else { item.label.clone() }
        };
        let mut body = String::new();
        for (item, x, x_to) in &self.columns {
            let place = (self.left + (x + x_to) / 2.0, self.top + h + 14.0);
            body += &small(place, "middle", &label(item, "⋯"));
        }
        for (item, y, y_to) in &self.rows {
            let place = (self.left - 6.0, self.top + (y + y_to) / 2.0 + 4.0);
            body += &small(place, "end", &label(item, "⋮"));
        }
        for (item, z, z_to) in &self.samples {
            let (x, y) = self.point((w, h, (z + z_to) / 2.0));
            body += &small((x + 5.0, y + 9.0), "start", &label(item, "⋰"));
        }
        body
    }
}

/// A panel that has become lines and areas, with its size.
struct Drawing {
    body: String,
    width: f64,
    height: f64,
}

impl Drawing {
    fn new(panel: &Panel) -> Self {
        let cube = &panel.cube;
        let row_side = cube.positions.as_ref().unwrap_or(&cube.samples);
        let widest = row_side.items.iter().map(|item| item.label.len()).max().unwrap_or(0);
        let widest = widest as f64 * LETTER;
        let title_height = if panel.title.is_empty() { 0.0 } else { 42.0 };
        let frame = Frame::new(cube, row_side, MARGIN + 22.0 + widest, MARGIN + title_height);
        let (w, h) = (end(&frame.columns), end(&frame.rows));
        let Frame { left, top, .. } = frame;

        let mut body = format!("<g class=\"{}\">\n{}</g>\n", panel.ink, frame.faces());
        body += &frame.ticks();
        body += &words((left + w / 2.0, top + h + 33.0), "middle", &cube.channels.title);
        let (x, y) = (left - 14.0 - widest, top + h / 2.0);
        body += &format!(
            "<text class=\"words\" font-size=\"12\" text-anchor=\"middle\" \
             transform=\"translate({x:.1} {y:.1}) rotate(-90)\">{}</text>\n",
            row_side.title
        );
        let mut right = left + w + end(&frame.samples) * BACK.0 + 30.0;
        if cube.positions.is_some() {
            let (x, y) = frame.point((w, h, end(&frame.samples) / 2.0));
            body += &words((x + 24.0, y + 24.0), "start", &cube.samples.title);
            right = right.max(x + 24.0 + text_width(&cube.samples.title));
        }
        if !panel.title.is_empty() {
            let text = escape(&panel.title);
            body += &format!(
                "<text class=\"words\" x=\"{MARGIN}\" y=\"48\" font-size=\"14\" \
                 font-weight=\"600\">{text}</text>\n"
            );
        }
        for (i, line) in panel.caption.lines().enumerate() {
            body += &small((MARGIN, top + h + 58.0 + 16.0 * i as f64), "start", line);
            right = right.max(MARGIN + text_width(line) * 0.9);
        }
        right = right.max(MARGIN + text_width(&panel.title) * 1.2);
        Self {
            body,
            width: right + MARGIN / 2.0,
            height: top + h + 58.0 + 16.0 * panel.caption.lines().count() as f64,
        }
    }
}

fn small(place: (f64, f64), anchor: &str, words: &str) -> String {
    text("quiet", 11, place, anchor, words)
}

fn words(place: (f64, f64), anchor: &str, words: &str) -> String {
    text("words", 12, place, anchor, words)
}

fn text(class: &str, size: u32, (x, y): (f64, f64), anchor: &str, words: &str) -> String {
    format!(
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" \
         text-anchor=\"{anchor}\">{}</text>\n",
        escape(words)
    )
}
