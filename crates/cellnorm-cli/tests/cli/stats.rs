//! `cellnorm stats` and `cellnorm normalize`, as a user runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cellnorm-data/tests/fixtures").join(name)
}

fn run(words: &[&str]) -> Output {
    assert_cmd::cargo::cargo_bin_cmd!("cellnorm").args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(words: &[&str]) -> Value {
    let done = run(words);
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", said(&done)))
}

#[test]
fn the_embedded_sums_of_a_folder_of_images() {
    let grey = fixture("grey");
    let found = json(&["stats", text(&grey), "--json"]);
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(fixture("expected.json")).unwrap()).unwrap();
    assert_eq!(found["channels"][0]["sum"].as_str().unwrap(), expected["grey"]["sum"].to_string());
    assert_eq!(found["channels"][0]["count"], 768);
    assert_eq!(
        (&found["complete"], &found["full_scale"]),
        (&Value::Bool(true), &serde_json::json!(255.0))
    );
    let done = run(&["stats", text(&grey)]);
    assert!(said(&done).contains("12 files; numbers divided by 255"), "{}", said(&done));
    assert!(said(&done).contains("std is of all values together"), "{}", said(&done));
    for (framework, words) in [
        ("torch", "transforms.Normalize(mean=[0."),
        ("keras", "keras.layers.Normalization(axis=-1, mean=[0."),
        ("burn", "NormalizeConfig::new(vec![0."),
        ("candle", "broadcast_div"),
        ("onnx", "cellnorm fold model.onnx -o folded.onnx --mean 0."),
    ] {
        let done = run(&["stats", text(&grey), "--paste", framework]);
        assert!(done.status.success() && said(&done).contains(words), "{}", said(&done));
    }
}

#[test]
fn shards_merge_to_the_file_of_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.json");
    let set = fixture("grey");
    assert!(run(&["stats", text(&set), "-o", text(&whole)]).status.success());
    let mut files = Vec::new();
    for number in [3, 1, 2] {
        let file = folder.path().join(format!("{number}.json"));
        let shard = format!("{number}/3");
        assert!(run(&["stats", text(&set), "--shard", &shard, "-o", text(&file)]).status.success());
        files.push(file);
    }
    let merged = folder.path().join("merged.json");
    let files: Vec<&str> = files.iter().map(|file| text(file)).collect();
    let done = run(&[&["stats", "merge", "-o", text(&merged)], &files[..]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert_eq!(fs::read(&merged).unwrap(), fs::read(&whole).unwrap());
    let done = run(&["stats", "merge", "-o", text(&merged), files[0], files[0]]);
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert!(said(&done).contains("is in both"), "{}", said(&done));
}

/// Many small images, so that reading them takes a while.
fn many(folder: &Path, copies: usize) {
    for entry in fs::read_dir(fixture("grey")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for copy in 0..copies {
            fs::copy(&path, folder.join(format!("{name}-{copy:04}.png"))).unwrap();
        }
    }
}

#[test]
fn killed_and_resumed_it_ends_with_the_same_file() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    many(data.path(), 100);
    let whole = out.path().join("whole.json");
    assert!(run(&["stats", text(data.path()), "-o", text(&whole)]).status.success());
    let again = out.path().join("again.json");
    let words = ["stats", text(data.path()), "-o", text(&again), "--resume", "--threads", "1"];
    for wait in [5, 10, 20, 40] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cellnorm"));
        let mut child =
            command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let done = run(&words);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert_eq!(fs::read(&again).unwrap(), fs::read(&whole).unwrap());
    assert!(!out.path().join("again.json.partial").exists());
}

#[test]
fn the_data_of_a_file_of_statistics_are_normalized_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let [stats, to, back] =
        ["stats.json", "to.npy", "back.npy"].map(|name| folder.path().join(name));
    let set = fixture("features.npy");
    assert!(run(&["stats", text(&set), "-o", text(&stats)]).status.success());
    let done = run(&["normalize", text(&set), "--stats", text(&stats), "-o", text(&to)]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let found = json(&["stats", text(&to), "--json"]);
    for channel in 0..5 {
        assert!(found["mean"][channel].as_f64().unwrap().abs() < 1e-6, "{found}");
        assert!((found["std"][channel].as_f64().unwrap() - 1.0).abs() < 1e-6, "{found}");
    }
    assert!(
        run(&["normalize", text(&to), "--stats", text(&stats), "--invert", "-o", text(&back)])
            .status
            .success()
    );
    let [before, after] = [&set, &back].map(|path| json(&["stats", text(path), "--json"]));
    assert!((before["mean"][0].as_f64().unwrap() - after["mean"][0].as_f64().unwrap()).abs() < 0.1);
    // by name, a folder of images into a folder
    let out = folder.path().join("out");
    let done = run(&[
        "normalize",
        text(&fixture("colour")),
        "--stats",
        "imagenet",
        "--color",
        "rgb",
        "-o",
        text(&out),
    ]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 5);
    // one of them back, whose channels are the only axis of three
    let image = out.join("0.npy");
    let done =
        run(&["normalize", text(&image), "--stats", "imagenet", "--invert", "-o", text(&back)]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let [before, after] =
        [fixture("colour/0.png"), back.clone()].map(|path| json(&["stats", text(&path), "--json"]));
    assert_eq!(before["channels"].as_array().unwrap().len(), 3);
    let mean =
        before["mean"].as_array().unwrap().iter().map(|mean| mean.as_f64().unwrap()).sum::<f64>()
            / 3.0;
    assert!((after["mean"][0].as_f64().unwrap() - mean).abs() < 1e-6, "{before} {after}");
    let done = run(&["normalize", text(&set), "--stats", "nothing", "-o", text(&to)]);
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert!(said(&done).contains("imagenet, imagenet-pooled, mnist"), "{}", said(&done));
}

#[test]
fn nothing_is_written_over_the_data_or_over_another_result() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("set.npy");
    fs::copy(fixture("features.npy"), &data).unwrap();
    for words in [
        &["stats", text(&data), "-o", text(&data)][..],
        &["stats", text(&data), "--html", text(&data)],
        &["normalize", text(&data), "--stats", "half", "-o", text(&data)],
    ] {
        let done = run(words);
        assert_eq!(done.status.code(), Some(2), "{}", said(&done));
        assert!(said(&done).contains("it is one of the files that are read"), "{}", said(&done));
        assert_eq!(fs::read(&data).unwrap(), fs::read(fixture("features.npy")).unwrap());
    }
    let [set, out] = ["set", "out"].map(|name| folder.path().join(name));
    fs::create_dir(&set).unwrap();
    for name in ["a.png", "a.jpg"] {
        fs::copy(fixture("grey/00.png"), set.join(name)).unwrap();
    }
    let done = run(&["normalize", text(&set), "--stats", "half", "-o", text(&out)]);
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert!(said(&done).contains("two files would be written to it"), "{}", said(&done));
}

#[test]
fn statistics_of_test_data_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("test");
    fs::create_dir(&set).unwrap();
    fs::copy(fixture("grey/00.png"), set.join("0.png")).unwrap();
    let [stats, out] = ["stats.json", "out.npy"].map(|name| folder.path().join(name));
    let done = run(&["stats", text(&set), "-o", text(&stats)]);
    assert!(
        said(&done).contains("split test") && said(&done).contains("will be judged by"),
        "{}",
        said(&done)
    );
    let done = run(&["normalize", text(&set), "--stats", text(&stats), "-o", text(&out)]);
    assert!(
        said(&done).contains("warning: these statistics are of the test split"),
        "{}",
        said(&done)
    );
}

#[test]
fn drift_is_measured_and_can_end_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("stats.json");
    assert!(run(&["stats", text(&fixture("grey")), "-o", text(&stats)]).status.success());
    let found = json(&["stats", "check", text(&stats), text(&fixture("grey.npy")), "--json"]);
    assert_eq!(
        (&found["channels"][0]["shift"], &found["channels"][0]["distance"]),
        (&serde_json::json!(0.0), &serde_json::json!(0.0))
    );
    assert_eq!(
        run(&["stats", "check", text(&stats), text(&fixture("grey")), "--most", "0.01"])
            .status
            .code(),
        Some(0)
    );
    fs::copy(fixture("grey/01.png"), folder.path().join("one.png")).unwrap();
    let done = run(&[
        "stats",
        "check",
        text(&stats),
        text(&folder.path().join("one.png")),
        "--most",
        "0.01",
    ]);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("deviations away, and 0.01 are allowed"), "{}", said(&done));
}

#[test]
fn a_page_is_drawn_and_what_is_unreadable_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (set, page) = (folder.path().join("set"), folder.path().join("page.html"));
    fs::create_dir(&set).unwrap();
    fs::copy(fixture("colour/0.png"), set.join("0.png")).unwrap();
    fs::write(set.join("1.png"), "no picture").unwrap();
    let done = run(&["stats", text(&set), "--html", text(&page)]);
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(
        said(&done)
            .contains("Not among them, as it could not be read:\n  1.png: it cannot be decoded"),
        "{}",
        said(&done)
    );
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("histogram of channel 2") && page.contains("data:image/png;base64,"));
    let done = run(&["stats", text(&set), "--strict"]);
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    fs::remove_file(set.join("0.png")).unwrap();
    let done = run(&["stats", text(&set)]);
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert!(said(&done).contains("no file could be read; the first: 1.png"), "{}", said(&done));
    fs::remove_file(set.join("1.png")).unwrap();
    let done = run(&["stats", text(&set)]);
    assert!(
        done.status.code() == Some(2) && said(&done).contains("no image, IDX"),
        "{}",
        said(&done)
    );
}

/// A `.npy` file of little-endian 32-bit floats.
fn npy(path: &Path, shape: &str, values: impl Iterator<Item = f32>) {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    values.for_each(|value| bytes.extend(value.to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

#[test]
fn normalize_does_what_stats_measured() {
    let folder = tempfile::tempdir().unwrap();
    let [data, stats, to] =
        ["data.npy", "stats.json", "to.npy"].map(|name| folder.path().join(name));
    // the last two axes are equally long, and each place has another mean
    npy(&data, "(6, 4, 4)", (0..96).map(|place| (place % 16 * place) as f32));
    for words in
        [&["--keep", "1"][..], &["--keep", "2"], &["--per", "all"], &["--channel-axis", "2"]]
    {
        assert!(
            run(&[&["stats", text(&data), "-o", text(&stats)], words].concat()).status.success()
        );
        let done = run(&["normalize", text(&data), "--stats", text(&stats), "-o", text(&to)]);
        assert_eq!(done.status.code(), Some(0), "{words:?}: {}", said(&done));
        let found = json(&[&["stats", text(&to), "--json"], words].concat());
        for (mean, std) in
            found["mean"].as_array().unwrap().iter().zip(found["std"].as_array().unwrap())
        {
            assert!(
                mean.as_f64().unwrap().abs() < 1e-6 && (std.as_f64().unwrap() - 1.0).abs() < 1e-6,
                "{words:?}: {found}"
            );
        }
    }
    let refused = |words: &[&str], problem: &str| {
        let done = run(words);
        assert_eq!(done.status.code(), Some(2), "{words:?}: {}", said(&done));
        assert!(said(&done).contains(problem), "{words:?}: {}", said(&done));
    };
    refused(
        &["normalize", text(&data), "--stats", text(&stats), "--per", "all", "-o", text(&to)],
        "another --per or --keep",
    );
    refused(
        &["normalize", text(&data), "--stats", text(&stats), "-o", text(&stats)],
        "the result would take its place",
    );
    let grey = fixture("grey.npy");
    assert!(run(&["stats", text(&grey), "-o", text(&stats)]).status.success());
    refused(
        &["normalize", text(&data), "--stats", text(&stats), "-o", text(&to)],
        "it has floats, and the statistics are of integers up to 255",
    );
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    refused(
        &["normalize", text(&empty), "--stats", "half", "-o", text(&to)],
        "no file to normalize",
    );
}

#[test]
fn results_take_no_other_file_s_place_and_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let [set, stats, page] =
        ["set", "stats.json", "page.html"].map(|name| folder.path().join(name));
    fs::create_dir(&set).unwrap();
    fs::copy(fixture("grey/00.png"), set.join("0.png")).unwrap();
    assert!(run(&["stats", text(&set), "-o", text(&stats)]).status.success());
    let before = fs::read(&stats).unwrap();
    let done = run(&["stats", "merge", text(&stats), "-o", text(&stats)]);
    assert!(
        done.status.code() == Some(2) && said(&done).contains("one of the files that are joined"),
        "{}",
        said(&done)
    );
    let done = run(&["stats", text(&set), "-o", text(&page), "--html", text(&page)]);
    assert!(
        done.status.code() == Some(2) && said(&done).contains("--html names"),
        "{}",
        said(&done)
    );
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&stats, &page).unwrap();
        assert!(run(&["stats", text(&set), "--html", text(&page)]).status.success());
    }
    assert_eq!(fs::read(&stats).unwrap(), before);
    fs::write(set.join("1.png"), "no picture").unwrap();
    let done = run(&["stats", "check", text(&stats), text(&set)]);
    assert!(said(&done).contains("1.png: it cannot be decoded"), "{}", said(&done));
    let done = run(&["stats", text(&set), "--paste", "torch"]);
    assert!(said(&done).contains("warning: files could not be read: 1"), "{}", said(&done));
    npy(&set.join("none.npy"), "(2,)", [f32::NAN; 2].into_iter());
    let done = run(&["stats", text(&set.join("none.npy")), "--paste", "torch"]);
    assert!(
        said(&done).contains("no deviation to divide by in the channel with index 0"),
        "{}",
        said(&done)
    );
    assert_eq!(json(&["stats", text(&set.join("none.npy")), "--json"])["channels"][0]["nan"], 2);
}
