//! `cellnorm explain`: which values share a statistic, as a drawing, a table and warnings.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::{env, fs};

use cellnorm::explain::{Explanation, Layout, Measure, Sharing};
use clap::Args;
use clap::builder::TypedValueParser;
use miette::Diagnostic;
use thiserror::Error;

use crate::format::{self, counted, join};
use crate::input::{Shape, StrayFlag, choice};
use crate::output::{self, OutputError};
use cube::{Cube, Lengths};
use norms::{NORMS, NormEntry, Reading, Tensor};
use text::Colors;

mod cube;
mod facts;
mod norms;
mod svg;
mod text;

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum ExplainError {
    /// A shape or an axis that the library refuses.
    Refused(#[from] cellnorm::Error),
    #[diagnostic(transparent)]
    Stray(#[from] StrayFlag),
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

#[derive(Args)]
pub struct ExplainArgs {
    /// Lengths of the tensor's axes, such as 8,32,28,28 or 8x32x28x28.
    #[arg(long, value_name = "LENGTHS")]
    pub shape: Shape,

    /// The normalization.
    #[arg(long, value_name = "NAME", value_parser = norm())]
    pub norm: &'static NormEntry,

    /// The meaning of the axes, a letter each: n samples, c channels, t time, others positions; for
    /// weights o outputs and i inputs. When not given, channels come second: nc, nct, nchw, ncdhw;
    /// oi, oit, oihw, oidhw; but for layer and rms of three axes last, ntc, and where --axes name
    /// the last axis and not the second.
    #[arg(long, value_name = "LETTERS")]
    pub layout: Option<String>,

    /// Axis of the channels, negative counted from the last, instead of a layout.
    #[arg(long, value_name = "AXIS", allow_negative_numbers = true, conflicts_with = "layout")]
    pub axis: Option<isize>,

    /// layer, rms, gemma-rms, rms-scaling, mean-variance, lp: axes that share statistics, separated
    /// by commas; axes-batch: axes that do not. All but mean-variance and lp have a parameter for
    /// each element (`axis=[1, 2, 3]` of Keras). When not given, layer, rms, gemma-rms and
    /// rms-scaling show both readings: the features of each position share (first for three axes),
    /// or all features of a sample do, with a parameter for each channel; mean-variance 0,2,3; lp
    /// -1; axes-batch the channels.
    #[arg(long, value_name = "AXES", value_delimiter = ',', allow_hyphen_values = true)]
    pub axes: Option<Vec<isize>>,

    /// group: number of groups, 32 when not given.
    #[arg(long, value_name = "N")]
    pub groups: Option<usize>,

    /// ghost: samples in each virtual batch, 32 when not given.
    #[arg(long, value_name = "N")]
    pub virtual_batch: Option<usize>,

    /// local-response: channels in a window, 5 when not given.
    #[arg(long, value_name = "N")]
    pub size: Option<usize>,

    /// Also draw the figure to this file as SVG.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Print everything as JSON instead of figure and table.
    #[arg(long)]
    pub json: bool,
}

impl ExplainArgs {
    /// The explanation, or one for each reading, the usual one first.
    pub fn explain(&self) -> Result<Vec<Explained>, ExplainError> {
        self.refuse_strays()?;
        let rank = self.shape.0.len();
        let layout = match (&self.layout, self.axis, self.norm.normalizes) {
            (Some(letters), ..) => Layout::named(letters, rank)?,
            (None, Some(axis), _) => Layout::channels_first(rank)?.channel_axis(axis)?,
            (None, None, Tensor::Weight) => Layout::weight(rank)?,
            (None, None, Tensor::Features) if self.has_channels_last() => {
                Layout::channels_last(rank)?
            }
            (None, None, _) => Layout::channels_first(rank)?,
        };
        // where a sample has one position, both are the same
        let has_positions = layout.positions().iter().any(|axis| self.shape.0[*axis] != 1);
        let is_open = self.norm.normalizes == Tensor::Features && self.axes.is_none();
        let readings: &[Reading] = match (is_open && has_positions, rank) {
            (false, _) => &[Reading::Sample],
            (true, 3) => &[Reading::Position, Reading::Sample],
            (true, _) => &[Reading::Sample, Reading::Position],
        };
        let several = readings.len() > 1;
        let mut all: Vec<Explained> = Vec::new();
        for &reading in readings {
            let mut explanation = self.norm.explain(self, &layout, reading)?;
            if let Some(first) = all.first() {
                explanation.warnings.retain(|one| !first.explanation.warnings.contains(one));
            }
            all.push(Explained { reading: several.then_some(reading), explanation });
        }
        Ok(all)
    }

    /// Whether features lie on the last axis where nobody names the axes: in sequences, and where
    /// the axes that share say so.
    fn has_channels_last(&self) -> bool {
        let rank = self.shape.0.len() as isize;
        let axes = self.axes.as_deref().unwrap_or_default();
        let share = |axis: isize| axes.iter().any(|named| named.rem_euclid(rank) == axis);
        let (second, last) = (share(1), share(rank - 1));
        if second == last { rank == 3 } else { last }
    }

    /// Refuses flags that say nothing about the normalization.
    fn refuse_strays(&self) -> Result<(), StrayFlag> {
        let stray = |flag, help| {
            Err(StrayFlag { flag, subject: format!("--norm {}", self.norm.name), help })
        };
        for (flag, is_present) in [
            ("--axes", self.axes.is_some()),
            ("--groups", self.groups.is_some()),
            ("--virtual-batch", self.virtual_batch.is_some()),
            ("--size", self.size.is_some()),
        ] {
            if is_present && !self.norm.flags.contains(&flag) {
                let takes = NORMS.iter().filter(|entry| entry.flags.contains(&flag));
                let names = join(takes.map(|entry| entry.name), ", ");
                return stray(flag, format!("{flag} is for --norm {names}"));
            }
        }
        match self.axis {
            Some(axis) if self.norm.flags.contains(&"--axes") => stray(
                "--axis",
                format!(
                    "to name axis {axis} write --axes {axis}; where the channels are says --layout"
                ),
            ),
            Some(_) if self.norm.normalizes == Tensor::Weight => {
                stray("--axis", "say with --layout which axis holds the outputs".into())
            }
            _ => Ok(()),
        }
    }
}

/// The entry of a name, for clap.
fn norm() -> impl TypedValueParser<Value = &'static NormEntry> {
    choice(NORMS.iter().map(|entry| (entry.name, entry.description, entry)).collect())
}

/// An explanation; with the reading of the normalization's name if there are several.
pub struct Explained {
    reading: Option<Reading>,
    explanation: Explanation,
}

pub fn run(args: &ExplainArgs) -> Result<(), ExplainError> {
    let all = args.explain()?;
    if let Some(path) = &args.svg {
        output::draw("--svg", path, |path| fs::write(path, drawing(&all)))?;
    }
    if args.json {
        return Ok(output::print_json(&facts::json(&all))?);
    }
    let color =
        io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Ok(output::print(&report(&all, color, output::width()))?)
}

fn heading(explanation: &Explanation) -> String {
    let lengths = join(&explanation.shape, " × ");
    format!("{} of {lengths} ({})", explanation.name, explanation.layout)
}

fn marked(sharing: &Sharing) -> String {
    let (_, most) = sharing.values();
    format!("{} of one {}", counted(most, "value"), facts::measure(sharing))
}

fn others(sharing: &Sharing) -> String {
    match sharing.sets() - 1 {
        0 => "all values share it".into(),
        1 => "those of the other one".into(),
        others => format!("those of {}", counted(others, "other")),
    }
}

fn report(all: &[Explained], color: bool, width: usize) -> String {
    let mut text = format!("{}\n\n", heading(&all[0].explanation));
    for (i, Explained { reading, explanation }) in all.iter().enumerate() {
        if let Some(reading) = reading {
            let space = if i > 0 { "\n" } else { "" };
            let (number, count) = (i + 1, all.len());
            text += &format!("{space}Reading {number} of {count}: {}\n\n", reading.description());
        }
        text += &explained(explanation, color, width);
    }
    text
}

/// The drawings, the table and the warnings of one explanation.
fn explained(explanation: &Explanation, color: bool, width: usize) -> String {
    let mut text = String::new();
    for sharing in &explanation.sharings {
        if explanation.sharings.len() > 1 {
            text += &format!("{} statistics\n", sharing.name);
        }
        text += &statistic(explanation, sharing, color, width);
    }
    let mut facts = format::table(Some(width));
    facts.add_rows(facts::rows(explanation));
    text += &format::trimmed(&facts);
    if !explanation.warnings.is_empty() {
        let mut warnings = format::table(Some(width));
        for warning in &explanation.warnings {
            warnings.add_row(["warning", &warning.what]).add_row(["what to do", &warning.remedy]);
        }
        text += &format!("\n{}", format::trimmed(&warnings));
    }
    text
}

/// The drawing of one statistic, with its axes and its legend.
fn statistic(explanation: &Explanation, sharing: &Sharing, color: bool, width: usize) -> String {
    let mut lengths = Lengths { samples: 8, channels: 8, positions: 7 };
    let mut cube = Cube::new(explanation, sharing, &lengths);
    // fewer samples, then fewer channels, until the drawing is narrow enough
    while text::width(&cube) > width && (lengths.samples > 3 || lengths.channels > 3) {
        let side = if lengths.samples > 3 { &mut lengths.samples } else { &mut lengths.channels };
        *side -= 1;
        cube = Cube::new(explanation, sharing, &lengths);
    }
    let axes = [Some(&cube.samples), Some(&cube.channels), cube.positions.as_ref()];
    let directions: &[&str] = match cube.positions {
        Some(_) => &["side by side", "across", "down"],
        None => &["down", "across"],
    };
    let axes = axes.into_iter().flatten().zip(directions);
    let axes: Vec<String> =
        axes.map(|(side, direction)| format!("{} {direction}", side.title)).collect();
    let is_wide = axes.iter().map(|axis| axis.chars().count() + 2).sum::<usize>() > width;
    let axes = axes.join(if is_wide { "\n" } else { ", " });
    let colors = Colors { marked: color.then(|| terminal_color(ink(sharing))) };
    let lines: String =
        colors.draw(&cube).iter().map(|line| line.trim_end().to_owned() + "\n").collect();
    format!("{axes}\n\n{lines}\n{}\n\n", colors.legend(&marked(sharing), &others(sharing)))
}

fn drawing(all: &[Explained]) -> String {
    let lengths = Lengths { samples: 8, channels: 8, positions: 8 };
    let panel = |explained: &Explained, sharing: &Sharing| svg::Panel {
        cube: Cube::new(&explained.explanation, sharing, &lengths),
        ink: ink(sharing),
        title: match (explained.reading, explained.explanation.sharings.len()) {
            (Some(reading), _) => reading.description().to_owned(),
            (None, 1) => String::new(),
            (None, _) => format!("{} statistics", sharing.name),
        },
        caption: format!("{}; {} in all", marked(sharing), counted(sharing.sets(), "such set")),
    };
    let panels: Vec<svg::Panel> = all
        .iter()
        .flat_map(|one| one.explanation.sharings.iter().map(move |sharing| panel(one, sharing)))
        .collect();
    svg::draw(&heading(&all[0].explanation), &panels)
}

/// The normalization whose colour a statistic has: its own, or RMS where squares are summed.
fn ink(sharing: &Sharing) -> &'static str {
    match (sharing.name, sharing.measure) {
        (name @ ("batch" | "layer" | "instance" | "group"), _) => name,
        (_, Measure::MeanVariance) => "layer",
        _ => "rms",
    }
}

/// The escape sequence of the terminal's colour nearest to the report's.
fn terminal_color(ink: &str) -> &'static str {
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
    use cellnorm::explain::rule;
    use cellnorm::norms::Group;
    use cellnorm::semantics::GroupParameters;

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
        let explanation = rule(&group, &[2, 8, 3, 3], layout).unwrap();
        let all = [Explained { reading: None, explanation }];
        let [plain, colored] = [false, true].map(|color| report(&all, color, 80));
        let color = terminal_color("group");
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
