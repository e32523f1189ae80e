//! Burn's part of `docs/edge-inputs.md`: the table, and why Cellnorm differs from burn-nn.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use burn::tensor::DType;

use super::inputs::{Input, Kind};
use super::run::FORMS;

/// The reasons, by number from 1.
const REASONS: [&str; 10] = [
    "The only value of a statistic is its mean: y is β whatever x is, and nothing is \
     learned.\n   `with_one_value(OneValue::Beta)` takes it.",
    "A mean over no values: the averages would become NaN.",
    "On Flex an infinite mean square makes y NaN in the whole set, as an infinite variance \
     does;\n   burn-nn divides by ∞, which is 0.",
    "Averages do not move toward what is not finite, or larger than f32 holds, so that they \
     stay\n   finite. y passes NaN on, where a loss scaler looks for it.",
    "The variance, or the mean square, is larger than f64 holds.",
    "On other devices squares are computed as in burn-nn, in the type of x and f32 at least, \
     and\n   overflow.",
    "burn-nn's sums or squares overflow, those of its gradients, too.",
    "burn-nn computes the mean square of f64 in f32.",
    "burn-nn's running variance follows the variance over n; here it is that over n − 1, as \
     in\n   PyTorch, unless `running_variance` says otherwise.",
    "burn-nn's group normalization, which does its instance normalization, too, refuses a \
     tensor\n    without samples.",
];

/// The rows of inputs that differ in their type alone.
pub struct Row {
    layer: Kind,
    input: &'static str,
    types: Vec<String>,
    cells: [String; FORMS.len()],
    why: BTreeSet<usize>,
}

impl Row {
    pub fn new(input: &Input, words: [[String; 3]; FORMS.len()]) -> Self {
        let [ours @ .., theirs] = &words;
        let mut why = BTreeSet::new();
        for (form, words) in ours.iter().enumerate() {
            for (own, other) in words.iter().zip(theirs) {
                why.extend(reasons(input, form, own, other));
            }
        }
        let cells = words.each_ref().map(|words| {
            let same = words.iter().all(|word| *word == words[0]);
            if same { words[0].clone() } else { words.join(" · ") }
        });
        let types = vec![input.dtype.name().into()];
        Self { layer: input.layer, input: input.name, types, cells, why }
    }

    /// Takes another row of the same content.
    pub fn merge(&mut self, other: &Self) -> bool {
        let same = (self.layer, self.input, &self.cells, &self.why)
            == (other.layer, other.input, &other.cells, &other.why);
        if same {
            self.types.extend(other.types.iter().cloned());
        }
        same
    }
}

/// Why the word of one of our forms is not burn-nn's, or says that numbers are lost.
fn reasons(input: &Input, form: usize, own: &str, theirs: &str) -> Vec<usize> {
    let case =
        format!("{:?}, {}, {:?}, {}: {own}", input.layer, input.name, input.dtype, FORMS[form]);
    let bad = ["panic", "no gradient", "moved", "not finite", "wrong averages"];
    assert!(!bad.iter().any(|bad| own.contains(bad)), "{case}");
    let large = input.name.starts_with("largest");
    let finite = input.values.iter().all(|value| value.is_finite());
    let pass = |word: &str| word.split(", ").next().unwrap_or_default().to_owned();
    let stay = own.contains("averages stay").then_some(4);
    let other = match (pass(own).as_str(), pass(theirs).as_str()) {
        // the forward pass has the reason
        ("–", _) | (_, "–") => None,
        ("refused: one value", _) => Some(1),
        ("refused: no values", _) => Some(2),
        ("NaN" | "wrong", _) if finite => {
            assert!(large && (form == 1 || input.dtype == DType::F64), "{case}");
            Some(if form == 1 { 6 } else { 5 })
        }
        (own, other) if own == other => theirs.contains("wrong averages").then_some(9),
        (_, "panic") => Some(10),
        _ if !finite => Some(3),
        _ if input.layer == Kind::Rms && input.dtype == DType::F64 && !large => Some(8),
        _ if large => Some(7),
        _ => panic!("{case}, and {theirs}: no reason"),
    };
    stay.into_iter().chain(other).collect()
}

/// The table and the reasons.
pub fn part(rows: &[Row]) -> String {
    let mut part = HEAD.to_owned();
    writeln!(part, "| layer | input | type | {} | why |", FORMS.join(" | ")).unwrap();
    writeln!(part, "|---|---|---|{}", "---|".repeat(FORMS.len() + 1)).unwrap();
    for Row { layer, input, types, cells, why } in rows {
        let types = if types.len() == 4 { "all".into() } else { types.join(", ") };
        let layer = layer.name();
        let why: Vec<_> = why.iter().map(usize::to_string).collect();
        let (cells, why) = (cells.join(" | "), why.join(", "));
        writeln!(part, "| {layer} | {input} | {types} | {cells} | {why} |").unwrap();
    }
    writeln!(part, "\nWhy Cellnorm differs from burn-nn, or gives NaN:\n").unwrap();
    for (number, reason) in (1..).zip(REASONS) {
        assert!(rows.iter().any(|row| row.why.contains(&number)), "no row needs: {reason}");
        writeln!(part, "{number}. {reason}").unwrap();
    }
    part
}

const HEAD: &str = "
## Burn

The same inputs through Burn's layers on Flex (fused), on other devices (composed of Burn's
operations, here run on Flex), and through the layer of burn-nn that they replace, on Flex.
`CELLNORM_WRITE_DOCS=1 cargo test -p cellnorm-burn --lib edges` writes this part. Burn's `forward`
returns a tensor and no result, so a layer *refuses* by a panic whose message says what would suit;
*panic* is another one. *averages stay*: they do not move toward this batch; *wrong averages*: they
move elsewhere.

";

/// Writes the part, if asked to, and asserts that it is this one; the parts of other adapters stay.
pub fn check(part: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/edge-inputs.md");
    let present = fs::read_to_string(&path).unwrap_or_default();
    let (before, rest) = present.split_at(present.find("\n## Burn").unwrap_or(present.len()));
    let end = rest.get(1..).and_then(|rest| rest.find("\n## ")).map_or(rest.len(), |end| end + 1);
    let (own, after) = rest.split_at(end);
    if env::var_os("CELLNORM_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{before}{part}{after}")).expect("the page");
    } else {
        assert!(
            own == part,
            "{} has another part on Burn: renew it with CELLNORM_WRITE_DOCS=1 cargo test -p \
             cellnorm-burn --lib edges\n{part}",
            path.display()
        );
    }
}
