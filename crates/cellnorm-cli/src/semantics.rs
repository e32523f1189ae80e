//! `cellnorm semantics`: what frameworks mean by a normalization, and what differs between two.

use std::fmt::Debug;

use cellnorm::{Normalization, Semantics};
use clap::{Args, Subcommand};
use comfy_table::ContentArrangement;
use serde_json::{Value, json};

use crate::error::Error;
use crate::{output, table};

/// The commands of `cellnorm semantics`.
#[derive(Subcommand)]
pub enum SemanticsCommand {
    /// List the names, and which normalizations each has.
    List(Output),
    /// Show all that one name means by a normalization.
    Show {
        /// The name, such as pytorch-2, keras-3 or onnx-17.
        name: String,
        #[command(flatten)]
        layer: LayerArg,
        #[command(flatten)]
        output: Output,
    },
    /// Show what differs between two names, and by how much.
    Diff {
        /// The one name.
        a: String,
        /// The other.
        b: String,
        #[command(flatten)]
        layer: LayerArg,
        #[command(flatten)]
        output: Output,
    },
}

/// Which normalization.
#[derive(Args)]
pub struct LayerArg {
    /// The normalization: batch, layer, instance, group or rms.
    #[arg(long, value_name = "NAME", value_parser = known, default_value = "batch")]
    layer: Normalization,
}

/// How to print.
#[derive(Args)]
pub struct Output {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn known(name: &str) -> Result<Normalization, String> {
    Normalization::ALL.into_iter().find(|layer| layer.to_string() == name).ok_or_else(|| {
        let names: Vec<String> = Normalization::ALL.iter().map(Normalization::to_string).collect();
        format!("it must be one of {}", names.join(", "))
    })
}

/// Runs the command.
pub fn run(command: &SemanticsCommand) -> Result<(), Error> {
    let (text, json, output) = match command {
        SemanticsCommand::List(output) => {
            let (text, json) = list();
            (text, json, output)
        }
        SemanticsCommand::Show { name, layer, output } => {
            let semantics = Semantics::preset(name, layer.layer)?;
            (format!("{semantics}\n"), show(&semantics), output)
        }
        SemanticsCommand::Diff { a, b, layer, output } => {
            let [a, b] = [Semantics::preset(a, layer.layer)?, Semantics::preset(b, layer.layer)?];
            let (text, json) = diff(&a, &b);
            (text, json, output)
        }
    };
    let text = if output.json { serde_json::to_string_pretty(&json)? + "\n" } else { text };
    output::print(&text).map_err(Error::Standard)
}

/// All fields; what is no number, text or truth value is named as in Rust.
fn show(semantics: &Semantics) -> Value {
    let name = |value: &dyn Debug| format!("{value:?}");
    let names = &semantics.names;
    json!({
        "name": semantics.name,
        "normalization": semantics.normalization.to_string(),
        "epsilon": semantics.epsilon,
        "epsilon_at": name(&semantics.epsilon_at),
        "channel_axis": semantics.channel_axis,
        "scale": semantics.scale,
        "center": semantics.center,
        "stores_fixed": semantics.stores_fixed,
        "one_value": name(&semantics.one_value),
        "group_parameters": name(&semantics.group_parameters),
        "momentum": name(&semantics.momentum),
        "running_variance": name(&semantics.running_variance),
        "frozen": name(&semantics.frozen),
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
    let layers = |name: &str| -> Vec<String> {
        let has = |layer: &&Normalization| Semantics::preset(name, **layer).is_ok();
        Normalization::ALL.iter().filter(has).map(Normalization::to_string).collect()
    };
    let mut table = table::plain();
    table.set_header(["name", "normalizations"]);
    let mut json = Vec::new();
    for name in Semantics::presets() {
        let layers = layers(name);
        table.add_row([name, &layers.join(", ")]);
        json.push(json!({ "name": name, "normalizations": layers }));
    }
    (table::trimmed(&table), json.into())
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
    let mut table = table::plain();
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(output::width() as u16);
    table.set_header(["field", a.name, b.name, "effect"]);
    for difference in &differences {
        table.add_row([difference.field, &difference.a, &difference.b, &difference.effect]);
    }
    (table::trimmed(&table), json)
}
