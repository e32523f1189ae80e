//! `report.html`: one file that shows a comparison in a browser, on any screen, without network.

use super::results::{Results, Training};
use super::table::{columns, notes};
use crate::format::{join, thousands};
use crate::network::Sizes;
use crate::page::{self, escape};
use sections::{batch_sizes, sections};

mod charts;
mod sections;

pub fn render(results: &Results) -> String {
    let sections = [table(results), chapters(results), conditions(results)];
    page::render("Normalizations compared", "", &summary(results), &sections)
}

fn summary(results: &Results) -> String {
    let runs: Vec<&Training> = results.shown().iter().collect();
    let percent = |run: &Training| run.last().test_accuracy * 100.0;
    let name = |run: &Training| {
        let size = match results.config.batch_sizes.len() {
            1 => String::new(),
            _ => format!(" with batches of {}", run.batch_size),
        };
        format!("<strong>{}</strong>{size}", run.normalization.name())
    };
    let times = match results.config.seeds {
        1 => "once with each normalization".to_owned(),
        seeds => format!("with each normalization from {seeds} seeds"),
    };
    let samples = results.dataset.test_samples;
    let highest = runs.iter().map(|run| percent(run)).fold(0.0, f64::max);
    let points = uncertainty(highest / 100.0, samples);
    format!(
        "<p>One small network, trained {times}: same first weights, same batches.</p>\n<p>Test \
         accuracy: {}. Measured on {} {}, an accuracy is known to about ±{points:.1} points, so \
         smaller differences may be chance.</p>",
        ranking(&runs, percent, samples, 2, name),
        thousands(samples),
        results.dataset.samples
    )
}

/// The trainings with the highest and with the lowest accuracy in percent, measured on `samples`.
/// All that lie within the noise of the highest are named with it, and so are those of the others
/// that lie within the noise of the lowest. Where all are alike, none is named.
fn ranking(
    runs: &[&Training],
    percent: impl Fn(&Training) -> f64,
    samples: usize,
    decimals: usize,
    name: impl Fn(&Training) -> String,
) -> String {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| percent(b).total_cmp(&percent(a)));
    let [high, low] = [0, runs.len() - 1].map(|place| percent(sorted[place]));
    let noise = uncertainty(high / 100.0, samples);
    let (highest, others): (Vec<&Training>, Vec<&Training>) =
        sorted.into_iter().partition(|run| percent(run) >= high - noise);
    let lowest = others.into_iter().filter(|run| percent(run) <= low + noise).collect();
    let list = |runs: Vec<&Training>| {
        let each = runs.iter().map(|run| format!("{} ({:.decimals$} %)", name(run), percent(run)));
        join(each, ", ")
    };
    match (list(highest), list(lowest)) {
        (only, _) if runs.len() == 1 => only,
        (_, lowest) if lowest.is_empty() => {
            format!("from {low:.decimals$} % to {high:.decimals$} %, which may be chance")
        }
        (highest, lowest) => format!("highest {highest}; lowest {lowest}"),
    }
}

/// Two standard errors of a share measured on `samples`, in points, and at least the rule of three,
/// which holds where no sample is wrong: 3 samples.
fn uncertainty(share: f64, samples: usize) -> f64 {
    let samples = samples as f64;
    (200.0 * (share * (1.0 - share) / samples).sqrt()).max(300.0 / samples)
}

fn table(results: &Results) -> String {
    let columns = columns(results);
    let head = columns.iter().map(|(heading, _)| format!("<th scope=\"col\">{heading}</th>"));
    let mut rows = String::new();
    for run in results.shown() {
        let name = run.normalization.name();
        let cells = columns[1..].iter().map(|(_, cell)| format!("<td>{}</td>", cell(run)));
        let cells: String = cells.collect();
        rows += &format!("<tr><th scope=\"row\">{}{name}</th>{cells}</tr>\n", swatch(name));
    }
    let table = page::table("", &head.collect::<String>(), &rows);
    page::section("Results", &format!("{table}<p class=\"note\">{}</p>\n", escape(&notes(results))))
}

/// With several batch sizes their influence comes first, then a chapter for each size.
fn chapters(results: &Results) -> String {
    let sections = |size: &usize| sections(&results.shown_for_size(*size), &results.dataset);
    let sizes = &results.config.batch_sizes;
    if let [size] = sizes.as_slice() {
        return sections(size);
    }
    let chapter = |size: &usize| {
        let sections = sections(size);
        format!("<details>\n<summary>Batch size {size}</summary>\n{sections}</details>\n")
    };
    batch_sizes(results) + &sizes.iter().map(chapter).collect::<String>()
}

/// A piece of line as in the charts.
fn swatch(name: &str) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 144 32\" aria-hidden=\"true\"><line class=\"line \
         dashed {name}\" x1=\"4\" y1=\"16\" x2=\"140\" y2=\"16\" stroke-width=\"12\"/></svg>"
    )
}

fn conditions(results: &Results) -> String {
    let config = &results.config;
    let adam = &config.adam;
    let dataset = &results.dataset;
    let normalization = match &dataset.normalization {
        None => String::new(),
        Some(norm) => match (norm.mean.as_slice(), norm.deviation.as_slice()) {
            ([mean], [deviation]) => {
                format!("; each pixel minus {mean:.4}, divided by {deviation:.4}")
            }
            _ => "; each channel minus its mean, divided by its deviation".to_owned(),
        },
    };
    let data = format!(
        "{}{}: {} {} to train on, {} to test on, {} classes{normalization}",
        escape(&dataset.name),
        dataset.source.map_or(String::new(), |source| format!(" ({source})")),
        thousands(dataset.train_samples),
        dataset.samples,
        thousands(dataset.test_samples),
        dataset.classes
    );
    let seeds = match config.seeds {
        1 => format!("seed {}", config.seed),
        seeds => format!("{seeds} seeds from {}", config.seed),
    };
    let training = format!(
        "cross-entropy; Adam with learning rate {}, betas {} and {}, epsilon {:e}; {seeds}",
        adam.learning_rate, adam.beta_1, adam.beta_2, adam.epsilon
    );
    let timing = &results.timing;
    page::conditions([
        ("Command", format!("<code>{}</code>", escape(&config.command))),
        ("Version", format!("cellnorm {}", config.version)),
        ("Data", data),
        ("Network", network(config.sizes, dataset.classes)),
        ("Training", training),
        ("Time", format!("{:.1} s in all, with {} threads", timing.total_seconds, timing.threads)),
    ])
}

fn network(sizes: Sizes, classes: usize) -> String {
    match sizes {
        Sizes::Image { channels, groups, hidden, dropout } => format!(
            "3 × 3 convolution to {channels} channels, the normalization (group: {groups} \
             groups), dense {hidden} ReLU, dropout {dropout}, dense {classes}"
        ),
        Sizes::Sequence { inputs, hidden } => format!(
            "LSTM from {inputs} inputs to {hidden} units, the normalization of W_x x, of W_h h \
             and of the cell at each time step, dense {classes} on the last state; batch and step \
             take the statistics of the sequences that have the step, or the running ones where \
             only one does"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::run;
    use super::*;

    #[test]
    fn no_accuracy_wins_within_the_noise_and_equal_ones_are_named_alike() {
        let words = |accuracies: &[f64]| {
            let runs: Vec<Training> = accuracies.iter().map(|share| run(1, *share)).collect();
            let percent = |run: &Training| run.last().test_accuracy * 100.0;
            let number = |run: &Training| format!("{}", run.timing.training_seconds);
            ranking(&runs.iter().collect::<Vec<_>>(), percent, 1000, 1, number)
        };
        assert_eq!(words(&[0.5]), "0.5 (50.0 %)");
        assert_eq!(words(&[0.835, 0.816]), "from 81.6 % to 83.5 %, which may be chance");
        let tie = "highest 0.83 (83.0 %), 0.83 (83.0 %), 0.82 (82.0 %); lowest 0.71 (71.0 %), 0.7 \
                   (70.0 %)";
        assert_eq!(words(&[0.71, 0.83, 0.75, 0.82, 0.83, 0.7]), tie);
        // none of 1,000 wrong is no proof that none of 10,000 would be
        assert_eq!(words(&[0.998, 1.0]), "from 99.8 % to 100.0 %, which may be chance");
    }

    #[test]
    fn accuracy_on_1000_images_is_known_to_about_two_points() {
        assert!((uncertainty(0.82, 1000) - 2.43).abs() < 0.01);
    }
}
