//! How the running statistics of Batch Normalization follow those of the batches.

use super::axis::Axis;
use super::charts::{self, Line};
use super::figures::{Figure, Section};
use super::ink::Ink;
use crate::error::Error;
use crate::norm::Norm;
use crate::results::Statistics;

/// A statistic of one channel, step by step.
struct Pair<'a> {
    title: String,
    batch: &'a [f32],
    running: &'a [f32],
}

/// The first channels: their means, then their variances.
pub fn section(norm: Norm, statistics: &Statistics) -> Result<Section, Error> {
    let numbered = || statistics.channels.iter().zip(1..);
    let means = numbered().map(|(channel, number)| {
        let title = format!("Channel {number}: mean");
        Pair { title, batch: &channel.batch_mean, running: &channel.running_mean }
            .draw(norm, Axis::of_values)
    });
    let variances = numbered().map(|(channel, number)| {
        let title = format!("Channel {number}: variance");
        Pair { title, batch: &channel.batch_variance, running: &channel.running_variance }
            .draw(norm, Axis::of_ratios)
    });
    Ok(Section {
        title: "Batch and running statistics",
        intro: "Batch Normalization trains with the mean and variance of each batch (thin line) \
                and is tested with running ones (thick line), which start at 0 and 1 and move a \
                tenth of the way at each step. These are the first steps.",
        legend: Vec::new(),
        figures: means.chain(variances).collect::<Result<_, _>>()?,
    })
}

impl Pair<'_> {
    fn draw(self, norm: Norm, axis: fn(Vec<f64>) -> Axis) -> Result<Figure, Error> {
        let line = |series: &[f32], width, opacity| Line {
            ink: Ink::Solid(norm),
            points: (1u32..).map(f64::from).zip(series.iter().copied().map(f64::from)).collect(),
            width,
            opacity,
            dots: false,
        };
        let lines = [line(self.batch, 1, 0.6), line(self.running, 3, 1.0)];
        let x = Axis::of_counts(self.batch.len());
        let y = axis(charts::values(&lines).collect());
        let svg = charts::lines(&self.title, "step", &x, &y, &lines)?;
        Ok(Figure { svg, caption: self.caption(), title: self.title })
    }

    /// Where the running statistic ended, and how far the batches were around it.
    fn caption(&self) -> String {
        let tail = self.batch.len() - self.batch.len().div_ceil(5);
        let pairs = self.batch[tail..].iter().zip(&self.running[tail..]);
        let distance: f32 = pairs.map(|(batch, running)| (batch - running).abs()).sum();
        format!(
            "After step {} the running value is {:.3}; in the last fifth of these steps that of a \
             batch was {:.3} away from it on average.",
            self.running.len(),
            self.running.last().copied().unwrap_or_default(),
            distance / (self.batch.len() - tail) as f32
        )
    }
}
