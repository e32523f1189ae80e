//! Inputs at the edges of what layers take, through Flex, the composed form and burn-nn's layers:
//! Burn's part of `docs/edge-inputs.md`.

#[path = "../../../edges/inputs.rs"]
mod inputs;
mod judge;
mod page;
mod run;
// the right numbers, by the formulas in f64
#[path = "../../../edges/twin.rs"]
mod twin;
#[path = "../../../edges/words.rs"]
mod words;

use burn::tensor::DType;

use inputs::Input;
use page::Row;

fn row(input: &Input) -> Row {
    let expected = twin::expected(input);
    Row::new(input, run::forms(input).map(|run| judge::words(&run, input, &expected)))
}

#[test]
fn edge_inputs() {
    page::check(&page::part(&inputs::rows(row, Row::merge)));
}
