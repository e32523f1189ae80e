//! The patterns' models, inputs and results, as `patterns.py` wrote them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cellnorm_onnx::Source;
use cellnorm_onnx::check::{Array, Feed};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Pattern {
    pub name: String,
    file: String,
    pub expected: Expected,
    pub runner: String,
    pub inputs: BTreeMap<String, Stored>,
    pub outputs: BTreeMap<String, Stored>,
}

#[derive(Deserialize)]
pub struct Expected {
    /// How many of the counted nodes the best folding leaves.
    pub left: usize,
    pub batch_norms_left: usize,
    /// The names of the nodes that are counted.
    pub counted: Vec<String>,
    pub kept: Vec<Kept>,
}

#[derive(Debug, Deserialize)]
pub struct Kept {
    /// The node; any one if `None`.
    pub node: Option<String>,
    pub reason: String,
    /// Reasons that are as true.
    #[serde(default)]
    pub also: Vec<String>,
}

#[derive(Deserialize)]
pub struct Stored {
    #[serde(rename = "type")]
    pub kind: String,
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub fn patterns() -> Vec<Pattern> {
    let text = std::fs::read_to_string(fixtures().join("patterns.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

impl Pattern {
    pub fn source(&self) -> Source {
        Source::open(fixtures().join(&self.file)).unwrap()
    }

    /// The inputs that the stored results are of.
    pub fn feed(&self) -> Feed {
        let of = |(name, stored): (&String, &Stored)| {
            let element = match stored.kind.as_str() {
                "float32" => 1,
                "int64" => 7,
                "bool" => 9,
                "float16" => 10,
                "float64" => 11,
                "bfloat16" => 16,
                other => panic!("the type {other}"),
            };
            (
                name.clone(),
                Array { shape: stored.shape.clone(), element, numbers: stored.values.clone() },
            )
        };
        self.inputs.iter().map(of).collect()
    }
}
