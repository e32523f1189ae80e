//! The results as a table for the terminal.

use comfy_table::CellAlignment;

use super::results::{Origin, Results, Training};
use crate::format;

/// A heading, and the text for one training.
pub type Column = (&'static str, fn(&Training) -> String);

/// The columns of the terminal's and the report's table. The batch size has one if it varies.
pub fn columns(results: &Results) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let mut add = |heading, cell: fn(&Training) -> String| columns.push((heading, cell));
    add("normalization", |run| run.normalization.name().to_owned());
    if results.config.batch_sizes.len() > 1 {
        add("batch size", |run| run.batch_size.to_string());
    }
    add("test accuracy", |run| percent(run.last().test_accuracy));
    if results.config.seeds > 1 {
        add("lowest", |run| percent(extremes(run).0));
        add("highest", |run| percent(extremes(run).1));
    }
    add("test loss", |run| format!("{:.4}", run.last().test_loss));
    add("training", |run| format!("{:.2} s", run.timing.training_seconds));
    add("step", |run| format!("{:.2} ms", run.timing.step_ms));
    add("forward/step", |run| format!("{:.3} ms", run.timing.normalization_forward_ms));
    add("backward/step", |run| format!("{:.3} ms", run.timing.normalization_backward_ms));
    add("share of step", |run| format!("{:.1} %", 100.0 * run.timing.normalization_share));
    add("parameters", |run| run.parameters.network.to_string());
    add("of these norm", |run| run.parameters.normalization.to_string());
    columns
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// The lowest and the highest test accuracy of all seeds.
fn extremes(run: &Training) -> (f64, f64) {
    match run.origin {
        Origin::One { .. } => (run.last().test_accuracy, run.last().test_accuracy),
        Origin::Average { lowest_test_accuracy, highest_test_accuracy, .. } => {
            (lowest_test_accuracy, highest_test_accuracy)
        }
    }
}

/// The meaning of the columns and the origin of the data, to stand under the table.
pub fn notes(results: &Results) -> String {
    let mut notes = String::from(
        "step: median time of a training step; forward/step, backward/step and share of step: \
         the part of it that is spent in the normalization; parameters: trainable, in the whole \
         network and in the normalization.",
    );
    if results.config.seeds > 1 {
        notes += &format!(
            " All but the lowest and the highest test accuracy are means of {} seeds.",
            results.config.seeds
        );
    }
    if results.config.ranks > 1 {
        let statistics =
            if results.config.sync { "of all ranks together" } else { "of each rank's part" };
        notes += &format!(
            " Each batch is shared by {} ranks; batch normalization has the statistics \
             {statistics}; times are the first rank's.",
            results.config.ranks
        );
    }
    if let Some(source) = results.dataset.source {
        notes += &format!(" Data: {}, {source}.", results.dataset.name);
    }
    notes
}

/// The table, with the names to the left and the numbers to the right.
pub fn render(results: &Results) -> String {
    let columns = columns(results);
    let mut table = format::table(None);
    table.set_header(columns.iter().map(|(heading, _)| heading));
    for run in results.shown() {
        table.add_row(columns.iter().map(|(_, cell)| cell(run)));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
