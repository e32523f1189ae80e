//! `cellnorm --version -v`: the machine, its thresholds, and how fast it copies.

use std::process::Output;

use serde_json::Value;

use crate::common::plain;

/// Small caches, so that the copies take no time.
const SMALL: &str = "cores=2,l1=16K,l2=64K,l3=256K,l3_cores=2,huge_page=0";

fn run(machine: &str, flags: &[&str]) -> Output {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("cellnorm");
    command.env("CELLNORM_MACHINE", machine).env("COLUMNS", "80").args(flags).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

#[test]
fn the_version_alone() {
    for flag in ["--version", "-V"] {
        let output = run("", &[flag]);
        assert!(output.status.success());
        assert_eq!(text(&output.stdout), format!("cellnorm {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn the_machine_is_what_the_variable_says() {
    let output = run(SMALL, &["--version", "-v", "--json"]);
    assert!(output.status.success(), "{}", plain(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&said["machine"]["l2"], &said["machine"]["cores"]),
        (&(64 << 10).into(), &2.into())
    );
    // a quarter of the last cache, which is less than eight times the second ones; dx a sixth
    assert_eq!(
        (&said["thresholds"][0]["name"], &said["thresholds"][0]["bytes"]),
        (&"stream".into(), &(64 << 10).into())
    );
    assert_eq!(said["thresholds"][1]["bytes"], Value::from((256 << 10) / 6));
    assert_eq!(said["copies"].as_array().unwrap().len(), 3);
    assert!(said["copies"][2]["streamed_bytes_per_second"].as_f64().unwrap() > 0.0);

    let text = text(&run(SMALL, &["-Vv"]).stdout);
    assert!(text.contains(SMALL) && text.contains("written past the caches"), "{text}");
    assert!(
        text.lines()
            .all(|line| line.chars().count() <= 80 || line.starts_with("CELLNORM_MACHINE=")),
        "{text}"
    );
}

#[test]
fn what_cannot_be_used_is_said_and_ignored() {
    let output = run("l2=2MB,l3=64M", &["--version", "-v", "--json"]);
    let stderr = plain(&output.stderr);
    assert_eq!(
        stderr.matches("CELLNORM_MACHINE: l2 is \"2MB\"; it must be a size such as 48K").count(),
        1,
        "{stderr}"
    );
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["machine"]["l3"], Value::from(64 << 20));
}

#[test]
fn more_of_nothing_is_refused() {
    for flags in [&["-v"][..], &["--json"], &["-v", "compare"], &["--version", "compare"], &[]] {
        let output = run("", flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{flags:?}");
    }
}
