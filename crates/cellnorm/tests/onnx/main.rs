//! ONNX's node tests of the normalization operators pass: the 55 base cases of onnx 1.22, in f32.
//!
//! Without more, the cases are those of `fixtures/onnx/generate.py`, which have ONNX's names and attributes and inputs of their
//! own, and some that ONNX leaves out. With the environment variable `CELLNORM_ONNX_NODE_TESTS` they are ONNX's own, from the
//! folder that it names: `onnx/backend/test/data/node` in an installed wheel of onnx up to 1.22.
//!
//! An output's error is max |ours − ONNX's| / max |ONNX's| and has to stay within [`TOLERANCE`]; besides, each value has to be
//! within ONNX's own tolerance, |ours − ONNX's| ≤ [`ABSOLUTE`] + [`RELATIVE`] · |ONNX's|, of which the table shows the share
//! that is used.
//!
//! `cargo test -p cellnorm --test onnx -- --nocapture` prints the table.

mod case;
mod operators;
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

/// The folder of cases, and what to call it.
fn source() -> (PathBuf, String) {
    const VARIABLE: &str = "CELLNORM_ONNX_NODE_TESTS";
    match env::var_os(VARIABLE) {
        Some(folder) => {
            let folder = PathBuf::from(folder);
            let name = format!("ONNX's own, from {}", folder.display());
            (folder, name)
        }
        None => {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx/node");
            (folder, format!("regenerated, from tests/fixtures/onnx/node ({VARIABLE} is not set)"))
        }
    }
}

fn cases(folder: &Path) -> Vec<Case> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
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
                failures.push(format!("{name}: output {i} off by {error:.1e}, {share:.1e} of ONNX's tolerance"));
            }
            (self.worst, self.share) = (self.worst.max(error), self.share.max(share));
        }
        self.opsets.insert(*opset);
        *(if name.starts_with("test_") { &mut self.base } else { &mut self.extra }) += 1;
        self.passed += usize::from(failures.is_empty());
        self.outputs += expected.len();
        failures
    }

    fn print(&self, operator: &str) {
        let Line { base, extra, passed, outputs, worst, share, .. } = self;
        let opsets = self.opsets.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
        println!("{operator:<27}{opsets:>12}{base:>6}{extra:>7}{passed:>8}{outputs:>9}{worst:>10.1e}{share:>9.1e}");
    }
}

#[test]
fn agrees_with_onnx() {
    let (folder, name) = source();
    let cases = cases(&folder);
    let (mut base, mut failures) = (0, Vec::new());
    println!("\nONNX node tests: {name}");
    println!("operator                        opsets  base  extra  passed  outputs     worst    share");
    for operator in OPERATORS {
        let mut line = Line::default();
        for case in cases.iter().filter(|case| case.node.op_type == operator) {
            failures.extend(line.add(case));
        }
        line.print(operator);
        base += line.base;
    }
    assert!(failures.is_empty(), "{} above the tolerance:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(base, BASE_CASES, "base cases in {}", folder.display());
    println!("all {base} base cases and {} extra pass", cases.len() - base);
}
