//! `cellnorm stats check`: how far a data set is from the data set of some statistics.

use std::path::{Path, PathBuf};

use cellnorm_data::drift::{Drift, drift};
use cellnorm_data::state::Statistics;
use comfy_table::CellAlignment;
use serde_json::{Value, json};

use super::report::failures;
use super::{StatsError, measure};
use crate::{format, input, output};

pub fn run(
    file: &Path,
    others: &[PathBuf],
    most: Option<f64>,
    threads: usize,
    json: bool,
) -> Result<(), StatsError> {
    let old = Statistics::read(file)?;
    let new = measure(&input::paths(others)?, old.settings.clone(), threads)?;
    if !old.is_complete() {
        eprintln!(
            "warning: {} is of a part of its data; merge the other shards first",
            file.display()
        );
    }
    if new.channels.places() == 0 {
        return Err(StatsError::NoData { failures: new.failures });
    }
    let drifts = drift(&old, &new)?;
    let same = old.dataset.digest == new.dataset.digest;
    match json {
        true => output::print_json(&as_json(&drifts, same, &new))?,
        false => output::print(&(as_text(&drifts, same) + &failures(&new)))?,
    }
    let distance = |drift: &Drift| drift.shift.abs().max((drift.scale - 1.0).abs());
    let farthest = drifts.iter().map(distance).fold(0.0, f64::max);
    match most {
        Some(most) if farthest > most => Err(StatsError::Drift { farthest, most }),
        _ => Ok(()),
    }
}

fn as_text(drifts: &[Drift], same: bool) -> String {
    let mut table = format::table(None);
    table.set_header([
        "channel",
        "mean before",
        "now",
        "shift",
        "std before",
        "now",
        "scale",
        "t",
        "distance",
    ]);
    for (channel, drift) in drifts.iter().enumerate() {
        table.add_row([
            channel.to_string(),
            format!("{:.6}", drift.old.mean),
            format!("{:.6}", drift.new.mean),
            format!("{:+.4}", drift.shift),
            format!("{:.6}", drift.old.deviation),
            format!("{:.6}", drift.new.deviation),
            format!("{:.4}", drift.scale),
            drift.t.map(|t| format!("{t:+.1}")).unwrap_or_default(),
            drift.distance.map(|distance| format!("{distance:.4}")).unwrap_or_default(),
        ]);
    }
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let same = if same {
        "The files have the same names and sizes as the files of the statistics, and may be the \
         same.\n"
    } else {
        ""
    };
    format!(
        "{}\nshift: difference of the means in deviations before; scale: deviation now over \
         before. Normalized data would have mean shift and deviation scale instead of 0 and 1. t: \
         Welch's, of the samples' means; beyond ±4 it is hardly chance. distance: the largest \
         between the two distributions, 0 to 1.\n{same}",
        format::trimmed(&table)
    )
}

fn as_json(drifts: &[Drift], same: bool, new: &Statistics) -> Value {
    let channel = |drift: &Drift| {
        json!({
            "mean_before": drift.old.mean,
            "mean": drift.new.mean,
            "shift": drift.shift,
            "deviation_before": drift.old.deviation,
            "deviation": drift.new.deviation,
            "scale": drift.scale,
            "t": drift.t,
            "distance": drift.distance,
        })
    };
    let channels: Vec<Value> = drifts.iter().map(channel).collect();
    json!({ "same_names_and_sizes": same, "channels": channels, "failures": new.failures })
}
