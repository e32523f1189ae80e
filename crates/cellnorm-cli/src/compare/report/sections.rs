//! The sections of the report: how loss and accuracy change as training goes on and with the batch
//! size, how the running statistics of batch normalization follow those of the batches, and how
//! long each normalization takes.

use super::axis::Axis;
use super::charts::{Bars, Line, bar_chart, line_chart, values};
use super::ink::Ink;
use super::{Chart, Section};
use crate::compare::CompareError;
use crate::compare::results::{BatchStatistics, Epoch, Results, Training};
use crate::format::join;
use crate::norm::Norm;

/// Values a curve by step is drawn with; each is the mean of its share of the steps.
const CURVE_POINTS: usize = 30;

/// A number of an epoch that is drawn as a curve: its title, its value, and whether it is an
/// accuracy in percent, of which more is better, or a loss.
type Measure = (&'static str, fn(&Epoch) -> f64, bool);

const MEASURES: [Measure; 4] = [
    ("Test accuracy, %", |epoch| epoch.test_accuracy * 100.0, true),
    ("Training accuracy, %", |epoch| epoch.train_accuracy * 100.0, true),
    ("Test loss", |epoch| epoch.test_loss, false),
    ("Training loss", |epoch| epoch.train_loss, false),
];

/// Loss and accuracy as training goes on.
pub fn learning(runs: &[&Training]) -> Result<Section, CompareError> {
    let mut charts = Vec::new();
    for measure @ (title, value, _) in &MEASURES {
        let line = |run: &&Training| {
            let points = run.epochs.iter().map(|epoch| (epoch.epoch as f64 - 1.0, value(epoch)));
            curve(run.normalization, points)
        };
        let lines: Vec<Line> = runs.iter().map(line).collect();
        let y = Axis::values(values(&lines));
        let svg = line_chart(title, "epoch", &epochs_axis(runs), &y, &lines)?;
        charts.push(Chart { title: (*title).to_owned(), svg, caption: extremes(runs, measure) });
    }
    charts.push(loss_by_step(runs)?);
    Ok(Section {
        title: "Learning",
        intro: "Training numbers are gathered while the network learns, with any dropout; test \
                numbers after each epoch, without it. That is why the test can look better than \
                the training at first.",
        legend: runs.iter().map(|run| run.normalization).collect(),
        charts,
    })
}

fn epochs_axis(runs: &[&Training]) -> Axis {
    let epochs = runs.iter().map(|run| run.epochs.len()).max().unwrap_or(1);
    // more than a dozen labels would touch
    let every = epochs.div_ceil(12);
    let ticks = (0..epochs).filter(|i| (i + 1).is_multiple_of(every));
    let ticks = ticks.map(|i| (i as f64, (i + 1).to_string())).collect();
    Axis::new(-0.1, epochs as f64 - 0.9, ticks)
}

fn loss_by_step(runs: &[&Training]) -> Result<Chart, CompareError> {
    let mut last_step = 0;
    let mut together = 1;
    let mut lines = Vec::new();
    for run in runs {
        let trace = &run.training_loss;
        let share = trace.values.len().div_ceil(CURVE_POINTS);
        together = share * trace.every;
        last_step = trace.values.len() * trace.every;
        let points = trace.values.chunks(share).enumerate().map(|(i, chunk)| {
            let middle = (i * share) as f64 + chunk.len() as f64 / 2.0;
            let mean = chunk.iter().sum::<f32>() / chunk.len() as f32;
            (middle * trace.every as f64, f64::from(mean))
        });
        lines.push(Line { dots: false, ..curve(run.normalization, points) });
    }
    let title = "Training loss by step".to_owned();
    let y = Axis::ratios(values(&lines));
    let svg = line_chart(&title, "step", &Axis::counts(last_step), &y, &lines)?;
    let caption = format!(
        "Each point is the mean loss of {together} steps. The sooner a line falls, the faster that \
         network learns."
    );
    Ok(Chart { title, svg, caption })
}

/// Test error against batch size.
pub fn batch_sizes(results: &Results) -> Result<Section, CompareError> {
    let config = &results.config;
    let mut sizes = config.batch_sizes.clone();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let error = |norm, size| {
        let runs = results.shown_for_size(size);
        let run = runs.into_iter().find(|run| run.normalization == norm);
        run.map(|run| 100.0 - run.last().test_accuracy * 100.0)
    };
    let line = |&norm: &Norm| {
        let errors = sizes.iter().map(|&size| error(norm, size));
        curve(norm, (0u32..).zip(errors).filter_map(|(i, y)| Some((f64::from(i), y?))))
    };
    let lines: Vec<Line> = config.norms.iter().map(line).collect();
    let x = Axis::names(sizes.iter().map(usize::to_string));
    let y = Axis::values(values(&lines));
    let title = "Test error, %".to_owned();
    let rises = config.norms.iter().zip(&lines).filter_map(|(norm, line)| {
        let (first, last) = (line.points.first()?, line.points.last()?);
        Some(format!("{} {:+.1}", norm.name(), last.1 - first.1))
    });
    Ok(Section {
        title: "Test error by batch size",
        intro: "The share of test samples classified wrong after the last epoch, with batches \
                from the largest to the smallest. Smaller batches also mean more steps an epoch.",
        legend: config.norms.clone(),
        charts: vec![Chart {
            svg: line_chart(&title, "batch size", &x, &y, &lines)?,
            title,
            caption: format!(
                "Change of the error from batches of {} to batches of {}, in points: {}.",
                sizes[0],
                sizes[sizes.len() - 1],
                join(rises, ", ")
            ),
        }],
    })
}

fn curve(norm: Norm, points: impl Iterator<Item = (f64, f64)>) -> Line {
    Line { ink: Ink::Norm(norm), points: points.collect(), width: 2, opacity: 1.0, dots: true }
}

/// Names the best and the worst training after the last epoch.
fn extremes(runs: &[&Training], (_, value, is_accuracy): &Measure) -> String {
    let value = |run: &Training| value(&run.last());
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| value(a).total_cmp(&value(b)));
    if *is_accuracy {
        sorted.reverse();
    }
    let name = |run: &Training| match is_accuracy {
        true => format!("{} ({:.1} %)", run.normalization.name(), value(run)),
        false => format!("{} ({:.3})", run.normalization.name(), value(run)),
    };
    match sorted.as_slice() {
        [best, .., worst] => {
            format!("After the last epoch {} is best and {} last.", name(best), name(worst))
        }
        [only] => format!("After the last epoch: {}.", name(only)),
        [] => String::new(),
    }
}

/// The first channels: their means, then their variances.
pub fn statistics(norm: Norm, statistics: &BatchStatistics) -> Result<Section, CompareError> {
    let numbered = || statistics.channels.iter().zip(1..);
    let means = numbered().map(|(channel, number)| {
        let (title, axis) = (format!("Channel {number}: mean"), Axis::values as AxisFn);
        statistic(norm, title, axis, &channel.batch_mean, &channel.running_mean)
    });
    let variances = numbered().map(|(channel, number)| {
        let (title, axis) = (format!("Channel {number}: variance"), Axis::ratios as AxisFn);
        statistic(norm, title, axis, &channel.batch_variance, &channel.running_variance)
    });
    Ok(Section {
        title: "Batch and running statistics",
        intro: "Batch Normalization trains with the mean and variance of each batch (thin line) \
                and is tested with running ones (thick line), which start at 0 and 1 and move a \
                tenth of the way at each step. These are the first steps.",
        legend: Vec::new(),
        charts: means.chain(variances).collect::<Result<_, _>>()?,
    })
}

type AxisFn = fn(Vec<f64>) -> Axis;

/// A statistic of one channel, step by step. The caption tells where the running statistic ended,
/// and how far the batches were from it.
fn statistic(
    norm: Norm,
    title: String,
    axis: AxisFn,
    batch: &[f32],
    running: &[f32],
) -> Result<Chart, CompareError> {
    let line = |series: &[f32], width, opacity| {
        let points = (1u32..).map(f64::from).zip(series.iter().copied().map(f64::from));
        Line { ink: Ink::Solid(norm), points: points.collect(), width, opacity, dots: false }
    };
    let lines = [line(batch, 1, 0.6), line(running, 3, 1.0)];
    let y = axis(values(&lines).collect());
    let svg = line_chart(&title, "step", &Axis::counts(batch.len()), &y, &lines)?;
    let last_fifth = batch.len().div_ceil(5);
    let pairs = batch.iter().zip(running).skip(batch.len() - last_fifth);
    let distance: f32 = pairs.map(|(batch, running)| (batch - running).abs()).sum();
    let caption = format!(
        "After step {} the running value is {:.3}; in the last fifth of these steps that of a \
         batch was {:.3} away from it on average.",
        running.len(),
        running.last().copied().unwrap_or_default(),
        distance / last_fifth as f32
    );
    Ok(Chart { title, svg, caption })
}

/// Time in the normalization. There is no section when nothing normalizes.
pub fn times(runs: &[&Training]) -> Result<Option<Section>, CompareError> {
    let normalizing = runs.iter().filter(|run| run.normalization != Norm::None);
    let bars = normalizing.map(|run| Bars {
        norm: run.normalization,
        forward: run.timing.normalization_forward_ms,
        backward: run.timing.normalization_backward_ms,
    });
    let bars: Vec<Bars> = bars.collect();
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
        charts: vec![Chart {
            svg: bar_chart(&title, &bars)?,
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
