//! `cellnorm semantics`: what frameworks mean by a normalization, and what differs between two.

use std::fmt::Debug;

use cellnorm::{Normalization, Semantics};
use clap::{Args, Subcommand};
use miette::Diagnostic;
use serde_json::{Value, json};
use thiserror::Error;

use crate::format::{self, join};
use crate::output::{self, OutputError};

#[derive(Debug, Error, Diagnostic)]
#[error(transparent)]
pub enum SemanticsError {
    /// A name that the library refuses.
    Refused(#[from] cellnorm::Error),
    #[diagnostic(transparent)]
    Output(#[from] OutputError),
}

#[derive(Subcommand)]
pub enum SemanticsCommand {
    /// List the names, and which normalizations each has.
    List(OutputArgs),
    /// Show all that one name means by a normalization, and which inputs it applies to where a
    /// framework has two (tf-keras-2 and tf-keras-2-fused).
    Show {
        /// The name, such as pytorch-2, keras-3 or onnx-17.
        name: String,
        #[command(flatten)]
        layer: LayerArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show what differs between two names, and by how much.
    Diff {
        /// The one name.
        a: String,
        /// The other.
        b: String,
        #[command(flatten)]
        layer: LayerArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Args)]
pub struct LayerArgs {
    /// The normalization: batch (when not given), layer, instance, group or rms.
    #[arg(value_name = "LAYER", value_parser = known)]
    named: Option<Normalization>,

    /// The same as a flag.
    #[arg(long, value_name = "NAME", value_parser = known, conflicts_with = "named")]
    layer: Option<Normalization>,
}

impl LayerArgs {
    fn normalization(&self) -> Normalization {
        self.named.or(self.layer).unwrap_or(Normalization::Batch)
    }
}

#[derive(Args)]
pub struct OutputArgs {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn known(name: &str) -> Result<Normalization, String> {
    Normalization::ALL
        .into_iter()
        .find(|layer| layer.to_string() == name)
        .ok_or_else(|| format!("it must be one of {}", join(Normalization::ALL, ", ")))
}

pub fn run(command: &SemanticsCommand) -> Result<(), SemanticsError> {
    let ((text, json), output) = match command {
        SemanticsCommand::List(output) => (list(), output),
        SemanticsCommand::Show { name, layer, output } => {
            let semantics = Semantics::preset(name, layer.normalization())?;
            let rows = wrapped(&semantics.to_string(), output::width());
            ((rows, show(&semantics)), output)
        }
        SemanticsCommand::Diff { a, b, layer, output } => {
            let layer = layer.normalization();
            (diff(&Semantics::preset(a, layer)?, &Semantics::preset(b, layer)?), output)
        }
    };
    let printed = if output.json { output::print_json(&json) } else { output::print(&text) };
    Ok(printed?)
}

/// Rows of a field and a value, with what is too long for the width on lines beneath the value.
fn wrapped(rows: &str, width: usize) -> String {
    // two spaces, a field of 18 and another
    let beneath = " ".repeat(21);
    let mut lines = String::new();
    for row in rows.lines() {
        let mut length = 0;
        for (i, part) in row.split_inclusive(' ').enumerate() {
            let end = length + part.trim_end().chars().count();
            if i > 0 && end > width && length > beneath.len() {
                lines.truncate(lines.trim_end_matches(' ').len());
                lines.push('\n');
                lines.push_str(&beneath);
                length = beneath.len();
            }
            lines.push_str(part);
            length += part.chars().count();
        }
        lines.push('\n');
    }
    lines
}

/// All fields; values other than numbers, texts and truth values are named as in Rust.
fn show(semantics: &Semantics) -> Value {
    let name = |value: &dyn Debug| format!("{value:?}");
    let names = &semantics.names;
    json!({
        "name": semantics.name,
        "normalization": semantics.normalization.to_string(),
        "applies_to": semantics.applies_to(),
        "epsilon": semantics.epsilon,
        "epsilon_at": name(&semantics.epsilon_at),
        "channel_axis": semantics.channel_axis,
        "scale": semantics.scale,
        "center": semantics.center,
        "unlearned_gamma": name(&semantics.unlearned_gamma),
        "unlearned_beta": name(&semantics.unlearned_beta),
        "one_value": name(&semantics.one_value),
        "group_parameters": name(&semantics.group_parameters),
        "running_statistics": semantics.running_statistics,
        "momentum": name(&semantics.momentum),
        "running_variance": name(&semantics.running_variance),
        "frozen": name(&semantics.frozen),
        "renorm_momentum": semantics.renorm_momentum.map(|momentum| name(&momentum)),
        "ghost_interleaved": semantics.ghost_interleaved,
        "excluded": name(&semantics.excluded),
        "names": {
            "gamma": names.gamma,
            "beta": names.beta,
            "mean": names.mean,
            "variance": names.variance,
            "steps": names.steps,
        },
    })
}

fn list() -> (String, Value) {
    let mut table = format::table(None);
    table.set_header(["name", "normalizations"]);
    let mut json = Vec::new();
    for name in Semantics::presets() {
        let has = |layer: &Normalization| Semantics::preset(name, *layer).is_ok();
        let layers: Vec<String> =
            Normalization::ALL.iter().filter(|layer| has(layer)).map(ToString::to_string).collect();
        table.add_row([name, &layers.join(", ")]);
        json.push(json!({ "name": name, "normalizations": layers }));
    }
    (format::trimmed(&table), json.into())
}

fn diff(a: &Semantics, b: &Semantics) -> (String, Value) {
    let differences = a.diff(b);
    let json = differences.iter().map(|difference| {
        let (field, by, effect) = (difference.field, difference.by, &difference.effect);
        json!({ "field": field, "a": difference.a, "b": difference.b, "by": by, "effect": effect })
    });
    let json = json!({ "a": a.name, "b": b.name, "differences": json.collect::<Vec<_>>() });
    if differences.is_empty() {
        return (format!("{} and {} mean the same\n", a.name, b.name), json);
    }
    let mut table = format::table(Some(output::width()));
    table.set_header(["field", a.name, b.name, "effect"]);
    for difference in &differences {
        table.add_row([difference.field, &difference.a, &difference.b, &difference.effect]);
    }
    (format::trimmed(&table), json)
}
