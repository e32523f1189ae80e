//! Every layer gives PyTorch's numbers: outputs, gradients and running statistics in f32.
//!
//! The cases come from `fixtures/pytorch/generate.py`. An array's error is
//! max |ours − PyTorch| / max(1, max |PyTorch|) and has to stay within [`TOLERANCE`]. Where
//! inputs lie around 10,000, PyTorch's own f32 is further than that from its f64: then the
//! array may differ by twice PyTorch's own error more, and the table has a line of its own.
//!
//! `cargo test -p cellnorm --test pytorch -- --nocapture` prints the table.

mod cases;
mod layers;

use cases::{Case, f32s};
use serde_json::Value;
use std::collections::BTreeMap;

const TOLERANCE: f64 = 1e-5;
const QUANTITIES: [&str; 6] = ["y", "dx", "dgamma", "dbeta", "running_mean", "running_var"];

/// The error relative to the array's largest value, or absolute where all are below 1.
fn error(ours: &[f64], theirs: &[f32]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let (mut distance, mut scale) = (0.0, 1.0);
    for (&a, &b) in ours.iter().zip(theirs) {
        let b = f64::from(b);
        // `max` would drop a NaN of ours.
        assert!(a.is_finite(), "{a} where PyTorch has {b}");
        distance = f64::max(distance, (a - b).abs());
        scale = f64::max(scale, b.abs());
    }
    distance / scale
}

/// A line of the table: the worst errors over its cases, ours and PyTorch's own.
#[derive(Default)]
struct Line {
    cases: usize,
    worst: BTreeMap<&'static str, (f64, f64)>,
}

#[test]
fn agrees_with_pytorch() {
    let file: Value = serde_json::from_str(include_str!("../fixtures/pytorch/cases.json")).expect("valid JSON");
    let cases = file["cases"].as_array().expect("cases");
    assert!(cases.len() >= 40, "only {} cases", cases.len());

    let mut table = BTreeMap::<String, Line>::new();
    let mut failures = Vec::new();
    for case in cases.iter().map(Case::new) {
        let name = case.text("name");
        let outcomes = layers::run(&case).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(outcomes.len(), case.raw_steps().len());
        let own = |quantity: &str| case.json["torch_error"][quantity].as_f64().unwrap_or(0.0);
        let mark = if QUANTITIES.into_iter().any(|q| own(q) > TOLERANCE) { " *" } else { "" };
        let line = table.entry(format!("{}{mark}", case.text("layer"))).or_default();
        line.cases += 1;
        for (at, (outcome, step)) in outcomes.iter().zip(case.raw_steps()).enumerate() {
            for quantity in QUANTITIES {
                let (ours, theirs) = match (outcome.get(quantity), f32s(&step[quantity])) {
                    (None, None) => continue,
                    (Some(ours), Some(theirs)) => (ours, theirs),
                    (ours, _) => panic!("{name}: {quantity} only in {}", side(ours.is_some())),
                };
                let (found, own) = (error(&ours, &theirs), own(quantity));
                let allowed = TOLERANCE + if own > TOLERANCE { 2.0 * own } else { 0.0 };
                if found > allowed {
                    failures.push(format!("{name}, step {at}: {quantity} off by {found:.1e}"));
                }
                let worst = line.worst.entry(quantity).or_default();
                *worst = (worst.0.max(found), worst.1.max(own));
            }
        }
    }
    print_table(&file, &table);
    assert!(failures.is_empty(), "{} above the tolerance:\n{}", failures.len(), failures.join("\n"));
}

fn side(ours: bool) -> &'static str {
    if ours { "Cellnorm" } else { "PyTorch" }
}

fn print_table(file: &Value, table: &BTreeMap<String, Line>) {
    let version = file["version"].as_str().expect("a version");
    println!("\nWorst error against PyTorch {version} in f32 (PyTorch's own against its f64)");
    print!("{:<12}{:>5}", "layer", "cases");
    println!("{}", QUANTITIES.map(|quantity| format!("{quantity:>20}")).concat());
    for (layer, line) in table {
        print!("{layer:<12}{:>5}", line.cases);
        for quantity in QUANTITIES {
            match line.worst.get(quantity) {
                Some((ours, own)) => print!("{:>20}", format!("{ours:.1e} ({own:.1e})")),
                None => print!("{:>20}", "-"),
            }
        }
        println!();
    }
    println!("* inputs around 10,000, where PyTorch's f32 is itself more than {TOLERANCE:.0e} off:");
    println!("  allowed {TOLERANCE:.0e} + 2 × PyTorch's own error");
}
