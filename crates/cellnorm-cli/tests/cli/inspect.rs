//! `cellnorm inspect`, and `cellnorm fold` of checkpoints: tables, JSON, warnings, guesses,
//! refusals.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use cellnorm::state::{Checkpoint, DType, Tensor};
use ndarray::ArrayD;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::plain;

fn cellnorm(words: &[&str]) -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("cellnorm");
    command.args(words).env("COLUMNS", "160").env_remove("NO_COLOR");
    command
}

fn text(words: &[&str]) -> String {
    let output = cellnorm(words).output().unwrap();
    assert!(output.status.success(), "{}", plain(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refuses(words: &[&str], parts: &[&str]) {
    let output = cellnorm(words).output().unwrap();
    let message = plain(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    assert!(output.stdout.is_empty());
}

fn pattern(name: &str) -> String {
    format!("{}/../cellnorm-onnx/tests/fixtures/patterns/{name}.onnx", env!("CARGO_MANIFEST_DIR"))
}

/// A folder with a checkpoint: a convolution, its normalization with a dead channel, and metadata.
fn model() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::default();
    checkpoint.metadata.insert("format".into(), "pt".into());
    let numbers: [(&str, &[usize], &[f64]); 5] = [
        ("net.conv.weight", &[2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]),
        ("net.bn.weight", &[2], &[2.0, 1e-9]),
        ("net.bn.bias", &[2], &[0.5, 0.25]),
        ("net.bn.running_mean", &[2], &[1.0, 2.0]),
        ("net.bn.running_var", &[2], &[0.75, 3.75]),
    ];
    for (name, shape, values) in numbers {
        let values = ArrayD::from_shape_vec(shape.to_vec(), values.to_vec()).unwrap();
        checkpoint.insert(name, &Tensor::new(values, DType::F32)).unwrap();
    }
    let path = folder.path().join("model.safetensors");
    checkpoint.write(&path).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

fn file_in(folder: &TempDir, name: &str) -> (PathBuf, String) {
    let path = folder.path().join(name);
    let text = path.display().to_string();
    (path, text)
}

#[test]
fn a_model_is_told_with_where_it_folds() {
    let told = text(&["inspect", &pattern("conv2d-bn")]);
    for part in [
        "1 normalization, 4 channels; 0 dead",
        "1 × onnx-15 batch: fixed statistics of axis 1",
        "backward into",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let kept = text(&["inspect", &pattern("training-mode")]);
    assert!(
        kept.contains("stays: batch-statistics")
            && kept.contains("export the model in evaluation mode"),
        "{kept}"
    );
    let json: Value =
        serde_json::from_str(&text(&["inspect", &pattern("negative-variance"), "--json"])).unwrap();
    let layer = &json["normalizations"][0];
    assert!(
        layer["variance"]["least"].as_f64().unwrap() < 0.0
            && layer["negative_variance"][0].is_u64(),
        "{layer}"
    );
    assert_eq!(layer["fold"]["stays"]["reason"], "parameters");
}

#[test]
fn a_checkpoint_is_told_with_what_is_wrong() {
    let (_folder, model) = model();
    let told = text(&["inspect", &model]);
    for part in [
        "1 normalization, 2 channels; 1 dead",
        "names as in pytorch-2",
        "ε assumed",
        "net.bn: 1 of 2, channel with index 1\n",
        "pruned",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let json: Value =
        serde_json::from_str(&text(&["inspect", &model, "--epsilon", "0.25", "--json"])).unwrap();
    let layer = &json["normalizations"][0];
    assert_eq!(
        (layer["epsilon"].as_f64(), layer["largest_gain"].as_f64()),
        (Some(0.25), Some(2.0))
    );
    assert_eq!(
        (&layer["dead_gamma"][0], &layer["epsilon_stored"]),
        (&Value::from(1), &Value::from(false))
    );
}

#[test]
fn a_checkpoint_is_folded_by_the_pairs_that_its_guesses_print() {
    let (folder, model) = model();
    let guessed = text(&["fold", &model, "--dry-run"]);
    assert!(
        guessed.contains("Names do not tell what lies between") && guessed.contains("net.conv"),
        "{guessed}"
    );
    let (pairs_path, pairs) = file_in(&folder, "pairs.json");
    fs::write(&pairs_path, text(&["fold", &model, "--dry-run", "--json"])).unwrap();
    let (path, output) = file_in(&folder, "folded.safetensors");

    refuses(
        &["fold", &model, "-o", &output],
        &["does not say which normalization belongs", "--dry-run prints one"],
    );
    refuses(
        &["fold", &model, "-o", &output, "--pairs", &pairs],
        &["nothing says the epsilon of net.bn"],
    );
    refuses(
        &["fold", &model, "-o", &output, "--pairs", &pairs, "--epsilon", "0.25", "--html", "x"],
        &["ONNX models"],
    );
    refuses(
        &["fold", &model, "-o", &model, "--pairs", &pairs, "--epsilon", "0.25"],
        &["is the input"],
    );
    assert!(!path.exists());

    let dry = text(&["fold", &model, "--dry-run", "--pairs", &pairs, "--epsilon", "0.25"]);
    assert!(
        dry.contains("1 normalization folded into 1 layer\n")
            && dry.contains("nothing was written"),
        "{dry}"
    );
    let told = text(&["fold", &model, "-o", &output, "--pairs", &pairs, "--epsilon", "0.25"]);
    assert!(told.contains("written: "), "{told}");
    let folded = Checkpoint::read(&path).unwrap();
    assert_eq!(folded.names().collect::<Vec<_>>(), ["net.conv.bias", "net.conv.weight"]);
    assert_eq!(folded.metadata["format"], "pt");
    // 2 (y - 1) / 1 + 0.5 of the first channel
    let values =
        |name: &str| folded.tensor(name).unwrap().values.iter().copied().collect::<Vec<_>>();
    assert_eq!(
        (values("net.conv.weight")[..2].to_vec(), values("net.conv.bias")[0]),
        (vec![2.0, 4.0], -1.5)
    );
}

#[test]
fn bad_files_are_refused_in_one_message() {
    let (folder, model) = model();
    let put = |name: &str, bytes: &[u8]| {
        let (path, text) = file_in(&folder, name);
        fs::write(path, bytes).unwrap();
        text
    };
    let whole = fs::read(Path::new(&model)).unwrap();
    refuses(&["inspect", &put("cut.safetensors", &whole[..60])], &["cut.safetensors"]);
    refuses(
        &["inspect", &put("cut.onnx", b"\x08\x07:\xff")],
        &["cut.onnx: not a usable ONNX model"],
    );
    refuses(&["inspect", &put("no.npz", b"no zip")], &["no.npz"]);
    refuses(&["inspect", &put("no.pth", b"no pickle")], &["no.pth"]);
    refuses(
        &["inspect", &put("model.h5", b"")],
        &["must end in .onnx, .safetensors, .npz, .pth or .pt"],
    );
    refuses(&["inspect", "missing.onnx"], &["missing.onnx"]);
    refuses(
        &["inspect", &pattern("conv2d-bn"), "--epsilon", "1"],
        &["--epsilon is for checkpoints"],
    );
    refuses(
        &["fold", &pattern("conv2d-bn"), "--dry-run", "--pairs", "x"],
        &["--pairs is for checkpoints"],
    );
    for (pairs, part) in [
        ("{\"pairs\": []}", "names no pair"),
        (
            "{\"pairs\": [{\"layer\": \"a\", \"norm\": \"b\", \"kind\": \"cnov\"}]}",
            "unknown variant `cnov`",
        ),
        (
            "{\"pairs\": [{\"layer\": \"a\", \"norm\": \"b\", \"kind\": \"conv\"}]}",
            "the checkpoint has no a.weight",
        ),
    ] {
        let pairs = put("pairs.json", pairs.as_bytes());
        refuses(&["fold", &model, "--dry-run", "--pairs", &pairs, "--epsilon", "1e-5"], &[part]);
    }
}
