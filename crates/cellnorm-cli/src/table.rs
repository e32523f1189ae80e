//! The results as a table for the terminal.

use comfy_table::{CellAlignment, LineStyle, Table, presets};

use crate::results::{Origin, Results, Run};

/// A column: its heading, and what a run shows in it.
pub struct Column {
    /// The heading.
    pub heading: &'static str,
    /// The text for one run.
    pub cell: fn(&Run) -> String,
}

/// The columns of the terminal's and the report's table. The batch size has one if it varies.
pub fn columns(results: &Results) -> Vec<Column> {
    let mut columns =
        vec![Column { heading: "normalization", cell: |run| run.normalization.name().to_owned() }];
    if results.config.batch_sizes.len() > 1 {
        columns.push(Column { heading: "batch size", cell: |run| run.batch_size.to_string() });
    }
    columns
        .push(Column { heading: "test accuracy", cell: |run| percent(run.last().test_accuracy) });
    if results.config.seeds > 1 {
        columns.push(Column { heading: "lowest", cell: |run| percent(extremes(run).0) });
        columns.push(Column { heading: "highest", cell: |run| percent(extremes(run).1) });
    }
    columns.extend([
        Column { heading: "test loss", cell: |run| format!("{:.4}", run.last().test_loss) },
        Column { heading: "training", cell: |run| format!("{:.2} s", run.timing.training_seconds) },
        Column { heading: "step", cell: |run| format!("{:.2} ms", run.timing.step_ms) },
        Column {
            heading: "forward/step",
            cell: |run| format!("{:.3} ms", run.timing.normalization_forward_ms),
        },
        Column {
            heading: "backward/step",
            cell: |run| format!("{:.3} ms", run.timing.normalization_backward_ms),
        },
        Column {
            heading: "share of step",
            cell: |run| format!("{:.1} %", 100.0 * run.timing.normalization_share),
        },
        Column { heading: "parameters", cell: |run| run.parameters.network.to_string() },
        Column { heading: "of these norm", cell: |run| run.parameters.normalization.to_string() },
    ]);
    columns
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// The lowest and the highest test accuracy of all seeds.
fn extremes(run: &Run) -> (f64, f64) {
    match run.origin {
        Origin::One { .. } => (run.last().test_accuracy, run.last().test_accuracy),
        Origin::Average { lowest_test_accuracy, highest_test_accuracy, .. } => {
            (lowest_test_accuracy, highest_test_accuracy)
        }
    }
}

/// What the columns mean and where the data comes from, for under the table.
pub fn notes(results: &Results) -> String {
    let mut notes = String::from(
        "step: median time of a training step; forward/step, backward/step and share of step: \
         what of it is spent in the normalization; parameters: trainable, in the whole network \
         and in the normalization.",
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

/// A table without lines but the one under its heading.
pub fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─')));
    table
}

/// A table's lines without spaces at their ends.
pub fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The table, with the names to the left and the numbers to the right.
pub fn render(results: &Results) -> String {
    let columns = columns(results);
    let mut table = plain();
    table.set_header(columns.iter().map(|column| column.heading));
    for run in results.shown() {
        table.add_row(columns.iter().map(|column| (column.cell)(run)));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
