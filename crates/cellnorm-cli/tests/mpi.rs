//! `cellnorm stats` on several ranks: the file of one process, byte for byte.
//!
//! `cargo test -p cellnorm-cli --features mpi --test mpi`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cellnorm-data/tests/fixtures").join(name)
}

fn cellnorm() -> PathBuf {
    assert_cmd::cargo::cargo_bin!("cellnorm").to_owned()
}

/// Runs the command on so many ranks; a rank that hangs is ended.
fn ranks(count: usize, words: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["60", "mpirun", "--oversubscribe", "--allow-run-as-root", "--bind-to", "none"]);
    command.args(["-n", &count.to_string()]).arg(cellnorm()).args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A .npy file of f32 rows.
fn rows(path: &Path) {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (5000, 7), }";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let padded = format!("{header:<117}\n");
    bytes.extend((padded.len() as u16).to_le_bytes());
    bytes.extend(padded.bytes());
    bytes.extend((0..35_000).flat_map(|i: u32| (1e6_f32 + (i * 7919 % 1000) as f32 * 0.37).to_le_bytes()));
    fs::write(path, bytes).unwrap();
}

#[test]
fn ranks_write_the_file_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let floats = folder.path().join("rows.npy");
    rows(&floats);
    for set in [fixture("grey"), floats] {
        let alone = folder.path().join("alone.json");
        assert!(Command::new(cellnorm()).args(["stats", text(&set), "-o", text(&alone)]).status().unwrap().success());
        for count in 1..=4 {
            let out = folder.path().join("ranks.json");
            let done = ranks(count, &["stats", text(&set), "-o", text(&out)]);
            assert!(done.status.success(), "{}", said(&done));
            assert_eq!(fs::read(&out).unwrap(), fs::read(&alone).unwrap(), "{count} ranks, {set:?}");
            fs::remove_file(out).unwrap();
        }
    }
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing but the data and the file of one process is left: {left:?}");
}

#[test]
fn one_rank_tells() {
    let done = ranks(3, &["stats", text(&fixture("grey")), "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", said(&done)));
    assert_eq!(told["complete"], true);
}

#[test]
fn a_fault_of_all_is_said_once_and_ends_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.json");
    let done = ranks(3, &["stats", "not/there", "-o", text(&out)]);
    assert_eq!(done.status.code(), Some(2), "{}", said(&done));
    assert_eq!(said(&done).matches("not/there").count(), 1, "{}", said(&done));
    assert!(!out.exists());
    for (words, answer) in [
        (&["stats", text(&fixture("grey")), "--shard", "1/2", "-o", text(&out)][..], "leave --shard out"),
        (&["explain", "--shape", "2,3,4,4"], "this command runs on one"),
        (&["stats", "-"], "standard input"),
    ] {
        let done = ranks(2, words);
        assert_eq!(done.status.code(), Some(2), "{}", said(&done));
        assert!(said(&done).contains(answer), "{}", said(&done));
    }
}
