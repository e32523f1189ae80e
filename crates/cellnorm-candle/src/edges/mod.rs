//! Inputs at the edges of what layers take, through arrays, the fused and the composed form, and
//! candle-nn's layers: `docs/edge-inputs.md`.

mod forms;
#[path = "../../../edges/inputs.rs"]
mod inputs;
mod judge;
mod page;
#[path = "../../../edges/twin.rs"]
mod twin;
#[path = "../../../edges/words.rs"]
mod words;

use candle_core::DType;

use forms::run;
use inputs::Input;
use page::Row;

fn row(input: &Input) -> Row {
    let expected = twin::expected(input);
    Row::new(input, &run(input).map(|run| judge::words(&run, input, &expected)))
}

#[test]
fn edge_inputs() {
    page::check(&page::page(&inputs::rows(row, Row::merge)));
}
