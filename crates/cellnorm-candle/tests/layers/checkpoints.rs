//! A checkpoint of other types in the variables of a map.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use candle_nn::{ModuleT, VarBuilder, VarMap};
use cellnorm_candle::{batch_norm, load_cast};

use super::common::*;

fn saved(file: &str, tensors: &[(&str, Tensor)]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("cellnorm-candle-{}-{file}", std::process::id()));
    let tensors: HashMap<&str, Tensor> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

fn halves(values: [f32; 2]) -> Tensor {
    Tensor::new(&values, CPU).and_then(|tensor| tensor.to_dtype(DType::F16)).unwrap()
}

fn checkpoint() -> Vec<(&'static str, Tensor)> {
    vec![
        ("weight", halves([2.0, 3.0])),
        ("bias", halves([0.5, -0.5])),
        ("running_mean", halves([10.0, 20.0])),
        ("running_var", halves([4.0, 25.0])),
        ("num_batches_tracked", Tensor::new(7_i64, CPU).unwrap()),
    ]
}

#[test]
fn a_checkpoint_in_half_precision_is_cast() {
    let path = saved("half.safetensors", &checkpoint());
    for dtype in [DType::F16, DType::F32, DType::F64] {
        let mut map = VarMap::new();
        let layer = batch_norm(2, 1e-12, VarBuilder::from_varmap(&map, dtype, CPU)).unwrap();
        assert!(map.load(&path).is_err(), "Candle's own casts nothing");
        load_cast(&map, &path).unwrap();
        let x = Tensor::new(&[[12_f32, 15.0]], CPU).unwrap();
        // 2 (12 − 10) / 2 + 0.5 and 3 (15 − 20) / 5 − 0.5
        assert_eq!(values(&layer.forward_t(&x, false).unwrap()), [2.5, -3.5]);
        assert_eq!(layer.parameter("gamma").unwrap().dtype(), dtype);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn all_or_nothing() {
    let whole = checkpoint();
    let without = |name: &str| whole.iter().filter(|(own, _)| *own != name).cloned().collect();
    let mut wrong: Vec<_> = whole.clone();
    wrong[3] = ("running_var", Tensor::zeros(3, DType::F16, CPU).unwrap());
    let huge = Tensor::new(&[1e6_f32, 1.0], CPU).unwrap();
    let mut large: Vec<_> = whole.clone();
    large[0] = ("weight", huge);
    let files: [(Vec<_>, &[&str]); 3] = [
        (without("running_var"), &["running_var"]),
        (wrong, &["running_var", "[3]", "[2]"]),
        (large, &["weight", "F16"]),
    ];
    for (i, (tensors, words)) in files.into_iter().enumerate() {
        let path = saved(&format!("{i}.safetensors"), &tensors);
        let map = VarMap::new();
        batch_norm(2, 1e-5, VarBuilder::from_varmap(&map, DType::F16, CPU)).unwrap();
        let message = load_cast(&map, &path).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        for (name, var) in map.data().lock().unwrap().iter() {
            let start = if ["weight", "running_var"].contains(&name.as_str()) { 1.0 } else { 0.0 };
            assert_eq!(values(var), [start; 2], "{name}");
        }
        std::fs::remove_file(path).unwrap();
    }
    let missing = load_cast(&VarMap::new(), "no/such.safetensors").unwrap_err().to_string();
    assert!(missing.contains("no/such.safetensors"), "{missing}");
}
