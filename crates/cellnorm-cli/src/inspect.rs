//! `cellnorm inspect`: every normalization of a trained model, and whether its numbers are sound.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cellnorm::inspect::{DEAD, EXPLODING, Health, Numbers, Range};
use cellnorm::state::{Checkpoint, Found};
use cellnorm_onnx::Source;
use cellnorm_onnx::inspect::{NormNode, Statistics, Verdict, inspect};
use clap::Args;
use comfy_table::CellAlignment;
use miette::Diagnostic;
use serde_json::{Value, json};
use thiserror::Error;

use crate::fold::{CHECKPOINT_EXTENSIONS, ModelError, advice, direction, targets};
use crate::format::{self, counted, indices, paragraphs, sparse_table, thousands};
use crate::input::StrayFlag;
use crate::output::{self, OutputError};

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum InspectError {
    #[error("{} is none of the files that can be inspected", path.display())]
    #[diagnostic(help("its name must end in .onnx, .safetensors, .npz, .pth or .pt"))]
    Extension { path: PathBuf },
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// A checkpoint that the library refuses.
    Refused(#[from] cellnorm::Error),
    #[diagnostic(transparent)]
    Stray(#[from] StrayFlag),
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

#[derive(Args)]
pub struct InspectArgs {
    /// The model: .onnx; or .safetensors, .npz, .pth, .pt.
    pub model: PathBuf,

    /// ε of a checkpoint's normalizations, which it does not store; the default of the framework
    /// whose names it has when not given.
    #[arg(long, value_name = "NUMBER")]
    pub epsilon: Option<f64>,

    /// Print every number as JSON.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &InspectArgs) -> Result<(), InspectError> {
    let rows = read(&args.model, args.epsilon)?;
    let printed = match args.json {
        true => output::print_json(&json(&args.model, &rows)),
        false => output::print(&report(&args.model, &rows, output::width())),
    };
    Ok(printed?)
}

struct Row {
    name: String,
    /// The functions and graphs that it is inside of.
    inside: Vec<String>,
    /// Its kind: the preset of its semantics, the operator, or what names tell.
    kind: String,
    /// Its effect, in words.
    meaning: String,
    epsilon: Option<f64>,
    /// Whether the file says ε.
    epsilon_stored: bool,
    /// Its numbers, where the file has them.
    numbers: Option<Numbers>,
    health: Health,
    /// Whether it folds, and where; a checkpoint does not tell.
    fold: Option<FoldVerdict>,
}

/// Whether a normalization becomes part of layers.
struct FoldVerdict {
    /// In a few words.
    words: String,
    /// The code of the reason, and its meaning with a remedy.
    advice: Option<(&'static str, &'static str)>,
    /// All that is known.
    json: Value,
}

/// Why a normalization without fixed statistics stays.
const COMPUTES: (&str, &str) = (
    "computes",
    "its statistics are those of each input: it is no map of channels that a layer could take",
);

/// A row for each normalization of a model.
fn read(path: &Path, epsilon: Option<f64>) -> Result<Vec<Row>, InspectError> {
    let failed = |problem| ModelError { path: path.to_owned(), problem };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("onnx") if epsilon.is_some() => Err(StrayFlag {
            flag: "--epsilon",
            subject: path.display().to_string(),
            help: "--epsilon is for checkpoints, which do not store it".into(),
        }
        .into()),
        Some("onnx") => {
            let source = Source::open(path).map_err(failed)?;
            Ok(inspect(&source).map_err(failed)?.into_iter().map(onnx_row).collect())
        }
        Some(extension) if CHECKPOINT_EXTENSIONS.contains(&extension) => {
            let checkpoint = Checkpoint::read(path)?;
            let found = checkpoint.normalizations().into_iter();
            Ok(found
                .map(|found| checkpoint_row(&checkpoint, found, epsilon))
                .collect::<Result<_, _>>()?)
        }
        _ => Err(InspectError::Extension { path: path.to_owned() }),
    }
}

fn onnx_row(node: NormNode) -> Row {
    let meaning = node.meaning.as_ref();
    let preset = meaning.and_then(|meaning| meaning.preset);
    Row {
        kind: preset.map_or_else(|| node.operator.clone(), str::to_owned),
        meaning: meaning.map_or_else(
            || "inside a function of the model".into(),
            |meaning| meaning.words.clone(),
        ),
        epsilon: meaning.and_then(|meaning| meaning.epsilon),
        epsilon_stored: true,
        fold: Some(fold(
            &node.verdict,
            meaning.is_some_and(|meaning| meaning.statistics != Statistics::Fixed),
        )),
        name: node.name,
        inside: node.inside,
        numbers: node.numbers,
        health: node.health,
    }
}

/// Whether a normalization folds; where it `computes` statistics, γ and β are all that can.
fn fold(verdict: &Verdict, computes: bool) -> FoldVerdict {
    let part = if computes { "γ and β " } else { "" };
    let (words, advice, json) = match verdict {
        Verdict::Folds(fold) => (
            format!("{part}{} into {}", direction(fold), targets(fold)),
            None,
            json!({ "folds": fold }),
        ),
        Verdict::Stays(stays) => (
            format!("stays: {}", stays.reason.code()),
            Some((stays.reason.code(), stays.advice)),
            json!({ "stays": stays }),
        ),
        Verdict::Computes => (
            "stays: computes".into(),
            Some(COMPUTES),
            json!({ "stays": { "reason": COMPUTES.0, "advice": COMPUTES.1 } }),
        ),
        Verdict::Nowhere => ("stays".into(), None, json!("no map of channels to fold")),
    };
    FoldVerdict { words, advice, json }
}

fn checkpoint_row(
    checkpoint: &Checkpoint,
    found: Found,
    asked: Option<f64>,
) -> Result<Row, cellnorm::Error> {
    let numbers = |name: &Option<String>| -> Result<Option<Vec<f64>>, cellnorm::Error> {
        let tensor = name.as_ref().map(|name| checkpoint.tensor(name)).transpose()?;
        Ok(tensor.map(|tensor| tensor.values.iter().copied().collect()))
    };
    let names = &found.names;
    let default = found.semantics().map_or(1e-5, |semantics| semantics.epsilon);
    let epsilon = asked.unwrap_or(default);
    let numbers = Numbers {
        gamma: numbers(&names.gamma)?,
        beta: numbers(&names.beta)?,
        mean: numbers(&names.mean)?,
        variance: numbers(&names.variance)?,
        epsilon,
    };
    let unknown = "statistics of each input; names do not tell over what";
    let (kind, meaning) = match (found.has_statistics(), names.beta.is_some()) {
        (true, _) => ("batch", "fixed statistics of each channel"),
        (false, true) => ("layer, group or instance", unknown),
        (false, false) => ("rms, or without β", unknown),
    };
    let assumed = if asked.is_none() { ", ε assumed" } else { "" };
    Ok(Row {
        kind: kind.into(),
        meaning: format!("{meaning}; names as in {}{assumed}", found.frameworks.join(", ")),
        epsilon: Some(epsilon),
        epsilon_stored: false,
        health: Health::of(&numbers),
        numbers: Some(numbers),
        fold: None,
        inside: Vec::new(),
        name: found.name,
    })
}

/// All numbers, those included that the table rounds or leaves out.
fn json(path: &Path, rows: &[Row]) -> Value {
    json!({
        "model": path,
        "dead_share": DEAD,
        "exploding_gain": EXPLODING,
        "normalizations": rows.iter().map(row_json).collect::<Vec<_>>(),
    })
}

fn row_json(row: &Row) -> Value {
    let health = &row.health;
    let range = |range: Option<Range>| {
        range.map(|range| json!({ "least": range.least, "largest": range.largest }))
    };
    json!({
        "name": row.name,
        "inside": row.inside,
        "kind": row.kind,
        "meaning": row.meaning,
        "epsilon": row.epsilon,
        "epsilon_stored": row.epsilon_stored,
        "constant": row.numbers.is_some(),
        "channels": health.channels,
        "gamma": range(health.gamma),
        "beta": range(health.beta),
        "mean": range(health.mean),
        "variance": range(health.variance),
        "largest_gain": health.gain,
        "dead_gamma": health.dead_gamma,
        "dead_variance": health.dead_variance,
        "exploding": health.exploding,
        "negative_variance": health.negative_variance,
        "not_finite": health.not_finite,
        "fold": row.fold.as_ref().map(|fold| &fold.json),
    })
}

/// The normalizations as a table, then each problem with its meaning, its remedy and its places.
fn report(path: &Path, rows: &[Row], width: usize) -> String {
    if rows.is_empty() {
        return format!("{}: no normalization in it\n", path.display());
    }
    let reasons = rows.iter().filter_map(|row| row.fold.as_ref()?.advice);
    paragraphs([
        heading(path, rows),
        meanings(rows),
        listed(rows, width),
        paragraphs(PROBLEMS.iter().map(|problem| warning(problem, rows))),
        advice(reasons),
    ])
}

fn heading(path: &Path, rows: &[Row]) -> String {
    let count = |count: fn(&Row) -> usize| thousands(rows.iter().map(count).sum::<usize>());
    format!(
        "{}: {}, {}; {} dead, {} exploding, {} with a variance below 0, {} not finite\n",
        path.display(),
        counted(rows.len(), "normalization"),
        counted(rows.iter().map(|row| row.health.channels).sum::<usize>(), "channel"),
        count(|row| row.health.dead()),
        count(|row| row.health.exploding.len()),
        count(|row| row.health.negative_variance.len()),
        count(|row| row.health.not_finite.len())
    )
}

/// The meaning of each kind, once.
fn meanings(rows: &[Row]) -> String {
    let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    rows.iter().for_each(|row| *kinds.entry((&row.kind, &row.meaning)).or_default() += 1);
    kinds
        .iter()
        .map(|((kind, meaning), count)| format!("{} × {kind}: {meaning}\n", thousands(*count)))
        .collect()
}

const NUMBERS: [usize; 6] = [2, 3, 4, 5, 6, 7];

fn listed(rows: &[Row], width: usize) -> String {
    let heads = ["normalization", "kind", "ε", "channels", "γ", "β", "mean", "variance", "folds"];
    let cells: Vec<[String; 9]> = rows.iter().map(cells).collect();
    let (mut table, columns, ..) = sparse_table(heads, &cells, usize::MAX - 1, width);
    for (at, column) in columns.iter().zip(table.column_iter_mut()) {
        if NUMBERS.contains(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format::trimmed(&table)
}

fn cells(row: &Row) -> [String; 9] {
    let health = &row.health;
    let inside = row.inside.last().map(|node| format!(" (in {node})")).unwrap_or_default();
    let channels = if row.numbers.is_some() { health.channels.to_string() } else { String::new() };
    [
        format!("{}{inside}", row.name),
        row.kind.clone(),
        row.epsilon.map(number).unwrap_or_default(),
        channels,
        range(health.gamma),
        range(health.beta),
        range(health.mean),
        range(health.variance),
        row.fold.as_ref().map(|fold| fold.words.clone()).unwrap_or_default(),
    ]
}

fn range(range: Option<Range>) -> String {
    range
        .map(|Range { least, largest }| format!("{} … {}", number(least), number(largest)))
        .unwrap_or_default()
}

/// A number with three figures.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !size.is_finite() => value.to_string(),
        1e-2..1e1 => trimmed(format!("{value:.3}")),
        1e1..1e2 => trimmed(format!("{value:.1}")),
        1e2..1e5 => format!("{value:.0}"),
        _ => {
            let text = format!("{value:.2e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{exponent}", trimmed(digits.to_owned()))
        }
    }
}

fn trimmed(text: String) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Its meaning and remedy, and the channels that have it.
type Problem = (&'static str, fn(&Health) -> &[usize]);

const PROBLEMS: [Problem; 5] = [
    (
        "NaN or infinity among the numbers of these channels: every output that depends on \
         them is NaN, too. Go back to a checkpoint before training broke",
        |health| &health.not_finite,
    ),
    (
        "The variance of these channels is negative, which no variance can be: its root is \
         NaN. Check how the model was converted, or gather the statistics again",
        |health| &health.negative_variance,
    ),
    (
        "These channels multiply their input by more than 1,000 (|γ|/√(variance + \
         ε)), and rounding errors with it. Gather the statistics again on real data, or \
         use a larger ε and train on",
        |health| &health.exploding,
    ),
    (
        "The variance of these channels is next to 0 (their deviation at most 1e-4 of the \
         layer's largest): their input never changed. Check whether the layer before is \
         dead there; it can be pruned",
        |health| &health.dead_variance,
    ),
    (
        "γ of these channels is next to 0 (at most 1e-4 of the layer's largest): their \
         output is β, whatever the input. They can be pruned; if there are many, decay γ \
         less in training",
        |health| &health.dead_gamma,
    ),
];

/// Layers that are named for a problem; more are counted.
const MOST_LAYERS: usize = 12;

/// The layers and channels that have a problem; empty where none has it.
fn warning((words, channels): &Problem, rows: &[Row]) -> String {
    let affected: Vec<(&Row, &[usize])> = rows
        .iter()
        .map(|row| (row, channels(&row.health)))
        .filter(|(_, channels)| !channels.is_empty())
        .collect();
    if affected.is_empty() {
        return String::new();
    }
    let mut text = format!("{words}:\n");
    for (row, channels) in affected.iter().take(MOST_LAYERS) {
        let (count, all) = (channels.len(), row.health.channels);
        text += &format!("  {}: {count} of {all}, {}\n", row.name, indices("channel", channels));
    }
    if let Some(more) = affected.len().checked_sub(MOST_LAYERS).filter(|more| *more > 0) {
        text += &format!("  and {more} more; --json names them\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_have_three_figures() {
        let numbers = [0.0, 1e-5, 1.0, -0.25, 0.0123, 31.44, -1234.5, 1.5e7, f64::INFINITY];
        assert_eq!(
            numbers.map(number),
            ["0", "1e-5", "1", "-0.25", "0.012", "31.4", "-1234", "1.5e7", "inf"]
        );
    }
}
