//! Inputs at the edges of what layers take, through Flex, the composed form and burn-nn's layers:
//! Burn's part of `docs/edge-inputs.md`.

mod inputs;
mod judge;
mod page;
mod run;
// the right numbers, by the formulas in f64
#[path = "../../../cellnorm-candle/src/edges/twin.rs"]
mod twin;

use inputs::{Input, Kind, TYPES, inputs};
use page::Row;

fn row(input: &Input) -> Row {
    let expected = twin::expected(input);
    Row::new(input, run::forms(input).map(|run| judge::words(&run, input, &expected)))
}

#[test]
fn edge_inputs() {
    let mut rows: Vec<Row> = vec![];
    for layer in Kind::ALL {
        let types = TYPES.map(|dtype| inputs(layer, dtype));
        for i in 0..types[0].len() {
            for row in types.iter().map(|inputs| row(&inputs[i])) {
                if !rows.last_mut().is_some_and(|last| last.merge(&row)) {
                    rows.push(row);
                }
            }
        }
    }
    page::check(&page::part(&rows));
}
