//! The page around the charts.

use super::{Chapter, Chart, Section};
use crate::compare::results::{Results, Training};
use crate::compare::table::{columns, notes};
use crate::format::thousands;
use crate::network::Sizes;
use crate::page::{self, escape};

pub fn render(results: &Results, chapters: &[Chapter]) -> String {
    let chapters: String = chapters.iter().map(chapter).collect();
    let body = [summary(results), table(results), chapters, conditions(results)];
    page::render("Normalizations compared", "", &body.concat())
}

fn summary(results: &Results) -> String {
    let accuracy = |run: &Training| run.last().test_accuracy;
    let mut sorted: Vec<&Training> = results.shown().iter().collect();
    sorted.sort_by(|a, b| accuracy(b).total_cmp(&accuracy(a)));
    let name = |run: &Training| {
        let size = match results.config.batch_sizes.len() {
            1 => String::new(),
            _ => format!(" with batches of {}", run.batch_size),
        };
        let percent = accuracy(run) * 100.0;
        format!("<strong>{}</strong>{size}, {percent:.2} %", run.normalization.name())
    };
    let range = match sorted.as_slice() {
        [best, .., worst] => {
            format!("Highest test accuracy: {}; lowest: {}.", name(best), name(worst))
        }
        _ => sorted.iter().map(|run| format!("Test accuracy: {}.", name(run))).collect(),
    };
    let times = match results.config.seeds {
        1 => "once with each normalization".to_owned(),
        seeds => format!("with each normalization from {seeds} seeds"),
    };
    let samples = results.dataset.test_samples;
    let points = sorted.first().map_or(0.0, |run| uncertainty(accuracy(run), samples));
    format!(
        "<header>\n<h1>Normalizations compared</h1>\n<p>One small network, trained {times}: same \
         first weights, same batches.</p>\n<p>{range} Measured on {} {}, an accuracy is known to \
         about ±{points:.1} points, so smaller differences may be chance.</p>\n</header>\n",
        thousands(samples),
        results.dataset.samples
    )
}

/// Two standard errors of a share measured on `samples`, in points.
fn uncertainty(share: f64, samples: usize) -> f64 {
    200.0 * (share * (1.0 - share) / samples as f64).sqrt()
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

fn chapter(chapter: &Chapter) -> String {
    let sections: String = chapter.sections.iter().map(section).collect();
    match &chapter.title {
        None => sections,
        Some(title) => format!("<details>\n<summary>{title}</summary>\n{sections}</details>\n"),
    }
}

fn section(section: &Section) -> String {
    let Section { title, intro, legend, charts } = section;
    let mut body = format!("<p>{intro}</p>\n");
    if !legend.is_empty() {
        let names = legend.iter().map(|norm| norm.name());
        let items: String = names.map(|name| format!("<li>{}{name}</li>", swatch(name))).collect();
        body += &format!("<ul class=\"legend\">{items}</ul>\n");
    }
    let chart = |Chart { title, svg, caption }: &Chart| {
        format!("<figure>\n<h3>{title}</h3>\n{svg}<figcaption>{caption}</figcaption>\n</figure>\n")
    };
    let charts: String = charts.iter().map(chart).collect();
    page::section(title, &format!("{body}<div class=\"figures\">\n{charts}</div>\n"))
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
    use super::*;

    #[test]
    fn accuracy_on_1000_images_is_known_to_about_two_points() {
        assert!((uncertainty(0.82, 1000) - 2.43).abs() < 0.01);
    }
}
