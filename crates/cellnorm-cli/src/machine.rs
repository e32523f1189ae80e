//! `cellnorm --version -v`: the machine as the library sees it.

use cellnorm::kernels::CopyRate;
use cellnorm::machine::{Machine, Size, Threshold};
use miette::IntoDiagnostic;
use serde_json::{Map, Value, json};

use crate::{format, output};

pub fn run(verbose: bool, as_json: bool) -> miette::Result<()> {
    let version = format!("cellnorm {}\n", env!("CARGO_PKG_VERSION"));
    if !verbose {
        return Ok(output::print(&version)?);
    }
    let machine = Machine::current();
    let rates = machine.copy_rates().into_diagnostic()?;
    if as_json {
        return Ok(output::print_json(&as_value(machine, &rates))?);
    }
    let [mut fields, mut thresholds, mut copies] =
        [(); 3].map(|()| format::table(Some(output::width())));
    fields.set_header(["machine", ""]);
    fields.add_row(["instruction set", machine.instruction_set.name()]);
    for (name, number) in machine.numbers() {
        fields.add_row([name.replace('_', " "), Size(number).to_string()]);
    }
    thresholds.set_header(["threshold", "bytes", ""]);
    for Threshold { name, bytes, meaning, .. } in machine.thresholds() {
        thresholds.add_row([name, &Size(bytes).to_string(), meaning]);
    }
    copies.set_header(["copy of", "plain, GB/s", "streamed, GB/s"]);
    let rate = |bytes_a_second: f64| format!("{:.0}", bytes_a_second / 1e9);
    for CopyRate { bytes, plain, streamed } in rates {
        copies.add_row([Size(bytes).to_string(), rate(plain), rate(streamed)]);
    }
    let tables = [fields, thresholds, copies].map(|table| format::trimmed(&table));
    let text = format!("{version}\n{}\nCELLNORM_MACHINE={machine}\n", tables.join("\n"));
    Ok(output::print(&text)?)
}

fn as_value(machine: &Machine, rates: &[CopyRate]) -> Value {
    let mut fields: Map<String, Value> = machine
        .numbers()
        .into_iter()
        .map(|(name, number)| (name.to_owned(), json!(number)))
        .collect();
    fields.insert("instruction_set".into(), json!(machine.instruction_set.name()));
    let threshold = |threshold: &Threshold| {
        let Threshold { name, bytes, meaning, .. } = threshold;
        json!({ "name": name, "bytes": bytes, "meaning": meaning })
    };
    let rate = |rate: &CopyRate| {
        json!({
            "bytes": rate.bytes,
            "plain_bytes_per_second": rate.plain,
            "streamed_bytes_per_second": rate.streamed,
        })
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": fields,
        "thresholds": machine.thresholds().iter().map(threshold).collect::<Vec<_>>(),
        "copies": rates.iter().map(rate).collect::<Vec<_>>(),
    })
}
