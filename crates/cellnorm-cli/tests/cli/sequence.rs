//! The comparison on sequences: what is written, that it repeats, and what it refuses.

use std::fs;

use crate::common::{compare, entries, plain, remove_timing, results};
use assert_cmd::Command;
use tempfile::TempDir;

/// `cellnorm compare --task sequence` for one epoch of three batches, with its output in a new
/// folder.
fn sequences(flags: &[&str]) -> (Command, TempDir) {
    let out = tempfile::tempdir().unwrap();
    let mut command =
        compare(&["--task", "sequence", "--epochs", "1", "--batch-sizes", "90", "--out"]);
    command.arg(out.path()).args(flags);
    (command, out)
}

#[test]
fn all_normalizations_learn_from_the_sequences() {
    let (mut command, out) = sequences(&[]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", plain(&output.stderr));
    let results = results(out.path());
    assert_eq!(results["dataset"]["train_samples"], 270);
    assert_eq!(results["dataset"]["test_samples"], 370);
    assert_eq!(results["config"]["task"], "sequence");
    let runs = results["runs"].as_array().unwrap();
    let names: Vec<&str> = runs.iter().map(|run| run["normalization"].as_str().unwrap()).collect();
    assert_eq!(names, ["none", "layer", "step", "batch", "rms"]);
    for run in runs {
        let losses: Vec<f64> = run["training_loss"]["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|loss| loss.as_f64().unwrap())
            .collect();
        assert_eq!(losses.len(), 3);
        assert!(losses[2] < losses[0], "{losses:?}");
        assert_eq!(run["seed"], 1);
        // γ of the gates twice and of the cell; also its β, except for RMS.
        let parameters = match run["normalization"].as_str().unwrap() {
            "none" => 0,
            "rms" => 2 * 256 + 64,
            _ => 2 * 256 + 2 * 64,
        };
        assert_eq!(run["parameters"]["normalization"], parameters);
        assert!(run["timing"]["normalization_backward_ms"].as_f64().unwrap() > 0.0);
    }
    assert_ne!(runs[2]["epochs"][0]["test_loss"], runs[3]["epochs"][0]["test_loss"]);

    let html = fs::read_to_string(out.path().join("report.html")).unwrap();
    for text in [plain(&output.stdout), html] {
        for word in [
            "JapaneseVowels",
            "M. Kudo, J. Toyama, M. Shimbo",
            "UCI Machine Learning Repository",
            "CC BY 4.0",
        ] {
            assert!(text.contains(word), "{word}");
        }
    }
}

#[test]
fn one_seed_gives_one_result_on_any_number_of_threads() {
    let run = |threads| {
        let (mut command, out) =
            sequences(&["--norms", "layer,step", "--quiet", "--threads", threads]);
        command.assert().success();
        remove_timing(results(out.path()))
    };
    assert_eq!(run("1"), run("2"));
}

#[test]
fn several_seeds_are_shown_by_their_mean() {
    let (mut command, out) = sequences(&["--norms", "none,rms", "--seed", "7", "--seeds", "2"]);
    let output = command.output().unwrap();
    let results = results(out.path());
    let runs = results["runs"].as_array().unwrap();
    assert_eq!(
        runs.iter().map(|run| run["seed"].as_u64().unwrap()).collect::<Vec<_>>(),
        [7, 8, 7, 8]
    );
    let averages = results["averages"].as_array().unwrap();
    assert_eq!(averages.len(), 2);
    let accuracy = |i: usize| runs[i]["epochs"][0]["test_accuracy"].as_f64().unwrap();
    for (average, first) in averages.iter().zip([0, 2]) {
        let (a, b) = (accuracy(first), accuracy(first + 1));
        assert_eq!(average["seeds"], 2);
        assert_eq!(average["lowest_test_accuracy"], a.min(b));
        assert_eq!(average["highest_test_accuracy"], a.max(b));
        let row = format!(
            "{} {:.2} % {:.2} % {:.2} %",
            average["normalization"].as_str().unwrap(),
            50.0 * (a + b),
            100.0 * a.min(b),
            100.0 * a.max(b)
        );
        assert!(plain(&output.stdout).contains(&row), "{row}");
    }
    let html = fs::read_to_string(out.path().join("report.html")).unwrap();
    assert!(html.contains("from 2 seeds") && html.contains("--seed 7 --seeds 2"));
    assert_eq!(html.matches("<figure>").count(), 6);
}

#[test]
fn what_does_not_suit_sequences_is_refused_before_training() {
    for (flags, messages) in [
        (&["--data", "images"][..], &["takes no --data", "choose --task image"][..]),
        (
            &["--norms", "none,group"],
            &["group is no normalization of --task sequence", "none,layer,step,batch,rms"],
        ),
        (
            &["--batch-sizes", "271"],
            &["271 is larger than the training set of 270 sequences", "between 1 and 270"],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = compare(&["--task", "sequence", "--out"])
            .arg(folder.path().join("out"))
            .args(flags)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let stderr = plain(&output.stderr);
        for message in messages {
            assert!(stderr.contains(message), "{message:?} is not in {stderr:?}");
        }
        assert_eq!(entries(&folder.path().join("out")), [""; 0]);
    }
}

#[test]
fn images_have_no_time_steps() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        compare(&["--norms", "step", "--out"]).arg(folder.path().join("out")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(plain(&output.stderr).contains("step is no normalization of --task image"));
}
