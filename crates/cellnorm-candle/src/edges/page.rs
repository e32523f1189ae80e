//! The page `docs/edge-inputs.md`: the table, why Cellnorm differs from candle-nn, and, after the
//! heading of another adapter, what that adapter's test writes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use candle_core::DType;

use super::forms::FORMS;
use super::inputs::{Input, Kind};

/// The reasons, by number from 1.
const REASONS: [&str; 13] = [
    "candle-nn's fused layer and RMS normalization do not take f64.",
    "candle-nn's batch normalization does not train in half precision.",
    "candle-nn's fused layer and RMS normalization have no gradient.",
    "Without samples, candle-nn gives γ no gradient; here it is 0.",
    "A mean over no values: candle-nn's running averages become NaN.",
    "The only value of a statistic is its mean: y is β whatever x is, and nothing is \
     learned.\n   `with_one_value(OneValue::Beta)` takes it.",
    "NaN and infinity are an error where they enter, instead of NaN in all that follows.",
    "The variance, or the mean square, is larger than f64 holds: an error, instead of NaN or 0.",
    "The running variance would be larger than f32 holds: an error, and it stays.",
    "On other devices NaN passes on as in candle-nn: to look for it would wait for the device.",
    "On other devices squares are computed as in candle-nn, in the type of x and f32 at least, \
     and\n    overflow.",
    "Inference by running averages sums nothing: what is not finite stays where it is.",
    "candle-nn's sums or squares overflow.",
];

/// The rows of inputs that differ in their type alone.
pub struct Row {
    layer: Kind,
    input: &'static str,
    types: Vec<&'static str>,
    cells: [String; FORMS.len()],
    why: BTreeSet<usize>,
}

impl Row {
    pub fn new(input: &Input, words: &[[String; 3]; FORMS.len()]) -> Self {
        let [ours @ .., theirs] = words;
        let mut why = BTreeSet::new();
        for (form, words) in ours.iter().enumerate() {
            for (pass, (own, other)) in words.iter().zip(theirs).enumerate() {
                why.extend(reason(input, form, pass, own, other));
            }
        }
        let cells = words.each_ref().map(|words| {
            let same = words.iter().all(|word| *word == words[0]);
            if same { words[0].clone() } else { words.join(" · ") }
        });
        let types = vec![input.dtype.as_str()];
        Self { layer: input.layer, input: input.name, types, cells, why }
    }

    /// Takes another row of the same content.
    pub fn merge(&mut self, other: &Self) -> bool {
        let same = (self.layer, self.input, &self.cells, &self.why)
            == (other.layer, other.input, &other.cells, &other.why);
        if same {
            self.types.extend(&other.types);
        }
        same
    }
}

/// Why the word of one of our forms is not candle-nn's, or is NaN.
fn reason(input: &Input, form: usize, pass: usize, own: &str, theirs: &str) -> Option<usize> {
    let (composed, large) = (form == 2, input.name.starts_with("largest"));
    let unsound = |word: &str| word.contains("NaN") || word == "wrong";
    let case =
        format!("{}, {}, {:?}, {}", input.layer.name(), input.name, input.dtype, FORMS[form]);
    assert!(!own.contains("panic") && !own.contains("error"), "{case}: {own}");
    assert!(!own.contains("no gradient") && !own.contains("averages"), "{case}: {own}");
    assert!(own != "wrong" || composed && large, "{case}: {own}");
    Some(match (own, theirs) {
        // the forward pass has the reason
        ("–", _) | (_, "–") => return None,
        ("refused: one value", _) => 6,
        ("refused: no values", _) => 5,
        ("refused: average", _) => 9,
        ("refused: not finite", _) if large && input.dtype == DType::F64 && !composed => 8,
        ("refused: not finite", _) if large => 11,
        ("refused: not finite", _) => 7,
        (own, _) if unsound(own) && input.layer == Kind::Batch && pass == 2 => 12,
        (own, _) if unsound(own) => {
            assert!(composed, "{case}: {own}");
            if large { 11 } else { 10 }
        }
        (_, "error") if input.layer == Kind::Batch => 2,
        (_, "error") => 1,
        (_, "no gradient") => 3,
        (_, "no gradient of some") => 4,
        (_, theirs) if unsound(theirs) => 13,
        (own, theirs) => {
            assert_eq!(own, theirs, "{case}: no reason");
            return None;
        }
    })
}

/// The table and the reasons.
pub fn page(rows: &[Row]) -> String {
    let mut page = HEAD.to_owned();
    writeln!(page, "| layer | input | type | {} | why |", FORMS.join(" | ")).unwrap();
    writeln!(page, "|---|---|---|{}", "---|".repeat(FORMS.len() + 1)).unwrap();
    for Row { layer, input, types, cells, why } in rows {
        let types = if types.len() == 4 { "all".into() } else { types.join(", ") };
        let why: Vec<_> = why.iter().map(usize::to_string).collect();
        let (layer, cells, why) = (layer.name(), cells.join(" | "), why.join(", "));
        writeln!(page, "| {layer} | {input} | {types} | {cells} | {why} |").unwrap();
    }
    writeln!(page, "\nWhy Cellnorm differs from candle-nn, or gives NaN:\n").unwrap();
    for (number, reason) in (1..).zip(REASONS) {
        assert!(rows.iter().any(|row| row.why.contains(&number)), "no row needs: {reason}");
        writeln!(page, "{number}. {reason}").unwrap();
    }
    page
}

const HEAD: &str = "\
# Edge inputs

Inputs at the edges of what a layer takes, through each form of it: arrays, Candle on the CPU
(fused) and on other devices (composed of Candle's operations, here run on the CPU), and the layer
of candle-nn that it replaces (for instance normalization, group normalization with a group for each
channel). `CELLNORM_WRITE_DOCS=1 cargo test -p cellnorm-candle --lib edges` writes this page.

A cell says what became of training forward · backward · inference, or one word for all three.
*right*: the numbers of the formula, computed apart in f64, up to rounding, and so are the running
averages. *empty*: an empty tensor, and gradients of 0 for γ and β. *refused*: an error, and running
averages have not moved. *NaN there*: NaN or infinity only where x has it; *NaN in its set*: only
among the values of the same statistic; *NaN*: elsewhere. *wrong*: other numbers. *–* stands after a
forward pass that failed. NaN and ∞ are one value of the tensor; ± says that the values have both
signs.

## Arrays and Candle

";

/// Writes the page, if asked to, and asserts that it is this one; the parts of other adapters,
/// which follow, stay.
pub fn check(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/edge-inputs.md");
    let present = fs::read_to_string(&path).unwrap_or_default();
    let own = present.find("\n## Arrays and Candle").unwrap_or(0);
    let others = present[own..]
        .find("\n## ")
        .and_then(|first| Some(own + first + 1 + present[own + first + 1..].find("\n## ")?));
    let (before, others) = present.split_at(others.unwrap_or(present.len()));
    if env::var_os("CELLNORM_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{page}{others}")).expect("the page");
    } else {
        assert!(
            before == page,
            "{} is not this page: renew it with CELLNORM_WRITE_DOCS=1 cargo test -p \
             cellnorm-candle --lib edges\n{page}",
            path.display()
        );
    }
}
