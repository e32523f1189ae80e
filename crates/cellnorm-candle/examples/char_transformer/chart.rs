//! Loss curves as SVG.

use std::error::Error;

use plotters::prelude::*;

/// A name, a colour, and the loss at each step.
pub type Curve<'a> = (&'a str, RGBColor, &'a [f32]);

/// Each point is the mean over some steps.
const SMOOTH: usize = 5;

pub fn draw(path: &str, curves: &[Curve]) -> Result<(), Box<dyn Error>> {
    let steps = curves.iter().map(|(_, _, losses)| losses.len()).max().unwrap_or(1);
    let highest = curves.iter().flat_map(|(_, _, losses)| *losses).copied().fold(0.0, f32::max);
    let root = SVGBackend::new(path, (720, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .margin_right(150)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0..steps, 0f32..highest.ceil())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("step")
        .y_desc("loss, nats")
        .draw()?;
    for (name, color, losses) in curves {
        let mean =
            |(i, part): (usize, &[f32])| (i * SMOOTH, part.iter().sum::<f32>() / part.len() as f32);
        let points: Vec<(usize, f32)> = losses.chunks(SMOOTH).enumerate().map(mean).collect();
        let end = *points.last().ok_or("no steps")?;
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        let (x, y) = chart.backend_coord(&end);
        root.draw(&Text::new(*name, (x + 8, y - 7), ("sans-serif", 15).into_font().color(color)))?;
    }
    root.present()?;
    Ok(())
}
