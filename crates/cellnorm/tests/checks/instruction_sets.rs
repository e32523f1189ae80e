//! The same bits on every instruction set: this test runs itself once with each and compares what they print.

use std::collections::BTreeMap;
use std::process::Command;

use crate::common::{AnyLayer, Numbers, Outcome, Parameters, Spec, Which};
use cellnorm::passes;
use ndarray::ArrayD;

fn specs() -> Vec<Spec> {
    use Which::*;
    let over = vec![0, 2];
    vec![
        Spec::new(Batch { fixed: false }, &[5, 7, 9, 11]),
        Spec::new(Batch { fixed: true }, &[5, 7, 9, 11]),
        Spec::new(Batch { fixed: false }, &[3, 600, 10]).channels_last(),
        Spec::new(Instance, &[2, 300, 33]).channels_last(),
        Spec::new(Instance, &[2, 2, 10_001]),
        Spec::new(Group(4), &[3, 100, 12]).channels_last(),
        Spec::new(LayerPerChannel, &[2, 8, 1000]),
        Spec::new(LayerLast(1), &[70, 77]),
        Spec::new(LayerOver(over), &[9, 4, 21]),
        Spec::new(RmsLast(2), &[6, 70, 70]),
        Spec::new(RmsPerChannel, &[4, 19, 64]).channels_last(),
    ]
}

/// FNV-1a over the bits of all results.
struct Hash(u64);

impl Hash {
    fn add(&mut self, values: impl IntoIterator<Item = f64>) {
        for byte in values.into_iter().flat_map(|value| value.to_bits().to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn add_outcome<T: Copy + Into<f64>>(&mut self, outcome: Outcome<T>) {
        self.add(outcome.y.iter().map(|v| (*v).into()));
        self.add(outcome.dx.iter().map(|v| (*v).into()));
        self.add(outcome.dgamma.into_iter().flatten());
        self.add(outcome.dbeta.into_iter().flatten());
        self.add(outcome.saved.statistics.mean);
        self.add(outcome.saved.statistics.variance);
    }
}

/// What a child prints: the instruction set it ran on and the hash of each layer's results.
#[test]
#[ignore = "run by the test below"]
fn child() {
    println!("set {}", passes::instruction_set());
    for spec in specs() {
        let mut numbers = Numbers::new(11);
        let mut hash = Hash(0xcbf2_9ce4_8422_2325);
        for mean in [0.0, 1e4] {
            let parameters = Parameters::random(&spec, &mut numbers, mean);
            let (x, dy): (ArrayD<f64>, _) = (numbers.tensor(&spec.shape, mean), numbers.tensor(&spec.shape, 0.0));
            let mut layer = AnyLayer::new(&spec, &parameters).unwrap();
            hash.add_outcome(layer.run(x.view(), dy.view()).unwrap());
            let (x, dy) = (x.mapv(|v| v as f32), dy.mapv(|v| v as f32));
            hash.add_outcome(layer.run(x.view(), dy.view()).unwrap());
        }
        println!("hash {:016x} {} {:?}", hash.0, spec.name(), spec.shape);
    }
}

/// The instruction set a child used, its hashes, and what it wrote to stderr.
fn run_child(asked: &str) -> (String, Vec<String>, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["instruction_sets::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env("CELLNORM_ISA", asked)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{err}");
    let set = out.lines().find_map(|line| line.split_once("set ")).expect("the child prints its set").1.to_string();
    let hashes: Vec<String> = out.lines().filter(|line| line.starts_with("hash ")).map(String::from).collect();
    assert_eq!(hashes.len(), specs().len(), "{out}");
    (set, hashes, err)
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let (widest, expected, _) = run_child("");
    let mut tried = BTreeMap::new();
    for asked in ["portable", "avx2", "avx512"] {
        let (set, hashes, err) = run_child(asked);
        assert_eq!(hashes, expected, "{set} against {widest}");
        // a set that the machine lacks is replaced, and the user told
        assert_eq!(err.contains(&format!("CELLNORM_ISA is {asked}, but this machine has {set} at most")), set != asked);
        tried.insert(set, asked);
    }
    assert!(tried.contains_key("portable") && tried.contains_key(&widest));
    println!("equal bits of {} layers on {}", expected.len(), tried.into_keys().collect::<Vec<_>>().join(", "));

    let (set, _, err) = run_child("sse9");
    assert_eq!(set, widest);
    assert_eq!(err.matches("CELLNORM_ISA is sse9; it must be one of portable, avx2, avx512").count(), 1, "{err}");
}
