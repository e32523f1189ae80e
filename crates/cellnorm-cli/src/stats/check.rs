//! `cellnorm stats check`: how far a data set is from the one that statistics are of.

use std::path::{Path, PathBuf};

use cellnorm_data::drift::{Drift, drift};
use cellnorm_data::state::Statistics;
use comfy_table::CellAlignment;
use serde_json::json;

use super::text::failures;
use super::{measure, paths};
use crate::error::Error;
use crate::{output, table};

/// Runs the command.
pub fn run(
    file: &Path,
    others: &[PathBuf],
    most: Option<f64>,
    threads: usize,
    json: bool,
) -> Result<(), Error> {
    let old = Statistics::read(file)?;
    let new = measure(&paths(others)?, old.settings.clone(), threads)?;
    if !old.is_complete() {
        eprintln!(
            "warning: {} is of a part of its data; merge the other shards first",
            file.display()
        );
    }
    if new.channels.places() == 0 {
        return Err(Error::NoData { failures: new.failures });
    }
    let drifts = drift(&old, &new)?;
    let same = old.dataset.digest == new.dataset.digest;
    let text = if json {
        as_json(&drifts, same, &new) + "\n"
    } else {
        as_text(&drifts, same) + &failures(&new)
    };
    output::print(&text).map_err(Error::Standard)?;
    let far = |drift: &Drift| drift.shift.abs().max((drift.scale - 1.0).abs());
    let farthest = drifts.iter().map(far).fold(0.0, f64::max);
    match most {
        Some(most) if farthest > most => Err(Error::Drift { farthest, most }),
        _ => Ok(()),
    }
}

fn as_text(drifts: &[Drift], same: bool) -> String {
    let mut table = table::plain();
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
        let optional =
            |value: Option<f64>| value.map(|value| format!("{value:.4}")).unwrap_or_default();
        table.add_row([
            channel.to_string(),
            format!("{:.6}", drift.old.mean),
            format!("{:.6}", drift.new.mean),
            format!("{:+.4}", drift.shift),
            format!("{:.6}", drift.old.deviation),
            format!("{:.6}", drift.new.deviation),
            format!("{:.4}", drift.scale),
            drift.t.map(|t| format!("{t:+.1}")).unwrap_or_default(),
            optional(drift.distance),
        ]);
    }
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let same = if same {
        "The files have the same names and sizes as those that the statistics are of, and may be \
         the same.\n"
    } else {
        ""
    };
    format!(
        "{}\nshift: difference of the means in deviations before; scale: deviation now over \
         before. Normalized data would have mean shift and deviation scale instead of 0 and 1. t: \
         Welch's, of the samples' means; beyond ±4 it is hardly chance. distance: the largest \
         between the two distributions, 0 to 1.\n{same}",
        table::trimmed(&table)
    )
}

fn as_json(drifts: &[Drift], same: bool, new: &Statistics) -> String {
    let one = |drift: &Drift| {
        json!({
            "mean_before": drift.old.mean, "mean": drift.new.mean, "shift": drift.shift,
            "deviation_before": drift.old.deviation, "deviation": drift.new.deviation, "scale": drift.scale,
            "t": drift.t, "distance": drift.distance,
        })
    };
    let channels: Vec<_> = drifts.iter().map(one).collect();
    format!(
        "{:#}",
        json!({ "same_names_and_sizes": same, "channels": channels, "failures": new.failures })
    )
}
