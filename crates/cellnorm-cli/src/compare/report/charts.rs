//! Line charts, and bar charts with a pair of bars for each normalization.
//!
//! Lines and areas have classes, to which the style sheet gives a colour for light, one for dark,
//! and a pattern of dashes that tells lines apart without colour.

use super::axis::Axis;
use crate::format::join;
use crate::norm::Norm;

/// Coordinates are four times as large as shown, as are the dashes of the style sheet.
const WIDTH: i32 = 1600;
const HEIGHT: i32 = 1000;
const MARGIN: i32 = 24;
const ROW: i32 = 160;
const LETTERS: i32 = 58;
/// The width of a letter, about.
const LETTER: i32 = 36;

pub struct Line {
    /// The class of a normalization, `dashed` where the line is not too busy for it.
    pub class: String,
    pub points: Vec<(f64, f64)>,
    pub width: u32,
    /// 1 hides everything beneath the line.
    pub opacity: f64,
    pub dots: bool,
}

/// The times of a normalization.
pub struct Bars {
    pub norm: Norm,
    /// Milliseconds forward, shown in full colour.
    pub forward: f64,
    /// Milliseconds backward, shown in half colour.
    pub backward: f64,
}

/// The heights of all points of `lines`.
pub fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines.iter().flat_map(|line| line.points.iter().map(|point| point.1))
}

/// A chart of `lines`, with `x_name` under the horizontal axis.
pub fn line_chart(title: &str, x_name: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let (left, right, top, bottom) = (215, 1551, MARGIN, 807);
    let mut body = text(((left + right) / 2, 955), "middle", x_name);
    for (place, label) in &y.ticks {
        let y = y.map(*place, (bottom, top));
        body += &rule([left - 6, y, right, y]);
        body += &text((left - 10, y), "end", label);
    }
    for (place, label) in &x.ticks {
        let x = x.map(*place, (left, right));
        body += &rule([x, bottom, x, bottom + 6]);
        body += &text((x, bottom + 42), "middle", label);
    }
    body += &rule([left, top, left, bottom]);
    body += &rule([left, bottom, right, bottom]);
    for Line { class, points, width, opacity, dots } in lines {
        let points = points.iter().filter(|point| point.1.is_finite());
        let points =
            points.map(|point| (x.map(point.0, (left, right)), y.map(point.1, (bottom, top))));
        body += &format!(
            "<polyline class=\"line {class}\" fill=\"none\" stroke-width=\"{}\" \
             opacity=\"{opacity}\" points=\"{}\"/>\n",
            4 * width,
            join(points.clone().map(|(x, y)| format!("{x},{y}")), " ")
        );
        for (x, y) in points.filter(|_| *dots) {
            body += &format!("<circle class=\"area {class}\" cx=\"{x}\" cy=\"{y}\" r=\"16\"/>\n");
        }
    }
    svg(title, HEIGHT, &body)
}

/// A chart of the times in `bars`, one row a normalization.
pub fn bar_chart(title: &str, bars: &[Bars]) -> String {
    let longest = bars.iter().map(|bars| bars.forward.max(bars.backward)).fold(1e-6, f64::max);
    let names = bars.iter().map(|bars| bars.norm.name().len() as i32).max().unwrap_or(0);
    let left = MARGIN + (LETTER * names + 40).max(288);
    let bottom = MARGIN + ROW * bars.len() as i32;
    // the numbers after the bars need a third of the width
    let times = Axis::new(0.0, 1.4 * longest, Vec::new());
    let mut body = rule([left, MARGIN, left, bottom]);
    for (bars, row) in bars.iter().zip(0..) {
        let (name, top) = (bars.norm.name(), MARGIN + ROW * row);
        body += &text((left - 10, top + ROW / 2), "end", name);
        body += &rule([left - 6, top + ROW / 2, left, top + ROW / 2]);
        for (time, y, opacity) in [(bars.forward, top + 19, 1.0), (bars.backward, top + 80, 0.5)] {
            let width = times.map(time, (0, WIDTH - MARGIN - left));
            body += &format!(
                "<rect class=\"area {name}\" x=\"{left}\" y=\"{y}\" width=\"{width}\" \
                 height=\"58\" opacity=\"{opacity}\"/>\n"
            );
            body += &text((left + width + 18, y + 30), "start", &format!("{time:.3} ms"));
        }
    }
    svg(title, bottom + MARGIN, &body)
}

/// A line to read values from.
fn rule([x1, y1, x2, y2]: [i32; 4]) -> String {
    format!(
        "<line class=\"line grid\" stroke-width=\"4\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" \
         y2=\"{y2}\"/>\n"
    )
}

/// Words or a number, at the height of `y`.
fn text((x, y): (i32, i32), anchor: &str, words: &str) -> String {
    format!(
        "<text class=\"area text\" x=\"{x}\" y=\"{y}\" dy=\"0.35em\" text-anchor=\"{anchor}\" \
         font-size=\"{LETTERS}\">{words}</text>\n"
    )
}

/// A drawing as wide as its column; `title` is what a screen reader says.
fn svg(title: &str, height: i32, body: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_has_no_size_and_takes_the_theme() {
        let axis = || Axis::new(0.0, 1.0, vec![(0.5, "a".to_owned())]);
        let (class, points) = ("dashed batch".to_owned(), vec![(0.0, 0.0), (1.0, f64::NAN)]);
        let line = Line { class, points, width: 2, opacity: 1.0, dots: true };
        let chart = line_chart("Loss", "step", &axis(), &axis(), &[line]);
        let begin = "<svg viewBox=\"0 0 1600 1000\" role=\"img\" aria-label=\"Loss\">\n";
        assert!(chart.starts_with(begin) && chart.ends_with("</svg>\n"), "{chart}");
        assert!(chart.contains("<polyline class=\"line dashed batch\""), "{chart}");
        assert_eq!(chart.matches("<circle class=\"area dashed batch\"").count(), 1, "{chart}");
        assert_eq!(chart.matches("<text class=\"area text\"").count(), 3, "{chart}");
        assert!(!chart.contains('#') && !chart.contains("NaN"), "{chart}");
    }
}
