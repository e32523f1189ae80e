//! Every layer gives every framework's numbers: outputs, gradients and running statistics in f32.
//!
//! The cases come from `fixtures/*/generate.py`. A layer is made from the framework's preset and
//! what the case was given beyond it, so the presets are tested, too. Where a framework's own f32
//! is far from its f64, ours has to be nearer to that f64.
//!
//! `cargo test -p cellnorm --test conformance -- --nocapture` prints the table; with
//! `CELLNORM_WRITE_DOCS=1` it goes to `docs/conformance.md`.

mod case;
mod compare;
mod layers;
mod lines;
#[path = "../page/mod.rs"]
mod page;
mod spectral;
mod table;
mod variants;

use case::{Case, Step};
use compare::{Found, compare};
use layers::Results;
use serde_json::Value;
use table::{Framework, Page};

/// The cases of each framework, and how many there have to be at least.
const FILES: [(&str, usize); 6] = [
    (include_str!("../fixtures/pytorch/cases.json"), 98),
    (include_str!("../fixtures/keras3/cases.json"), 57),
    (include_str!("../fixtures/tfkeras2/cases.json"), 43),
    (include_str!("../fixtures/tfa/cases.json"), 31),
    (include_str!("../fixtures/mxnet/cases.json"), 37),
    (include_str!("../fixtures/flax/cases.json"), 43),
];

#[test]
fn agrees_with_every_framework() {
    let mut failures = Vec::new();
    let frameworks = FILES.map(|(file, least)| {
        let framework = framework(file, &mut failures);
        assert!(framework.cases() >= least, "{}: fewer than {least}", framework.summary());
        framework
    });
    let page = Page(&frameworks).to_string();
    println!("{page}");
    assert!(
        failures.is_empty(),
        "{} above the tolerance:\n{}",
        failures.len(),
        failures.join("\n")
    );
    page::check(&page, frameworks.iter().map(|framework| format!("* {}", framework.summary())));
}

fn framework(file: &str, failures: &mut Vec<String>) -> Framework {
    let file: Value = serde_json::from_str(file).expect("valid JSON");
    let mut framework = Framework::new(
        file["framework"].as_str().expect("a name"),
        file["version"].as_str().expect("one"),
    );
    for case in file["cases"].as_array().expect("cases").iter().map(Case::new) {
        let name = case.text("name");
        let steps = layers::run(&case).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(steps.len(), case.steps().len(), "{name}");
        let found: Vec<_> = case
            .steps()
            .zip(&steps)
            .flat_map(|(step, ours)| compare_step(name, &step, ours))
            .collect();
        for (result, found) in &found {
            if let Found::Differs(by) = found {
                failures.push(format!("{}, {name}: {result} off by {by:.1e}", case.text("preset")));
            }
        }
        framework.enter(case.text("layer"), name, &found);
    }
    framework
}

/// Every result of the framework's against ours, at every position, whatever a mask says of it.
fn compare_step<'a>(name: &str, step: &Step<'a>, ours: &Results) -> Vec<(&'a str, Found)> {
    let theirs: Vec<_> = step.results().collect();
    for result in ours.keys() {
        assert!(
            theirs.iter().any(|(theirs, _)| theirs == result),
            "{name}: {result} only in Cellnorm"
        );
    }
    let compared = theirs.into_iter().map(|(result, theirs)| {
        let ours = ours.get(result).unwrap_or_else(|| panic!("{name}: {result} not in Cellnorm"));
        (result, compare(ours, &theirs, step.exact(result).as_deref()))
    });
    compared.collect()
}
