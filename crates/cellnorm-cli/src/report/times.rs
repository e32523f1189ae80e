//! How long each normalization takes.

use super::charts::{self, Bars};
use super::figures::{Figure, Section};
use crate::error::Error;
use crate::norm::Norm;
use crate::results::Run;

/// Time in the normalization. There is no section when nothing normalizes.
pub fn section(runs: &[&Run]) -> Result<Option<Section>, Error> {
    let bars: Vec<Bars> = runs
        .iter()
        .filter(|run| run.normalization != Norm::None)
        .map(|run| Bars {
            norm: run.normalization,
            forward: run.timing.normalization_forward_ms,
            backward: run.timing.normalization_backward_ms,
        })
        .collect();
    let share = runs.iter().map(|run| run.timing.normalization_share).fold(0.0, f64::max);
    let sum = |bars: &&Bars| bars.forward + bars.backward;
    let (Some(fast), Some(slow)) = (
        bars.iter().min_by(|a, b| sum(a).total_cmp(&sum(b))),
        bars.iter().max_by(|a, b| sum(a).total_cmp(&sum(b))),
    ) else {
        return Ok(None);
    };
    let title = "Milliseconds a step".to_owned();
    Ok(Some(Section {
        title: "Time in the normalization",
        intro: "Full colour: forward. Half colour: backward. Medians over all training steps, \
                measured inside the training.",
        legend: Vec::new(),
        figures: vec![Figure {
            svg: charts::bars(&title, &bars)?,
            title,
            caption: format!(
                "Least time: {}, {:.3} ms forward and backward together; most: {}, {:.3} ms. At \
                 most {:.1} % of a training step goes into the normalization; the table has the \
                 share of each.",
                fast.norm.name(),
                sum(&fast),
                slow.norm.name(),
                sum(&slow),
                100.0 * share
            ),
        }],
    }))
}
