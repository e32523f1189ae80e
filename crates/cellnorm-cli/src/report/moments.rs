//! How the running statistics of Batch Normalization follow those of the batches.

use super::axis::Axis;
use super::charts::{self, Line};
use super::figures::{Figure, Section};
use super::ink::Ink;
use crate::error::Error;
use crate::norm::Norm;
use crate::results::Statistics;

/// The first channels: their means, then their variances.
pub fn section(norm: Norm, statistics: &Statistics) -> Result<Section, Error> {
    let mut figures = Vec::new();
    for (channel, number) in statistics.channels.iter().zip(1..) {
        let title = format!("Channel {number}: mean");
        let (batch, running) = (&channel.batch_mean, &channel.running_mean);
        figures.push(follow(norm, title, batch, running, statistics.every)?);
    }
    for (channel, number) in statistics.channels.iter().zip(1..) {
        let title = format!("Channel {number}: variance");
        let (batch, running) = (&channel.batch_variance, &channel.running_variance);
        figures.push(follow(norm, title, batch, running, statistics.every)?);
    }
    Ok(Section {
        title: "Batch and running statistics",
        intro: "Batch Normalization trains with the mean and variance of each batch (thin line) \
                and is tested with running ones (thick line), which start at 0 and 1 and move a \
                tenth of the way at each step.",
        legend: Vec::new(),
        figures,
    })
}

/// Draws a statistic of the batches and the running one that follows it.
fn follow(norm: Norm, title: String, batch: &[f32], running: &[f32], every: usize) -> Result<Figure, Error> {
    let line = |series: &[f32], width, opacity| Line {
        ink: Ink::Solid(norm),
        points: (0u32..).map(|i| f64::from(i) * every as f64).zip(series.iter().copied().map(f64::from)).collect(),
        width,
        opacity,
        dots: false,
    };
    let lines = [line(batch, 1, 0.6), line(running, 3, 1.0)];
    let x = Axis::of_counts(batch.len() * every);
    let positive = charts::values(&lines).all(|value| value > 0.0);
    let y = match positive {
        true => Axis::of_ratios(charts::values(&lines)),
        false => Axis::of_values(charts::values(&lines)),
    };
    Ok(Figure { svg: charts::lines(&title, "step", &x, &y, &lines)?, caption: approach(batch, running), title })
}

/// Where a running statistic ended, and how far the batches are around it.
fn approach(batch: &[f32], running: &[f32]) -> String {
    let tail = batch.len() - batch.len().div_ceil(5);
    let spread =
        batch[tail..].iter().zip(&running[tail..]).map(|(batch, running)| (batch - running).abs()).sum::<f32>()
            / (batch.len() - tail) as f32;
    format!(
        "The running value ends at {:.3}; in the last fifth of the steps that of a batch was \
         {spread:.3} away from it on average.",
        running.last().copied().unwrap_or_default()
    )
}
