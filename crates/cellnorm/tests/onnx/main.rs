//! ONNX's node tests of the normalization operators pass: the 55 base cases of onnx 1.22, in f32.
//!
//! Without more, the cases are those of `fixtures/onnx/generate.py`, which have ONNX's names and
//! attributes and inputs of their own, and some that ONNX leaves out. With the environment variable
//! `CELLNORM_ONNX_NODE_TESTS` they are ONNX's own, from the folder that it names:
//! `onnx/backend/test/data/node` in an installed wheel of onnx up to 1.22.
//!
//! An output's error is max |ours − ONNX's| / max |ONNX's| and has to stay within [`TOLERANCE`];
//! besides, each value has to be within ONNX's own tolerance, |ours − ONNX's| ≤ [`ABSOLUTE`] +
//! [`RELATIVE`] · |ONNX's|, of which the table shows the share that is used.
//!
//! `cargo test -p cellnorm --test onnx -- --nocapture` prints the table; with
//! `CELLNORM_WRITE_DOCS=1` that of the cases here goes to `docs/conformance.md`.

mod case;
mod operators;
#[path = "../page/mod.rs"]
mod page;
mod proto;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use case::Case;
use ndarray::ArrayD;
use operators::OPERATORS;

const TOLERANCE: f64 = 1e-5;
/// The tolerances of ONNX's backend tests.
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-7;
const BASE_CASES: usize = 55;

/// The folder of ONNX's own cases, where there is one.
fn theirs() -> Option<PathBuf> {
    env::var_os("CELLNORM_ONNX_NODE_TESTS").map(PathBuf::from)
}

fn cases(folder: &Path) -> Vec<Case> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    folders.sort();
    folders.iter().filter_map(|folder| Case::read(folder, &OPERATORS)).collect()
}

/// The error relative to the largest value, and the used share of ONNX's own tolerance.
fn errors(ours: &ArrayD<f64>, onnx: &ArrayD<f32>) -> (f64, f64) {
    assert_eq!(ours.shape(), onnx.shape());
    let (mut distance, mut scale, mut share) = (0.0_f64, f64::MIN_POSITIVE, 0.0_f64);
    for (ours, onnx) in ours.iter().zip(onnx) {
        let onnx = f64::from(*onnx);
        // `max` would drop a NaN of ours
        assert!(ours.is_finite(), "{ours} where ONNX has {onnx}");
        distance = distance.max((ours - onnx).abs());
        scale = scale.max(onnx.abs());
        share = share.max((ours - onnx).abs() / (ABSOLUTE + RELATIVE * onnx.abs()));
    }
    (distance / scale, share)
}

/// A line of the table.
#[derive(Default)]
struct Line {
    opsets: BTreeSet<i64>,
    base: usize,
    extra: usize,
    passed: usize,
    outputs: usize,
    worst: f64,
    share: f64,
}

impl Line {
    /// Runs a case and counts it; what is wrong with its outputs.
    fn add(&mut self, case: &Case) -> Vec<String> {
        let Case { name, opset, outputs: expected, .. } = case;
        let outputs = operators::run(case).unwrap_or_else(|e| panic!("{name}: {e}"));
        // a node may leave out optional outputs, from the last
        assert!(outputs.len() >= expected.len(), "{name} has more outputs");
        let mut failures = Vec::new();
        for (i, (ours, onnx)) in outputs.iter().zip(expected).enumerate() {
            let (error, share) = errors(ours, onnx);
            if error > TOLERANCE || share > 1.0 {
                failures.push(format!(
                    "{name}: output {i} off by {error:.1e}, {share:.1e} of ONNX's tolerance"
                ));
            }
            (self.worst, self.share) = (self.worst.max(error), self.share.max(share));
        }
        self.opsets.insert(*opset);
        *(if name.starts_with("test_") { &mut self.base } else { &mut self.extra }) += 1;
        self.passed += usize::from(failures.is_empty());
        self.outputs += expected.len();
        failures
    }

    fn row(&self, operator: &str) -> String {
        let Line { base, extra, passed, outputs, worst, share, .. } = self;
        let opsets = self.opsets.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "| {operator} | {opsets} | {base} | {extra} | {passed} | {outputs} | {worst:.1e} | \
             {share:.1e} |\n"
        )
    }
}

const HEAD: &str = "\
## ONNX's node tests

Each normalization operator of ONNX, as a layer made from the node's attributes, in f32. The node \
                    tests here have ONNX's names,
opsets and attributes, and inputs of their own; the others are what those leave out.
`cargo test -p cellnorm --test onnx -- --nocapture` runs them, and ONNX's own files where \
                    `CELLNORM_ONNX_NODE_TESTS` names their
folder.
";

#[test]
fn agrees_with_onnx() {
    let theirs = theirs();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/node");
    let folder = theirs.as_ref().unwrap_or(&ours);
    let cases = cases(folder);
    let (mut base, mut passed, mut rows, mut failures) = (0, 0, String::new(), Vec::new());
    for operator in OPERATORS {
        let mut line = Line::default();
        for case in cases.iter().filter(|case| case.node.op_type == operator) {
            failures.extend(line.add(case));
        }
        rows += &line.row(operator);
        (base, passed) = (base + line.base, passed + line.passed);
    }
    let extra = cases.len() - base;
    let summary = format!("* ONNX 1.22: {base} node tests and {extra} others, {passed} passed");
    let part = format!(
        "{HEAD}
{summary}

The worst error is max |ours − theirs| / max |theirs| of an output, at most {TOLERANCE:.0e}; \
         besides, each value has to be within
ONNX's own tolerance, {ABSOLUTE:.0e} + {RELATIVE:.0e} |theirs|, of which the last column has the \
         largest share used.

| operator | opsets | node tests | others | passed | outputs | worst error | share |
|---|---|---:|---:|---:|---:|---:|---:|
{rows}"
    );
    println!("\n{}:\n\n{part}", folder.display());
    assert!(
        failures.is_empty(),
        "{} above the tolerance:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert_eq!(base, BASE_CASES, "node tests in {}", folder.display());
    if theirs.is_none() {
        page::check(&part, [summary]);
    }
}
