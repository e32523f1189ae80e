//! Line charts, and bar charts with a pair of bars for each normalization.

use std::fmt::Display;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::ink::{Ink, inline};
use crate::compare::CompareError;
use crate::norm::Norm;

/// Charts are drawn this much larger than shown, since coordinates are whole numbers.
const FINE: u32 = 4;
const WIDTH: u32 = 400;
const HEIGHT: u32 = 250;
const ROW: u32 = 40;
const LETTERS: u32 = 18;
/// The width of a letter, about.
const LETTER: u32 = 9;

/// A line of a chart.
pub struct Line {
    pub ink: Ink,
    pub points: Vec<(f64, f64)>,
    pub width: u32,
    /// 1 hides everything beneath the line.
    pub opacity: f64,
    /// Whether each point has a dot.
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
pub fn line_chart(
    title: &str,
    x_name: &str,
    x: &Axis,
    y: &Axis,
    lines: &[Line],
) -> Result<String, CompareError> {
    draw(title, HEIGHT, |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(6 * FINE)
            .margin_right(12 * FINE)
            .x_label_area_size(42 * FINE)
            .y_label_area_size(48 * FINE)
            .build_cartesian_2d(x.clone(), y.clone())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(Ink::Grid.color().stroke_width(FINE))
            .axis_style(Ink::Grid.color().stroke_width(FINE))
            .label_style(letters())
            .axis_desc_style(letters())
            .x_desc(x_name)
            .draw()
            .map_err(failed)?;
        for line in lines {
            let style = line.ink.color().mix(line.opacity);
            let points = line.points.iter().copied().filter(|point| point.1.is_finite());
            let dots = points.clone().filter(|_| line.dots);
            let width = line.width * FINE;
            chart
                .draw_series(LineSeries::new(points, style.stroke_width(width)))
                .map_err(failed)?;
            chart
                .draw_series(dots.map(|point| Circle::new(point, 4 * FINE, style.filled())))
                .map_err(failed)?;
        }
        Ok(())
    })
}

/// A chart of the times in `bars`, one row a normalization.
pub fn bar_chart(title: &str, bars: &[Bars]) -> Result<String, CompareError> {
    let longest = bars.iter().map(|bars| bars.forward.max(bars.backward)).fold(1e-6, f64::max);
    // room for the longest name
    let names = bars.iter().map(|bars| bars.norm.name().len() as u32).max().unwrap_or(0);
    let names = (LETTER * names + 10).max(72);
    let rows = Axis::new(
        0.0,
        bars.len() as f64,
        (0u32..)
            .map(|row| f64::from(row) + 0.5)
            .zip(bars.iter().rev().map(|bars| bars.norm.name().to_owned()))
            .collect(),
    );
    draw(title, bars.len() as u32 * ROW + 12, |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(6 * FINE)
            .y_label_area_size(names * FINE)
            .build_cartesian_2d(
                // The numbers after the bars need a third of the width.
                Axis::new(0.0, 1.4 * longest, Vec::new()),
                rows,
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(Ink::Grid.color().stroke_width(FINE))
            .label_style(letters())
            .draw()
            .map_err(failed)?;
        for (bars, row) in bars.iter().rev().zip(0u32..) {
            let top = f64::from(row) + 0.88;
            for (time, from, opacity) in
                [(bars.forward, top, 1.0), (bars.backward, top - 0.38, 0.5)]
            {
                let style = Ink::Solid(bars.norm).color().mix(opacity).filled();
                let middle = (time + 0.02 * longest, from - 0.19);
                let label = letters().pos(Pos::new(HPos::Left, VPos::Center));
                chart
                    .draw_series([
                        Rectangle::new([(0.0, from), (time, from - 0.36)], style).into_dyn(),
                        Text::new(format!("{time:.3} ms"), middle, label).into_dyn(),
                    ])
                    .map_err(failed)?;
            }
        }
        Ok(())
    })
}

type Root<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(
    title: &str,
    height: u32,
    content: impl FnOnce(&Root) -> Result<(), CompareError>,
) -> Result<String, CompareError> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, (WIDTH * FINE, height * FINE)).into_drawing_area();
    content(&root)?;
    root.present().map_err(failed)?;
    drop(root);
    Ok(inline(&svg, title))
}

fn letters() -> TextStyle<'static> {
    TextStyle {
        color: Ink::Text.color().to_backend_color(),
        ..TextStyle::from(("sans-serif", LETTERS * FINE))
    }
}

fn failed(error: impl Display) -> CompareError {
    CompareError::Chart(error.to_string())
}
