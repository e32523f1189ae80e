//! Line charts, and bar charts with a pair of bars for each normalization. The style sheet gives
//! their classes a colour for light, one for dark, and dashes that tell lines apart without colour.

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

/// A range with its labelled places.
pub struct Axis {
    from: f64,
    to: f64,
    /// Whether equal ratios, not equal differences, take equal room.
    logarithmic: bool,
    /// Places and their labels.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis from `from` to `to`, labelled at `ticks` alone.
    pub fn new(from: f64, to: f64, ticks: Vec<(f64, String)>) -> Self {
        Self { from, to, logarithmic: false, ticks }
    }

    /// One label for each of `names`, at 0, 1, 2 and so on.
    pub fn names(names: impl IntoIterator<Item = String>) -> Self {
        let ticks: Vec<_> = (0u32..).map(f64::from).zip(names).collect();
        Self::new(-0.2, ticks.len() as f64 - 0.8, ticks)
    }

    /// Whole numbers from 0 to `to`.
    pub fn counts(to: usize) -> Self {
        let to = to as f64;
        let step = round_step(to / 5.0).max(1.0);
        Self::new(0.0, to, ticks(0.0, to, step))
    }

    /// An axis with room for all `values`, labelled at round numbers.
    pub fn values(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let margin = (0.05 * (high - low)).max(1e-3 * high.abs()).max(1e-6);
        let (from, to) = (low - margin, high + margin);
        Self::new(from, to, ticks(from, to, round_step((to - from) / 5.0)))
    }

    /// A logarithmic axis with room for all positive `values`, labelled at powers of ten and, if
    /// these are few, between them.
    pub fn ratios(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| *value > 0.0);
        let (low, high) = range(positive).unwrap_or((0.1, 1.0));
        let (from, to) = (low / 1.1, high * 1.1);
        let digits: &[f64] = match to / from {
            ratio if ratio < 100.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let powers = from.log10().floor() as i32..=to.log10().floor() as i32;
        let ticks = powers
            .flat_map(|power| digits.iter().map(move |digit| (digit * 10f64.powi(power), power)))
            .filter(|(place, _)| (from..=to).contains(place))
            .map(|(place, power)| {
                let decimals = -power.min(0) as usize;
                (place, format!("{place:.decimals$}"))
            });
        Self { logarithmic: true, ..Self::new(from, to, ticks.collect()) }
    }

    /// The coordinate of a value, on an axis drawn between two coordinates.
    pub fn map(&self, value: f64, (start, end): (i32, i32)) -> i32 {
        let [value, from, to] = [value, self.from, self.to]
            .map(|place| if self.logarithmic { place.log10() } else { place });
        // a loss of 0 is infinitely far down a logarithmic axis: it leaves the chart, and that is
        // all
        let share = ((value - from) / (to - from)).clamp(-1.0, 2.0);
        start + (share * f64::from(end - start)).round() as i32
    }
}

/// The smallest and the largest of the finite `values`.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .map(|value| (value, value))
        .reduce(|(low, high), (value, _)| (low.min(value), high.max(value)))
}

/// The multiples of `step` between `from` and `to`.
fn ticks(from: f64, to: f64, step: f64) -> Vec<(f64, String)> {
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    ((from / step).ceil() as i64..=(to / step).floor() as i64)
        .map(|i| i as f64 * step)
        .map(|place| (place, format!("{place:.decimals$}")))
        .collect()
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= step).unwrap_or(10.0);
    digit * power
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

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn values_are_labelled_at_round_numbers_within_the_axis() {
        let axis = Axis::values([66.5, 87.7]);
        assert_eq!(labels(&axis), ["70", "75", "80", "85"]);
        assert!(axis.from < 66.5 && axis.to > 87.7);
        assert_eq!(labels(&Axis::values([0.31, 0.34, f64::NAN])), ["0.31", "0.32", "0.33", "0.34"]);
        assert_eq!(labels(&Axis::values([-0.1, 0.1])), ["-0.10", "-0.05", "0.00", "0.05", "0.10"]);
    }

    #[test]
    fn one_value_or_none_still_gives_an_axis() {
        for values in [vec![], vec![0.0], vec![3.0, 3.0]] {
            let axis = Axis::values(values);
            assert!(axis.from < axis.to && !axis.ticks.is_empty());
        }
    }

    #[test]
    fn values_are_mapped_between_the_ends() {
        let axis = Axis::new(2.0, 4.0, Vec::new());
        let upwards = (100, 0);
        assert_eq!([2.0, 2.5, 4.0].map(|v| axis.map(v, upwards)), [100, 75, 0]);
    }

    #[test]
    fn ratios_are_labelled_at_powers_of_ten() {
        assert_eq!(labels(&Axis::ratios([0.0012, 1.0])), ["0.01", "0.1", "1"]);
        assert_eq!(labels(&Axis::ratios([0.3, 2.5])), ["0.5", "1", "2"]);
        let axis = Axis::ratios([1.1, 10.0]);
        assert_eq!([1.0, 11.0].map(|v| axis.map(v, (0, 100))), [0, 100]);
        assert_eq!(axis.map(11f64.sqrt(), (0, 100)), 50);
        assert_eq!([0.0, f64::INFINITY].map(|v| axis.map(v, (300, 400))), [200, 500]);
    }

    #[test]
    fn counts_are_whole() {
        assert_eq!(labels(&Axis::counts(375)), ["0", "100", "200", "300"]);
        assert_eq!(labels(&Axis::counts(9000)), ["0", "2000", "4000", "6000", "8000"]);
        assert_eq!(labels(&Axis::counts(2)), ["0", "1", "2"]);
    }
}
