//! Every layer gives every framework's numbers: outputs, gradients and running statistics in f32.
//!
//! The cases come from `fixtures/*/generate.py`. A layer is made from the framework's preset and what the case was given beyond
//! it, so the presets are tested, too. Where a framework's own f32 is far from its f64, ours has to be nearer to that f64.
//!
//! `cargo test -p cellnorm --test conformance -- --nocapture` prints the table; with `CELLNORM_WRITE_DOCS=1` it goes to
//! `docs/conformance.md`.

mod case;
mod compare;
mod layers;
mod lines;
mod spectral;
mod table;
mod tables;

use case::{Case, Step};
use compare::{Found, compare};
use layers::{Results, Run};
use serde_json::Value;
use std::path::Path;
use table::{Framework, Page};

/// The cases of each framework, and how many of them have to be compared at least.
const FILES: [(&str, usize); 6] = [
    (include_str!("../fixtures/pytorch/cases.json"), 60),
    (include_str!("../fixtures/keras3/cases.json"), 40),
    (include_str!("../fixtures/tfkeras2/cases.json"), 25),
    (include_str!("../fixtures/tfa/cases.json"), 25),
    (include_str!("../fixtures/mxnet/cases.json"), 25),
    (include_str!("../fixtures/flax/cases.json"), 25),
];

#[test]
fn agrees_with_every_framework() {
    let mut failures = Vec::new();
    let frameworks = FILES.map(|(file, least)| {
        let framework = framework(file, &mut failures);
        assert!(framework.compared() >= least, "{}: fewer than {least}", framework.summary());
        framework
    });
    let page = Page(&frameworks).to_string();
    println!("{page}");
    assert!(failures.is_empty(), "{} above the tolerance:\n{}", failures.len(), failures.join("\n"));
    check_documentation(&page, &frameworks);
}

fn framework(file: &str, failures: &mut Vec<String>) -> Framework {
    let file: Value = serde_json::from_str(file).expect("valid JSON");
    let mut framework =
        Framework::new(file["framework"].as_str().expect("a name"), file["version"].as_str().expect("one"));
    for case in file["cases"].as_array().expect("cases").iter().map(Case::new) {
        let name = case.text("name");
        match layers::run(&case).unwrap_or_else(|e| panic!("{name}: {e}")) {
            Run::NotYet(why) => framework.not_yet(why),
            Run::Done(steps) => {
                assert_eq!(steps.len(), case.steps().len(), "{name}");
                let found: Vec<_> =
                    case.steps().zip(&steps).flat_map(|(step, ours)| compare_step(name, &step, ours)).collect();
                for (result, found) in &found {
                    if let Found::Differs(by) = found {
                        failures.push(format!("{}, {name}: {result} off by {by:.1e}", case.text("preset")));
                    }
                }
                framework.enter(case.text("layer"), name, &found);
            }
        }
    }
    framework
}

/// Every result of the framework's against ours, at the positions that count.
fn compare_step<'a>(name: &str, step: &Step<'a>, ours: &Results) -> Vec<(&'a str, Found)> {
    let counts = step.counts();
    let theirs: Vec<_> = step.results().collect();
    for result in ours.keys() {
        assert!(theirs.iter().any(|(theirs, _)| theirs == result), "{name}: {result} only in Cellnorm");
    }
    let compared = theirs.into_iter().map(|(result, theirs)| {
        let ours = ours.get(result).unwrap_or_else(|| panic!("{name}: {result} not in Cellnorm"));
        let kept = |values: &[f64]| match &counts {
            Some(counts) if values.len() == counts.len() => {
                values.iter().zip(counts).filter_map(|(value, counts)| counts.then_some(*value)).collect()
            }
            _ => values.to_vec(),
        };
        let exact = step.exact(result).map(|exact| kept(&exact));
        (result, compare(&kept(ours), &kept(&theirs), exact.as_deref()))
    });
    compared.collect()
}

/// The page in the documentation has the same numbers of cases; its errors may be those of an older version.
fn check_documentation(page: &str, frameworks: &[Framework]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    if std::env::var_os("CELLNORM_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of the documentation");
        std::fs::write(&path, page).expect("the page");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for framework in frameworks {
        let summary = framework.summary();
        assert!(
            written.contains(&summary),
            "{} does not say \"{summary}\": renew it with CELLNORM_WRITE_DOCS=1 cargo test -p cellnorm --test conformance",
            path.display(),
        );
    }
}
