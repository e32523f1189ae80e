//! What the report shows: which charts, in which order, and what one sees in each.

use super::axis::Axis;
use super::charts::{self, Bars, Line};
use super::ink::Ink;
use crate::error::Error;
use crate::norm::Norm;
use crate::results::{Epoch, Results, Run, Statistics};

/// Values a curve by step is drawn with; each is the mean of its share of the steps.
const CURVE_POINTS: usize = 30;

/// Charts about one question.
pub struct Section {
    /// The heading.
    pub title: String,
    /// How to read the charts.
    pub intro: String,
    /// The normalizations to explain the colours of.
    pub legend: Vec<Norm>,
    /// The charts.
    pub figures: Vec<Figure>,
}

/// A chart with its words.
pub struct Figure {
    /// What is drawn.
    pub title: String,
    /// The drawing.
    pub svg: String,
    /// What one sees.
    pub caption: String,
}

/// A number of an epoch that is drawn as a curve.
struct Measure {
    title: &'static str,
    value: fn(&Epoch) -> f64,
    show: fn(f64) -> String,
    more_is_better: bool,
}

const MEASURES: [Measure; 4] = [
    Measure {
        title: "Test accuracy, %",
        value: |epoch| epoch.test_accuracy * 100.0,
        show: percent,
        more_is_better: true,
    },
    Measure {
        title: "Training accuracy, %",
        value: |epoch| epoch.train_accuracy * 100.0,
        show: percent,
        more_is_better: true,
    },
    Measure {
        title: "Test loss",
        value: |epoch| epoch.test_loss,
        show: loss,
        more_is_better: false,
    },
    Measure {
        title: "Training loss",
        value: |epoch| epoch.train_loss,
        show: loss,
        more_is_better: false,
    },
];

/// All sections of the report.
pub fn sections(results: &Results) -> Result<Vec<Section>, Error> {
    let sizes = &results.config.batch_sizes;
    let mut sections = Vec::new();
    if sizes.len() > 1 {
        sections.push(sweep(results)?);
    }
    for &size in sizes {
        let runs = results.with_batch_size(size);
        let suffix = match sizes.len() {
            1 => String::new(),
            _ => format!(", batch size {size}"),
        };
        sections.push(learning(&runs, &suffix)?);
        sections.extend(times(&runs, &suffix)?);
        for run in runs {
            if let Some(statistics) = &run.statistics {
                sections.push(moments(run, statistics, &suffix)?);
            }
        }
    }
    Ok(sections)
}

/// Test error against batch size.
fn sweep(results: &Results) -> Result<Section, Error> {
    let config = &results.config;
    let mut sizes = config.batch_sizes.clone();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let error = |norm, size| {
        let runs = results.with_batch_size(size);
        let run = runs.into_iter().find(|run| run.normalization == norm);
        run.map(|run| 100.0 - run.last().test_accuracy * 100.0)
    };
    let lines: Vec<Line> = config
        .norms
        .iter()
        .map(|&norm| {
            let errors = sizes.iter().map(|&size| error(norm, size));
            curve(
                norm,
                (0u32..)
                    .zip(errors)
                    .filter_map(|(i, y)| Some((f64::from(i), y?))),
            )
        })
        .collect();
    let x = Axis::of_names(sizes.iter().map(usize::to_string));
    let y = Axis::of_values(values(&lines));
    let title = "Test error, %".to_owned();
    let rises = config.norms.iter().zip(&lines).filter_map(|(norm, line)| {
        let (first, last) = (line.points.first()?, line.points.last()?);
        Some(format!("{} {:+.1}", norm.name(), last.1 - first.1))
    });
    Ok(Section {
        title: "Batch size".to_owned(),
        intro: "The share of test images classified wrong after the last epoch, with batches \
                from the largest to the smallest. Smaller batches also mean more steps an epoch."
            .to_owned(),
        legend: config.norms.clone(),
        figures: vec![Figure {
            svg: charts::lines(&title, "batch size", &x, &y, &lines)?,
            title,
            caption: format!(
                "Change of the error from batches of {} to batches of {}, in points: {}.",
                sizes[0],
                sizes[sizes.len() - 1],
                rises.collect::<Vec<_>>().join(", ")
            ),
        }],
    })
}

/// Loss and accuracy as training goes on.
fn learning(runs: &[&Run], suffix: &str) -> Result<Section, Error> {
    let mut figures = Vec::new();
    for measure in &MEASURES {
        let lines: Vec<Line> = runs
            .iter()
            .map(|run| {
                let points = run.epochs.iter().map(|epoch| {
                    let number = epoch.epoch as f64;
                    (number - 1.0, (measure.value)(epoch))
                });
                curve(run.normalization, points)
            })
            .collect();
        let x = epochs_axis(runs);
        let y = Axis::of_values(values(&lines));
        figures.push(Figure {
            title: measure.title.to_owned(),
            svg: charts::lines(measure.title, "epoch", &x, &y, &lines)?,
            caption: extremes(runs, measure),
        });
    }
    figures.push(loss_by_step(runs)?);
    Ok(Section {
        title: format!("Learning{suffix}"),
        intro: "Training numbers are gathered while the network learns, with dropout; test \
                numbers after each epoch, without dropout. That is why the test can look better \
                than the training at first."
            .to_owned(),
        legend: runs.iter().map(|run| run.normalization).collect(),
        figures,
    })
}

fn epochs_axis(runs: &[&Run]) -> Axis {
    let epochs = runs.iter().map(|run| run.epochs.len()).max().unwrap_or(1);
    // More labels than a dozen would touch.
    let every = epochs.div_ceil(12);
    Axis::new(
        -0.1,
        epochs as f64 - 0.9,
        (0..epochs)
            .filter(|i| (i + 1).is_multiple_of(every))
            .map(|i| (i as f64, (i + 1).to_string()))
            .collect(),
    )
}

fn loss_by_step(runs: &[&Run]) -> Result<Figure, Error> {
    let mut last_step = 0;
    let mut together = 1;
    let lines: Vec<Line> = runs
        .iter()
        .map(|run| {
            let trace = &run.training_loss;
            let share = trace.values.len().div_ceil(CURVE_POINTS);
            together = share * trace.every;
            last_step = trace.values.len() * trace.every;
            let points = trace.values.chunks(share).enumerate().map(|(i, chunk)| {
                let middle = (i * share) as f64 + chunk.len() as f64 / 2.0;
                let mean = chunk.iter().sum::<f32>() / chunk.len() as f32;
                (middle * trace.every as f64, f64::from(mean))
            });
            Line {
                dots: false,
                ..curve(run.normalization, points)
            }
        })
        .collect();
    let title = "Training loss by step".to_owned();
    let x = Axis::of_counts(last_step);
    let y = Axis::of_ratios(values(&lines));
    Ok(Figure {
        svg: charts::lines(&title, "step", &x, &y, &lines)?,
        title,
        caption: format!(
            "Each point is the mean loss of {together} steps. The sooner a line falls, the \
             faster that network learns."
        ),
    })
}

/// Time in the normalization. There is no section when nothing normalizes.
fn times(runs: &[&Run], suffix: &str) -> Result<Option<Section>, Error> {
    let bars: Vec<Bars> = runs
        .iter()
        .filter(|run| run.normalization != Norm::None)
        .map(|run| Bars {
            norm: run.normalization,
            forward: run.timing.normalization_forward_ms,
            backward: run.timing.normalization_backward_ms,
        })
        .collect();
    let share = runs
        .iter()
        .map(|run| {
            let timing = &run.timing;
            (timing.normalization_forward_ms + timing.normalization_backward_ms) / timing.step_ms
        })
        .fold(0.0, f64::max);
    let sum = |bars: &&Bars| bars.forward + bars.backward;
    let (Some(fast), Some(slow)) = (
        bars.iter().min_by(|a, b| sum(a).total_cmp(&sum(b))),
        bars.iter().max_by(|a, b| sum(a).total_cmp(&sum(b))),
    ) else {
        return Ok(None);
    };
    let title = "Milliseconds a step".to_owned();
    Ok(Some(Section {
        title: format!("Time in the normalization{suffix}"),
        intro: "Full colour: forward. Half colour: backward. Medians over all training steps, \
                measured inside the training."
            .to_owned(),
        legend: Vec::new(),
        figures: vec![Figure {
            svg: charts::bars(&title, &bars)?,
            title,
            caption: format!(
                "Least time: {}, {:.3} ms forward and backward together; most: {}, {:.3} ms. \
                 At most {:.0} % of a training step goes into the normalization.",
                fast.norm.name(),
                sum(&fast),
                slow.norm.name(),
                sum(&slow),
                100.0 * share
            ),
        }],
    }))
}

/// How the running statistics of Batch Normalization follow those of the batches.
fn moments(run: &Run, statistics: &Statistics, suffix: &str) -> Result<Section, Error> {
    let mut figures = Vec::new();
    for (channel, number) in statistics.channels.iter().zip(1..) {
        let title = format!("Channel {number}: mean");
        let (batch, running) = (&channel.batch_mean, &channel.running_mean);
        figures.push(follow(
            run.normalization,
            title,
            batch,
            running,
            statistics.every,
        )?);
    }
    for (channel, number) in statistics.channels.iter().zip(1..) {
        let title = format!("Channel {number}: variance");
        let (batch, running) = (&channel.batch_variance, &channel.running_variance);
        figures.push(follow(
            run.normalization,
            title,
            batch,
            running,
            statistics.every,
        )?);
    }
    Ok(Section {
        title: format!("Batch and running statistics{suffix}"),
        intro: "Batch Normalization trains with the mean and variance of each batch (thin line) \
                and is tested with running ones (thick line), which start at 0 and 1 and move a \
                tenth of the way at each step."
            .to_owned(),
        legend: Vec::new(),
        figures,
    })
}

/// Draws a statistic of the batches and the running one that follows it.
fn follow(
    norm: Norm,
    title: String,
    batch: &[f32],
    running: &[f32],
    every: usize,
) -> Result<Figure, Error> {
    let line = |series: &[f32], width, opacity| Line {
        ink: Ink::Solid(norm),
        points: (0u32..)
            .map(|i| f64::from(i) * every as f64)
            .zip(series.iter().copied().map(f64::from))
            .collect(),
        width,
        opacity,
        dots: false,
    };
    let lines = [line(batch, 1, 0.6), line(running, 3, 1.0)];
    let x = Axis::of_counts(batch.len() * every);
    let positive = values(&lines).all(|value| value > 0.0);
    let y = match positive {
        true => Axis::of_ratios(values(&lines)),
        false => Axis::of_values(values(&lines)),
    };
    Ok(Figure {
        svg: charts::lines(&title, "step", &x, &y, &lines)?,
        caption: approach(batch, running),
        title,
    })
}

/// Where a running statistic ended, and how far the batches are around it.
fn approach(batch: &[f32], running: &[f32]) -> String {
    let tail = batch.len() - batch.len().div_ceil(5);
    let spread = batch[tail..]
        .iter()
        .zip(&running[tail..])
        .map(|(batch, running)| (batch - running).abs())
        .sum::<f32>()
        / (batch.len() - tail) as f32;
    format!(
        "The running value ends at {:.3}; in the last fifth of the steps that of a batch was \
         {spread:.3} away from it on average.",
        running.last().copied().unwrap_or_default()
    )
}

fn curve(norm: Norm, points: impl Iterator<Item = (f64, f64)>) -> Line {
    Line {
        ink: Ink::Norm(norm),
        points: points.collect(),
        width: 2,
        opacity: 1.0,
        dots: true,
    }
}

fn values(lines: &[Line]) -> impl Iterator<Item = f64> {
    lines
        .iter()
        .flat_map(|line| line.points.iter().map(|point| point.1))
}

/// Names the best and the worst run of the last epoch.
fn extremes(runs: &[&Run], measure: &Measure) -> String {
    let value = |run: &Run| (measure.value)(&run.last());
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| value(a).total_cmp(&value(b)));
    if measure.more_is_better {
        sorted.reverse();
    }
    let name = |run: &Run| {
        format!(
            "{} ({})",
            run.normalization.name(),
            (measure.show)(value(run))
        )
    };
    match sorted.as_slice() {
        [best, .., worst] => format!(
            "After the last epoch {} is best and {} last.",
            name(best),
            name(worst)
        ),
        [only] => format!("After the last epoch: {}.", name(only)),
        [] => String::new(),
    }
}

fn percent(value: f64) -> String {
    format!("{value:.1} %")
}

fn loss(value: f64) -> String {
    format!("{value:.3}")
}
