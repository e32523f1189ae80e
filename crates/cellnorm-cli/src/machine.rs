//! `cellnorm --version -v`: the machine as the library sees it.

use cellnorm::machine::{CopyRate, Machine, Size, Threshold};
use comfy_table::ContentArrangement;
use serde_json::{Value, json};

use crate::error::Error;
use crate::{output, table};

pub fn run(verbose: bool, as_json: bool) -> Result<(), Error> {
    let version = format!("cellnorm {}\n", env!("CARGO_PKG_VERSION"));
    if !verbose {
        return output::print(&version).map_err(Error::Standard);
    }
    let machine = Machine::current();
    let rates = machine.copy_rates()?;
    if as_json {
        let text = serde_json::to_string_pretty(&as_value(machine, &rates))? + "\n";
        return output::print(&text).map_err(Error::Standard);
    }
    let mut fields = table::plain();
    fields.set_header(["machine", ""]);
    fields.add_row(["instruction set".to_owned(), machine.instruction_set.name().to_owned()]);
    for (name, number) in machine.numbers() {
        fields.add_row([name.replace('_', " "), Size(number).to_string()]);
    }
    let mut thresholds = table::plain();
    thresholds.set_header(["threshold", "bytes", ""]);
    for Threshold { name, bytes, meaning, .. } in machine.thresholds() {
        thresholds.add_row([name, &Size(bytes).to_string(), meaning]);
    }
    let mut copies = table::plain();
    copies.set_header(["copy of", "plain, GB/s", "streamed, GB/s"]);
    let rate = |bytes_a_second: f64| format!("{:.0}", bytes_a_second / 1e9);
    for CopyRate { bytes, plain, streamed } in rates {
        copies.add_row([Size(bytes).to_string(), rate(plain), rate(streamed)]);
    }
    let width = u16::try_from(output::width()).unwrap_or(u16::MAX);
    let mut text = version;
    for mut table in [fields, thresholds, copies] {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        text += &format!("\n{}", table::trimmed(&table));
    }
    text += &format!("\nCELLNORM_MACHINE={machine}\n");
    output::print(&text).map_err(Error::Standard)
}

fn as_value(machine: &Machine, rates: &[CopyRate]) -> Value {
    let numbers =
        machine.numbers().into_iter().map(|(name, number)| (name.to_owned(), json!(number)));
    let mut fields: serde_json::Map<String, Value> = numbers.collect();
    fields.insert("instruction_set".into(), json!(machine.instruction_set.name()));
    let thresholds: Vec<Value> = machine
        .thresholds()
        .iter()
        .map(|Threshold { name, bytes, meaning, .. }| json!({"name": name, "bytes": bytes, "meaning": meaning}))
        .collect();
    let rates: Vec<Value> = rates
        .iter()
        .map(|CopyRate { bytes, plain, streamed }| {
            json!({"bytes": bytes, "plain_bytes_per_second": plain, "streamed_bytes_per_second": streamed})
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": fields,
        "thresholds": thresholds,
        "copies": rates,
    })
}
