//! The normalizations as JSON, with every number that the table rounds or leaves out.

use std::path::Path;

use cellnorm::inspect::{DEAD, EXPLODING, Range};
use serde_json::{Value, json};

use super::Row;

/// All of them.
pub fn of(path: &Path, rows: &[Row]) -> Value {
    json!({
        "model": path,
        "dead_share": DEAD,
        "exploding_gain": EXPLODING,
        "normalizations": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
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
