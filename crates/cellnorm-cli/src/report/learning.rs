//! How loss and accuracy change as training goes on, and with the batch size.

use super::axis::Axis;
use super::charts::{self, Line};
use super::figures::{Figure, Section};
use super::ink::Ink;
use crate::error::Error;
use crate::norm::Norm;
use crate::results::{Epoch, Results, Run};

/// Values a curve by step is drawn with; each is the mean of its share of the steps.
const CURVE_POINTS: usize = 30;

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

/// Loss and accuracy as training goes on.
pub fn section(runs: &[&Run]) -> Result<Section, Error> {
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
        let y = Axis::of_values(charts::values(&lines));
        figures.push(Figure {
            title: measure.title.to_owned(),
            svg: charts::lines(measure.title, "epoch", &x, &y, &lines)?,
            caption: extremes(runs, measure),
        });
    }
    figures.push(loss_by_step(runs)?);
    Ok(Section {
        title: "Learning",
        intro: "Training numbers are gathered while the network learns, with any dropout; test \
                numbers after each epoch, without it. That is why the test can look better than \
                the training at first.",
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
            Line { dots: false, ..curve(run.normalization, points) }
        })
        .collect();
    let title = "Training loss by step".to_owned();
    let x = Axis::of_counts(last_step);
    let y = Axis::of_ratios(charts::values(&lines));
    Ok(Figure {
        svg: charts::lines(&title, "step", &x, &y, &lines)?,
        title,
        caption: format!(
            "Each point is the mean loss of {together} steps. The sooner a line falls, the faster \
             that network learns."
        ),
    })
}

/// Test error against batch size.
pub fn by_batch_size(results: &Results) -> Result<Section, Error> {
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
            curve(norm, (0u32..).zip(errors).filter_map(|(i, y)| Some((f64::from(i), y?))))
        })
        .collect();
    let x = Axis::of_names(sizes.iter().map(usize::to_string));
    let y = Axis::of_values(charts::values(&lines));
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

fn curve(norm: Norm, points: impl Iterator<Item = (f64, f64)>) -> Line {
    Line { ink: Ink::Norm(norm), points: points.collect(), width: 2, opacity: 1.0, dots: true }
}

/// Names the best and the worst run of the last epoch.
fn extremes(runs: &[&Run], measure: &Measure) -> String {
    let value = |run: &Run| (measure.value)(&run.last());
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| value(a).total_cmp(&value(b)));
    if measure.more_is_better {
        sorted.reverse();
    }
    let name = |run: &Run| format!("{} ({})", run.normalization.name(), (measure.show)(value(run)));
    match sorted.as_slice() {
        [best, .., worst] => {
            format!("After the last epoch {} is best and {} last.", name(best), name(worst))
        }
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
