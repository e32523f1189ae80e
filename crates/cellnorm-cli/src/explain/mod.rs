//! `cellnorm explain`: which values share a statistic for a shape, as a figure, a table and
//! warnings.

use std::io::{self, IsTerminal};
use std::{env, fs};

use cellnorm::explain::{Explanation, Measure, Sharing};
use comfy_table::ContentArrangement;

use crate::error::Error;
use crate::numbers::thousands;
use crate::{output, table};
use figure::{Budget, Figure};
use text::Pen;

mod args;
mod facts;
mod figure;
mod json;
mod norms;
mod svg;
mod text;

pub use args::ExplainArgs;

/// Runs the command.
pub fn run(args: &ExplainArgs) -> Result<(), Error> {
    let explanation = args.explain()?;
    if let Some(path) = &args.svg {
        fs::write(path, drawing(&explanation)).map_err(|source| Error::Drawing {
            flag: "--svg",
            path: path.clone(),
            source,
        })?;
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&json::of(&explanation))? + "\n",
        false => {
            let color = io::stdout().is_terminal()
                && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            page(&explanation, color, output::width())
        }
    };
    output::print(&text).map_err(Error::Standard)
}

fn heading(explanation: &Explanation) -> String {
    let lengths: Vec<String> = explanation.shape.iter().map(usize::to_string).collect();
    format!("{} of {} ({})", explanation.name, lengths.join(" × "), explanation.layout)
}

fn marked(sharing: &Sharing) -> String {
    let (_, most) = sharing.values();
    let values = if most == 1 { "value" } else { "values" };
    format!("{} {values} of one {}", thousands(most), facts::measure(sharing))
}

fn others(sharing: &Sharing) -> String {
    match sharing.sets() - 1 {
        0 => "all values share it".into(),
        1 => "those of the other one".into(),
        others => format!("those of {} others", thousands(others)),
    }
}

/// Figure, table and warnings.
fn page(explanation: &Explanation, color: bool, width: usize) -> String {
    let mut lines = vec![heading(explanation), String::new()];
    for sharing in &explanation.sharings {
        let pen = Pen { color: color.then(|| escape_of(ink(sharing))) };
        if explanation.sharings.len() > 1 {
            lines.push(format!("{} statistics", sharing.name));
        }
        let mut budget = Budget { samples: 8, channels: 8, positions: 7 };
        let mut figure = Figure::new(explanation, sharing, &budget);
        // fewer samples, then fewer channels, until the figure is narrow enough
        while text::width(&figure) > width && (budget.samples > 3 || budget.channels > 3) {
            let side = if budget.samples > 3 { &mut budget.samples } else { &mut budget.channels };
            *side -= 1;
            figure = Figure::new(explanation, sharing, &budget);
        }
        let axes = [Some(&figure.samples), Some(&figure.channels), figure.positions.as_ref()];
        let ways: &[&str] = if figure.positions.is_some() {
            &["side by side", "across", "down"]
        } else {
            &["down", "across"]
        };
        let axes: Vec<String> = axes
            .into_iter()
            .flatten()
            .zip(ways)
            .map(|(side, way)| format!("{} {way}", side.title))
            .collect();
        match axes.iter().map(|axis| axis.chars().count() + 2).sum::<usize>() > width {
            true => lines.extend(axes),
            false => lines.push(axes.join(", ")),
        }
        lines.push(String::new());
        lines.extend(pen.draw(&figure).iter().map(|line| line.trim_end().to_owned()));
        lines.push(String::new());
        lines.push(pen.legend(&marked(sharing), &others(sharing)));
        lines.push(String::new());
    }
    let mut facts = table::plain();
    facts
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width as u16)
        .add_rows(facts::rows(explanation));
    lines.extend(facts.lines().map(|line| line.trim_end().to_owned()));
    let mut text = lines.join("\n") + "\n";
    if !explanation.warnings.is_empty() {
        let mut warnings = table::plain();
        warnings.set_content_arrangement(ContentArrangement::Dynamic).set_width(width as u16);
        for warning in &explanation.warnings {
            warnings.add_row(["warning", &warning.what]).add_row(["what to do", &warning.remedy]);
        }
        text += "\n";
        text.extend(warnings.lines().map(|line| line.trim_end().to_owned() + "\n"));
    }
    text
}

/// The figure as SVG.
fn drawing(explanation: &Explanation) -> String {
    let budget = Budget { samples: 8, channels: 8, positions: 8 };
    let panel = |sharing: &Sharing| svg::Panel {
        figure: Figure::new(explanation, sharing, &budget),
        ink: ink(sharing),
        title: if explanation.sharings.len() > 1 {
            format!("{} statistics", sharing.name)
        } else {
            String::new()
        },
        caption: format!("{}; {} such sets in all", marked(sharing), thousands(sharing.sets())),
    };
    svg::draw(&heading(explanation), &explanation.sharings.iter().map(panel).collect::<Vec<_>>())
}

/// The normalization of the report whose colour a statistic has: its own, or RMS where squares are
/// summed about zero.
fn ink(sharing: &Sharing) -> &'static str {
    match (sharing.name, sharing.measure) {
        (name @ ("batch" | "layer" | "instance" | "group"), _) => name,
        (_, Measure::MeanVariance) => "layer",
        _ => "rms",
    }
}

/// The terminal's colour nearest to the report's.
fn escape_of(ink: &str) -> &'static str {
    match ink {
        "batch" => "\x1b[38;5;32m",
        "layer" => "\x1b[38;5;178m",
        "instance" => "\x1b[38;5;36m",
        "group" => "\x1b[38;5;208m",
        _ => "\x1b[38;5;175m",
    }
}

#[cfg(test)]
mod tests {
    use cellnorm::GroupParameters;
    use cellnorm::explain::{Layout, kind};
    use cellnorm::norms::Group;

    use super::*;

    #[test]
    fn colour_adds_nothing_but_colour() {
        let layout = Layout::channels_first(4).unwrap();
        let group = Group {
            groups: 2,
            channels: 8,
            channel_axis: 1,
            parameters: GroupParameters::PerChannel,
        };
        let explanation = kind(&group, &[2, 8, 3, 3], layout).unwrap();
        let (plain, colored) = (page(&explanation, false, 80), page(&explanation, true, 80));
        let color = escape_of("group");
        assert_eq!(
            colored.matches(&format!("{color}██")).count(),
            9 * 4 + 1,
            "nine rows of four channels, and the legend"
        );
        let stripped = [color, "\x1b[90m", "\x1b[0m"]
            .iter()
            .fold(colored, |text, escape| text.replace(escape, ""));
        assert_eq!(stripped, plain);
    }
}
