//! `cellnorm fold`, as a user runs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

fn pattern(name: &str) -> PathBuf {
    let fixtures =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../cellnorm-onnx/tests/fixtures/patterns");
    fixtures.join(format!("{name}.onnx"))
}

fn fold(words: &[&str]) -> Output {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("cellnorm");
    command.arg("fold").args(words).env_remove("ORT_DYLIB_PATH").output().unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_model_is_folded_checked_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let (output, page) = (folder.path().join("folded.onnx"), folder.path().join("story.html"));
    let model = pattern("conv2d-bn");
    let done = fold(&[text(&model), "-o", text(&output), "--html", text(&page)]);
    let said = words(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    assert!(said.contains("1 of 1 batch normalization folded; 2 nodes before, 1 after"), "{said}");
    assert!(said.contains("proof: 1 layer,") && said.contains("whole model in rten"), "{said}");
    assert!(fs::read_to_string(page).unwrap().contains("became part of the layers"));
    // folded again there is nothing left, and the note of the first time is replaced
    let again = folder.path().join("again.onnx");
    let done = fold(&[text(&output), "-o", text(&again)]);
    assert!(words(&done).contains("0 of 0 batch normalizations folded"), "{}", words(&done));
    let notes = |path: &Path| {
        fs::read(path).unwrap().windows(13).filter(|bytes| bytes == b"cellnorm.fold").count()
    };
    assert_eq!((notes(&output), notes(&again)), (1, 1));
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn json_holds_every_number() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("folded.onnx");
    let done = fold(&[text(&pattern("bn-flatten-gemm")), "-o", text(&output), "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["before"]["batch_norms"], 1);
    assert_eq!(json["after"]["batch_norms"], 0);
    assert_eq!(json["folds"][0]["direction"], "forward");
    assert_eq!(json["folds"][0]["through"][0], "Flatten");
    assert_eq!(json["certificate"]["holds"], true);
    assert!(json["certificate"]["proofs"][0]["share"].as_f64().unwrap() <= 1.0);
    assert!(json["certificate"]["run"]["compared"]["largest_relative"].as_f64().unwrap() < 1e-5);
    assert_eq!(json["written"]["bytes"], fs::metadata(&output).unwrap().len());
}

#[test]
fn what_stays_is_named_with_a_reason() {
    let model = pattern("bn-conv-padded");
    let done = fold(&[text(&model), "--dry-run"]);
    let said = words(&done);
    assert_eq!(done.status.code(), Some(0));
    assert!(
        said.contains("0 of 1") && said.contains("padding") && said.contains("nothing written"),
        "{said}"
    );
    let done = fold(&[text(&model), "--explain", "bn1"]);
    assert!(
        words(&done).contains("bn1 (BatchNormalization) stays: padding, seen at Conv"),
        "{}",
        words(&done)
    );
    let done = fold(&[text(&model), "--explain", "bn1_y"]);
    assert!(
        words(&done).contains("bn1 (BatchNormalization) stays"),
        "by what it makes: {}",
        words(&done)
    );
    let done = fold(&[text(&pattern("conv2d-bn")), "--explain", "bn1"]);
    assert!(words(&done).contains("became part of conv1 (Conv), backward"), "{}", words(&done));
    let done = fold(&[text(&model), "--explain", "nothing"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(words(&done).contains("nodes that were folded or kept: bn1"), "{}", words(&done));
}

#[test]
fn a_difference_above_the_tolerance_writes_nothing_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("folded.onnx");
    fs::write(&output, "precious").unwrap();
    let model = pattern("conv2d-bn");
    let done = fold(&[text(&model), "-o", text(&output), "--tol", "0"]);
    assert_eq!(done.status.code(), Some(1), "{}", words(&done));
    assert_eq!(fs::read_to_string(&output).unwrap(), "precious");
    let done = fold(&[text(&model), "-o", text(&output), "--tol", "0", "--force"]);
    assert_eq!(done.status.code(), Some(1));
    assert_ne!(fs::read(&output).unwrap(), b"precious");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn bad_files_end_with_2_and_one_line_and_leave_the_output_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("model.onnx"), folder.path().join("folded.onnx"));
    fs::write(&output, "precious").unwrap();
    let good = fs::read(pattern("conv2d-bn")).unwrap();
    let cut = &good[..good.len() / 2];
    for bytes in [&b""[..], b"no model at all", cut] {
        fs::write(&model, bytes).unwrap();
        let done = fold(&[text(&model), "-o", text(&output)]);
        assert_eq!(done.status.code(), Some(2), "{}", words(&done));
        assert!(words(&done).contains("not a usable ONNX model"), "{}", words(&done));
        assert_eq!(fs::read_to_string(&output).unwrap(), "precious");
    }
    let done = fold(&[text(&folder.path().join("missing.onnx")), "-o", text(&output)]);
    assert_eq!(done.status.code(), Some(2));
    assert!(
        words(&done).contains("cannot read") && words(&done).contains("No such file"),
        "{}",
        words(&done)
    );
}

#[test]
fn the_input_is_replaced_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    fs::copy(pattern("conv2d-bn"), &model).unwrap();
    let done = fold(&[text(&model), "-o", text(&model)]);
    assert_eq!(done.status.code(), Some(2), "{}", words(&done));
    let before = fs::read(&model).unwrap();
    let done = fold(&[text(&model), "--in-place"]);
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    assert_ne!(fs::read(&model).unwrap(), before);
}

#[test]
fn a_side_file_is_copied_and_takes_no_other_file_s_place() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("model.onnx"), folder.path().join("out/folded.onnx"));
    fs::copy(pattern("external-data"), &model).unwrap();
    let (side, copy) =
        (folder.path().join("external-data.bin"), folder.path().join("out/external-data.bin"));
    fs::copy(pattern("external-data").with_file_name("external-data.bin"), &side).unwrap();
    let done = fold(&[text(&model), "-o", text(&output)]);
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    let before = fs::read(&side).unwrap();
    fs::write(&copy, "another").unwrap();
    assert_eq!(fs::read(&side).unwrap(), before, "the copy is a file of its own");
    fs::remove_file(&output).unwrap();
    let done = fold(&[text(&model), "-o", text(&output)]);
    assert_eq!(done.status.code(), Some(2), "{}", words(&done));
    assert!(words(&done).contains("another file of this name is there"), "{}", words(&done));
    assert!(fs::read(&copy).unwrap() == b"another" && !output.exists());
}

#[test]
fn side_files_go_along() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("folded.onnx");
    let done = fold(&[text(&pattern("external-data")), "-o", text(&output)]);
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["external-data.bin", "folded.onnx", "folded.onnx.folded0.data"]);
}

#[test]
fn a_normalization_of_the_data_becomes_part_of_the_first_layer_or_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("folded.onnx");
    // three channels into an unpadded convolution
    let data = ["--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3"];
    let model = pattern("bn-conv");
    let done = fold(&[&[text(&model), "-o", text(&output), "--json"], &data[..]].concat());
    let json: serde_json::Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", words(&done)));
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    assert_eq!(json["data"]["mean"], serde_json::json!([0.4, 0.5, 0.6]));
    fs::remove_file(&output).unwrap();
    let done =
        fold(&[&[text(&pattern("bn-conv-padded")), "-o", text(&output)], &data[..]].concat());
    assert_eq!(done.status.code(), Some(1), "{}", words(&done));
    assert!(
        words(&done).contains("cannot become part of the model") && !output.exists(),
        "{}",
        words(&done)
    );
}

#[test]
fn the_page_takes_no_other_file_s_place() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("model.onnx"), folder.path().join("folded.onnx"));
    fs::copy(pattern("conv2d-bn"), &model).unwrap();
    let before = fs::read(&model).unwrap();
    for page in [&model, &output] {
        let done = fold(&[text(&model), "-o", text(&output), "--html", text(page)]);
        assert_eq!(done.status.code(), Some(2), "{}", words(&done));
        assert!(words(&done).contains("which is read or written besides"), "{}", words(&done));
        assert!(fs::read(&model).unwrap() == before && !output.exists());
    }
    // where the page cannot be written, nothing is
    let nowhere = folder.path().join("none/page.html");
    let done = fold(&[text(&model), "-o", text(&output), "--html", text(&nowhere)]);
    assert_eq!(done.status.code(), Some(2), "{}", words(&done));
    assert!(words(&done).contains("--html") && !output.exists(), "{}", words(&done));
}

#[test]
fn a_model_that_was_folded_before_is_folded_again_with_its_side_files_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first.onnx"), folder.path().join("second.onnx"));
    let done = fold(&[text(&pattern("external-data")), "-o", text(&first)]);
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    let side = folder.path().join("first.onnx.folded0.data");
    let before = fs::read(&side).unwrap();
    for target in [&second, &first] {
        let done = fold(&[text(&first), "-o", text(&second)]);
        assert_eq!(done.status.code(), Some(0), "{}", words(&done));
        let done = fold(&[text(&first), "--in-place"]);
        assert_eq!(done.status.code(), Some(0), "{}", words(&done));
        assert!(target.exists() && fs::read(&side).unwrap() == before);
    }
    // the model's own numbers are no place for the output
    let done = fold(&[text(&first), "-o", text(&side)]);
    assert_eq!(done.status.code(), Some(2), "{}", words(&done));
    assert_eq!(fs::read(&side).unwrap(), before);
}

#[test]
fn statistics_without_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("stats.json");
    let output = folder.path().join("folded.onnx");
    for content in [
        r#"{"mean": [], "std": []}"#,
        r#"{"mean": [1], "std": []}"#,
        r#"{"mean": [1, 2], "std": [1, 2, 3]}"#,
    ] {
        fs::write(&stats, content).unwrap();
        let done = fold(&[text(&pattern("bn-conv")), "-o", text(&output), "--stats", text(&stats)]);
        assert_eq!(done.status.code(), Some(2), "{content}: {}", words(&done));
        assert!(!output.exists(), "{content}");
    }
    let done =
        fold(&[text(&pattern("bn-conv")), "-o", text(&output), "--mean", "0", "--std", "inf"]);
    assert_eq!(done.status.code(), Some(2), "{}", words(&done));
}
