//! `cellnorm stats` and `cellnorm compare` on several ranks: the file of one process, byte for
//! byte; one network; and an end of all where one ends.
//!
//! `cargo test -p cellnorm-cli --features mpi --test mpi`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Workplace, entries, remove_timing, results};

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "cli/common.rs"]
mod common;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cellnorm-data/tests/fixtures").join(name)
}

fn cellnorm() -> PathBuf {
    assert_cmd::cargo::cargo_bin!("cellnorm").to_owned()
}

/// Runs the command on so many ranks; a rank that hangs is ended.
fn ranks(count: usize, words: &[&str]) -> Output {
    mpirun(count).args(words).output().unwrap()
}

fn mpirun(count: usize) -> Command {
    let mut command = Command::new("timeout");
    command.args(["120", "mpirun", "--oversubscribe", "--allow-run-as-root", "--bind-to", "none"]);
    // several tests run at once, and a rank that waits would take a core from the others
    command.args(["--mca", "mpi_yield_when_idle", "1"]);
    command.args(["-n", &count.to_string()]).arg(cellnorm());
    command
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
    bytes.extend(
        (0..35_000).flat_map(|i: u32| (1e6_f32 + (i * 7919 % 1000) as f32 * 0.37).to_le_bytes()),
    );
    fs::write(path, bytes).unwrap();
}

#[test]
fn ranks_write_the_file_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let floats = folder.path().join("rows.npy");
    rows(&floats);
    for set in [fixture("grey"), floats] {
        let alone = folder.path().join("alone.json");
        assert!(
            Command::new(cellnorm())
                .args(["stats", text(&set), "-o", text(&alone)])
                .output()
                .unwrap()
                .status
                .success()
        );
        for count in 1..=4 {
            let out = folder.path().join("ranks.json");
            let done = ranks(count, &["stats", text(&set), "-o", text(&out)]);
            assert!(done.status.success(), "{}", said(&done));
            assert_eq!(
                fs::read(&out).unwrap(),
                fs::read(&alone).unwrap(),
                "{count} ranks, {set:?}"
            );
            fs::remove_file(out).unwrap();
        }
    }
    let left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing but the data and the file of one process is left: {left:?}");
}

#[test]
fn one_rank_tells() {
    let done = ranks(3, &["stats", text(&fixture("grey")), "--json"]);
    let told: serde_json::Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", said(&done)));
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
        (
            &["stats", text(&fixture("grey")), "--shard", "1/2", "-o", text(&out)][..],
            "leave --shard out",
        ),
        (&["explain", "--shape", "2,3,4,4", "--norm", "batch"], "this command runs on one"),
        (&["stats", "-"], "standard input"),
    ] {
        let done = ranks(2, words);
        assert_eq!(done.status.code(), Some(2), "{}", said(&done));
        assert!(said(&done).contains(answer), "{}", said(&done));
    }
}

/// `cellnorm compare` on two ranks.
fn compare(place: &Workplace, epochs: &str, words: &[&str]) -> Command {
    let mut command = mpirun(2);
    command.args([
        "compare",
        "--norms",
        "batch,layer",
        "--epochs",
        epochs,
        "--batch-sizes",
        "4",
        "--sync",
        "--data",
    ]);
    command.arg(place.data()).arg("--out").arg(place.out()).args(words);
    command
}

#[test]
fn ranks_train_one_network() {
    let place = Workplace::new();
    let done = compare(&place, "20", &[]).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(
        said(&done).matches("Each batch is shared by 2 ranks").count(),
        1,
        "{}",
        said(&done)
    );
    let found = results(&place.out());
    assert_eq!((&found["config"]["ranks"], &found["config"]["sync"]), (&2.into(), &true.into()));
    for run in found["runs"].as_array().unwrap() {
        // ten bars, each a class of its own: the network learns them
        assert!(run["epochs"][19]["train_accuracy"].as_f64().unwrap() > 0.8, "{run}");
    }
    let again = Workplace::new();
    let done = compare(&again, "20", &[]).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(
        remove_timing(found)["runs"],
        remove_timing(results(&again.out()))["runs"],
        "the same numbers each time"
    );

    // the first batch, of the same weights: synchronized, its statistics are those that one process
    // sees
    let statistics = |count: usize, sync: bool| {
        let place = Workplace::new();
        let mut command = mpirun(count);
        command.args([
            "compare",
            "--norms",
            "batch",
            "--epochs",
            "1",
            "--batch-sizes",
            "4",
            "--data",
        ]);
        command.arg(place.data()).arg("--out").arg(place.out()).args(sync.then_some("--sync"));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", said(&done));
        let channel = &results(&place.out())["runs"][0]["statistics"]["channels"][0];
        ["batch_mean", "batch_variance", "running_variance"]
            .map(|of| channel[of][0].as_f64().unwrap())
    };
    let apart = |a: [f64; 3], b: [f64; 3]| (0..3).map(|i| (a[i] / b[i] - 1.0).abs()).sum::<f64>();
    let alone = statistics(1, false);
    assert!(apart(statistics(2, true), alone) < 1e-5 && apart(statistics(2, false), alone) > 1e-3);
    let done = mpirun(3).args(["compare", "--batch-sizes", "2"]).output().unwrap();
    assert!(said(&done).contains("batches of 2 cannot be shared by 3 ranks"), "{}", said(&done));
}

/// The processes that mpirun has started.
fn mpirun_processes(timeout: &Child) -> Vec<String> {
    let children = |parent: &str| -> Vec<String> {
        let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))
            .unwrap_or_default();
        listed.split_whitespace().map(str::to_owned).collect()
    };
    children(&timeout.id().to_string()).iter().flat_map(|mpirun| children(mpirun)).collect()
}

/// When to kill which rank: while it starts, in the first training, in the second; or
/// `CELLNORM_KILLS` times somewhere in a run.
fn moments(run: Duration) -> Vec<(Duration, usize)> {
    let Ok(times) = std::env::var("CELLNORM_KILLS") else {
        return [0.15, 0.45, 0.8].map(|part| (run.mul_f64(part), 1)).to_vec();
    };
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut next = || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as f64 / f64::from(1_u32 << 31)
    };
    (0..times.parse().unwrap()).map(|_| (run.mul_f64(next()), (2.0 * next()) as usize)).collect()
}

#[test]
fn a_killed_rank_ends_all_and_nothing_is_lost() {
    let undisturbed = Workplace::new();
    let start = Instant::now();
    let done = compare(&undisturbed, "5", &[]).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let expected = remove_timing(results(&undisturbed.out()))["runs"].clone();
    for (wait, rank) in moments(start.elapsed()) {
        let place = Workplace::new();
        let child =
            compare(&place, "5", &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        sleep(wait);
        let ranks = mpirun_processes(&child);
        let kill = |process: &String| {
            Command::new("sh").args(["-c", "kill -9 $0", process]).status().unwrap().success()
        };
        let killed = ranks.get(rank).is_some_and(kill);
        let done = child.wait_with_output().unwrap();
        assert!(done.status.code() != Some(124), "they hang");
        assert_eq!(done.status.success(), !killed, "{}", said(&done));
        assert!(!killed || said(&done).contains("signal 9"), "{}", said(&done));
        let left = entries(&place.out());
        eprintln!("rank {rank} killed after {wait:?} ({killed}), which left {left:?}");
        assert!(left.iter().all(|name| !name.starts_with('.')), "half-written: {left:?}");
        let resumed = compare(&place, "5", &["--resume"]).output().unwrap();
        assert!(resumed.status.success(), "{}", said(&resumed));
        assert_eq!(
            remove_timing(results(&place.out()))["runs"],
            expected,
            "rank {rank} killed after {wait:?}"
        );
    }
}
