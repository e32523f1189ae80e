//! The sections of the report: how loss and accuracy change as training goes on and with the batch
//! size, how the running statistics of batch normalization follow those of the batches, and how
//! long each normalization takes.

use super::charts::{Axis, Bars, Line, bar_chart, line_chart, values};
use super::{ranking, swatch};
use crate::compare::results::{BatchStatistics, ChannelStatistics, Epoch, Results, Training};
use crate::data::DatasetInfo;
use crate::format::join;
use crate::norm::Norm;
use crate::page;

/// Values a curve by step is drawn with; each is the mean of its share of the steps.
const CURVE_POINTS: usize = 30;

/// A number of an epoch that is drawn as a curve: its title, its value, and for an accuracy in
/// percent the number of samples that it is measured on.
type Measure = (&'static str, fn(&Epoch) -> f64, Option<fn(&DatasetInfo) -> usize>);

const MEASURES: [Measure; 4] = [
    ("Test accuracy, %", |epoch| epoch.test_accuracy * 100.0, Some(|data| data.test_samples)),
    ("Training accuracy, %", |epoch| epoch.train_accuracy * 100.0, Some(|data| data.train_samples)),
    ("Test loss", |epoch| epoch.test_loss, None),
    ("Training loss", |epoch| epoch.train_loss, None),
];

/// The sections about `runs` with one batch size.
pub fn sections(runs: &[&Training], dataset: &DatasetInfo) -> String {
    let statistics =
        runs.iter().filter_map(|run| Some(statistics(run.normalization, run.statistics.as_ref()?)));
    learning(runs, dataset) + &times(runs) + &statistics.collect::<String>()
}

/// A section of charts; `intro` tells how to read them, a legend the colours of `norms`.
fn section(title: &str, intro: &str, norms: &[Norm], charts: &str) -> String {
    let mut body = format!("<p>{intro}</p>\n");
    if !norms.is_empty() {
        let names = norms.iter().map(|norm| norm.name());
        let items: String = names.map(|name| format!("<li>{}{name}</li>", swatch(name))).collect();
        body += &format!("<ul class=\"legend\">{items}</ul>\n");
    }
    page::section(title, &format!("{body}<div class=\"figures\">\n{charts}</div>\n"))
}

fn figure(title: &str, svg: &str, caption: &str) -> String {
    format!("<figure>\n<h3>{title}</h3>\n{svg}<figcaption>{caption}</figcaption>\n</figure>\n")
}

/// Loss and accuracy as training goes on.
fn learning(runs: &[&Training], dataset: &DatasetInfo) -> String {
    let mut charts = String::new();
    for (title, value, samples) in MEASURES {
        let line = |run: &&Training| {
            let points = run.epochs.iter().map(|epoch| (epoch.epoch as f64 - 1.0, value(epoch)));
            curve(run.normalization, points)
        };
        let lines: Vec<Line> = runs.iter().map(line).collect();
        let y = Axis::values(values(&lines));
        let svg = line_chart(title, "epoch", &epochs_axis(runs), &y, &lines);
        let value = |run: &Training| value(&run.last());
        let samples = samples.map(|samples| samples(dataset));
        charts += &figure(title, &svg, &outcome(runs, value, samples));
    }
    charts += &loss_by_step(runs);
    section(
        "Learning",
        "Training numbers are gathered while the network learns, with any dropout; test numbers \
         after each epoch, without it. That is why the test can look better than the training at \
         first.",
        &runs.iter().map(|run| run.normalization).collect::<Vec<_>>(),
        &charts,
    )
}

fn epochs_axis(runs: &[&Training]) -> Axis {
    let epochs = runs.iter().map(|run| run.epochs.len()).max().unwrap_or(1);
    // more than a dozen labels would touch
    let every = epochs.div_ceil(12);
    let ticks = (0..epochs).filter(|i| (i + 1).is_multiple_of(every));
    let ticks = ticks.map(|i| (i as f64, (i + 1).to_string())).collect();
    Axis::new(-0.1, epochs as f64 - 0.9, ticks)
}

fn loss_by_step(runs: &[&Training]) -> String {
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
    let title = "Training loss by step";
    let y = Axis::ratios(values(&lines));
    let svg = line_chart(title, "step", &Axis::counts(last_step), &y, &lines);
    let caption = format!(
        "Each point is the mean loss of {together} steps. The sooner a line falls, the faster that \
         network learns."
    );
    figure(title, &svg, &caption)
}

/// Test error against batch size.
pub fn batch_sizes(results: &Results) -> String {
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
    let rises = config.norms.iter().zip(&lines).filter_map(|(norm, line)| {
        let (first, last) = (line.points.first()?, line.points.last()?);
        Some(format!("{} {:+.1}", norm.name(), last.1 - first.1))
    });
    let title = "Test error, %";
    let caption = format!(
        "Change of the error from batches of {} to batches of {}, in points: {}.",
        sizes[0],
        sizes[sizes.len() - 1],
        join(rises, ", ")
    );
    section(
        "Test error by batch size",
        "The share of test samples classified wrong after the last epoch, with batches from the \
         largest to the smallest. Smaller batches also mean more steps an epoch.",
        &config.norms,
        &figure(title, &line_chart(title, "batch size", &x, &y, &lines), &caption),
    )
}

fn curve(norm: Norm, points: impl Iterator<Item = (f64, f64)>) -> Line {
    let class = format!("dashed {}", norm.name());
    Line { class, points: points.collect(), width: 2, opacity: 1.0, dots: true }
}

/// The accuracies after the last epoch, ranked, or the range of losses, whose noise is unknown.
fn outcome(runs: &[&Training], value: impl Fn(&Training) -> f64, samples: Option<usize>) -> String {
    let name = |run: &Training| run.normalization.name().to_owned();
    let losses = || runs.iter().map(|run| value(run));
    let words = match (samples, runs) {
        (Some(samples), _) => ranking(runs, value, samples, 1, name),
        (None, [run]) => format!("{} ({:.3})", name(run), value(run)),
        (None, _) => {
            let [low, high] =
                [losses().fold(f64::NAN, f64::min), losses().fold(f64::NAN, f64::max)];
            format!("from {low:.3} to {high:.3}")
        }
    };
    format!("After the last epoch: {words}.")
}

/// The first channels: their means, then their variances.
fn statistics(norm: Norm, statistics: &BatchStatistics) -> String {
    let figures = |name: &str, axis: AxisFn, series: fn(&ChannelStatistics) -> [&[f32]; 2]| {
        let numbered = statistics.channels.iter().zip(1..);
        let figure = |(channel, number): (&ChannelStatistics, u32)| {
            statistic(norm, &format!("Channel {number}: {name}"), axis, series(channel))
        };
        numbered.map(figure).collect::<String>()
    };
    let means = figures("mean", Axis::values, |one| [&one.batch_mean, &one.running_mean]);
    let variances =
        figures("variance", Axis::ratios, |one| [&one.batch_variance, &one.running_variance]);
    section(
        "Batch and running statistics",
        "Batch Normalization trains with the mean and variance of each batch (thin line) and is \
         tested with running ones (thick line), which start at 0 and 1 and move a tenth of the way \
         at each step. These are the first steps.",
        &[],
        &(means + &variances),
    )
}

type AxisFn = fn(Vec<f64>) -> Axis;

/// A statistic of one channel, step by step. The caption tells where the running statistic ended,
/// and how far the batches were from it.
fn statistic(norm: Norm, title: &str, axis: AxisFn, [batch, running]: [&[f32]; 2]) -> String {
    let line = |series: &[f32], width, opacity| {
        let points = (1u32..).map(f64::from).zip(series.iter().copied().map(f64::from));
        let class = norm.name().to_owned();
        Line { class, points: points.collect(), width, opacity, dots: false }
    };
    let lines = [line(batch, 1, 0.6), line(running, 3, 1.0)];
    let y = axis(values(&lines).collect());
    let svg = line_chart(title, "step", &Axis::counts(batch.len()), &y, &lines);
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
    figure(title, &svg, &caption)
}

/// Time in the normalization. There is no section when nothing normalizes.
fn times(runs: &[&Training]) -> String {
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
        return String::new();
    };
    let title = "Milliseconds a step";
    let caption = format!(
        "Least time: {}, {:.3} ms forward and backward together; most: {}, {:.3} ms. At most \
         {:.1} % of a training step goes into the normalization; the table has the share of each.",
        fast.norm.name(),
        sum(&fast),
        slow.norm.name(),
        sum(&slow),
        100.0 * share
    );
    section(
        "Time in the normalization",
        "Full colour: forward. Half colour: backward. Medians over all training steps, measured \
         inside the training.",
        &[],
        &figure(title, &bar_chart(title, &bars), &caption),
    )
}
