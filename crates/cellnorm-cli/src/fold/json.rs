//! What was done, as JSON.

use serde_json::{Value, json};

use super::Story;

/// Everything that is known.
pub fn of(story: &Story<'_>) -> Value {
    let report = &story.folded.report;
    let data = story.folded.data.as_ref();
    json!({
        "model": story.source.path(),
        "bytes_before": story.source.bytes().len(),
        "before": report.before,
        "after": report.after,
        "folds": report.folds,
        "kept": report.kept,
        "data": data.map(|data| json!({ "input": data.input, "axis": data.axis, "mean": data.mean, "std": data.deviation })),
        "certificate": story.certificate,
        "written": story.written.map(|(path, bytes)| json!({ "path": path, "bytes": bytes })),
    })
}
