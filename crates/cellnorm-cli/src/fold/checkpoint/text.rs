//! What names suggest, and what was folded, for the terminal.

use std::path::Path;

use cellnorm::fold::pairs::{FoldedLayer, Guess, LayerKind};
use comfy_table::CellAlignment;

use crate::numbers::thousands;
use crate::table;

/// What names do not tell, and what to do about it.
const UNKNOWN: &str = "Nothing was folded: these are guesses. Names do not tell what lies between \
                       a layer and a normalization; with an activation between, folding gives a \
                       wrong model. Nor does the file hold epsilon, groups, or whether zeros are \
                       padded. Look at the model's code, correct the pairs below, save them, and \
                       give them with --pairs and --epsilon:\n";

/// The guesses, and the pairing file to edit.
pub fn guessed(path: &Path, guesses: &[Guess], file: &str) -> String {
    let paired = guesses.iter().filter(|guess| guess.layer.is_some()).count();
    let heading = format!(
        "{}: {} normalizations with running statistics; names suggest a layer for {}\n",
        path.display(),
        thousands(guesses.len()),
        thousands(paired)
    );
    if guesses.is_empty() {
        return heading;
    }
    let mut table = table::plain();
    table.set_header(["normalization", "channels", "layer", "kind"]);
    for guess in guesses {
        let (layer, kind) = guess
            .layer
            .as_ref()
            .map_or(("no name fits", ""), |(layer, kind)| (layer, kind_name(*kind)));
        table.add_row([&guess.norm, &guess.channels.to_string(), layer, kind]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{heading}\n{}\n{UNKNOWN}\n{file}", table::trimmed(&table))
}

fn kind_name(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::Convolution => "conv",
        LayerKind::TransposedConvolution => "conv-transposed",
        LayerKind::Linear => "linear",
    }
}

/// What was folded, and where it is.
pub fn folded(path: &Path, folded: &[FoldedLayer], written: Option<(&Path, u64)>) -> String {
    let norms: usize = folded.iter().map(|layer| layer.norms.len()).sum();
    let worst = folded.iter().map(|layer| layer.share).fold(0.0, f64::max);
    let mut text = format!(
        "{}: {} normalizations folded into {} layers\nproof: each layer alone in float64, with \
         the numbers as they are stored: differences at most {worst:.2} of what rounding \
         explains\nThat nothing lies between each pair, and epsilon, are as the pairing file \
         says; no graph was there to check it.\n",
        path.display(),
        thousands(norms),
        thousands(folded.len())
    );
    text += &match written {
        Some((path, bytes)) => {
            format!("written: {}, {} bytes\n", path.display(), thousands(bytes as usize))
        }
        None => "nothing was written\n".into(),
    };
    text
}
