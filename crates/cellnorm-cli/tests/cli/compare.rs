//! A whole comparison on a few images: the files, the output, and that it repeats.

use std::fs;

use crate::common::{Workplace, entries, gzip, plain, remove_timing, results};

const TWO: [&str; 2] = ["--norms", "none,batch"];

#[test]
fn the_results_hold_every_number() {
    let workplace = Workplace::new();
    let output = workplace.compare(&TWO).output().unwrap();
    assert!(output.status.success(), "{}", plain(&output.stderr));
    assert_eq!(entries(&workplace.out()), ["report.html", "results.json"]);

    let results = results(&workplace.out());
    assert_eq!(results["dataset"]["train_samples"], 10);
    assert_eq!(results["dataset"]["test_samples"], 4);
    assert_eq!(results["config"]["seed"], 1);
    let runs = results["runs"].as_array().unwrap();
    let names = runs.iter().map(|run| run["normalization"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["none", "batch"]);
    for run in runs {
        assert_eq!(run["batch_size"], 4);
        let epochs = run["epochs"].as_array().unwrap();
        assert_eq!(epochs.len(), 1);
        for key in ["train_loss", "train_accuracy", "test_loss", "test_accuracy"] {
            assert!(epochs[0][key].as_f64().unwrap() >= 0.0, "{key}");
        }
        let losses = run["training_loss"]["values"].as_array().unwrap();
        assert_eq!(losses.len(), 3, "10 images make 2 batches of 4 and one of 2");
        assert!(run["timing"]["training_seconds"].as_f64().unwrap() > 0.0);
    }
    assert_eq!(runs[0]["parameters"]["network"], 866_798);
    assert_eq!(runs[1]["parameters"]["normalization"], 20);
    assert!(runs[0].get("statistics").is_none());
    let channels = runs[1]["statistics"]["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 3);
    for channel in channels {
        let series = |key: &str| -> Vec<f64> {
            let values = channel[key].as_array().unwrap();
            values.iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let (batch, running) = (series("batch_mean"), series("running_mean"));
        let mut expected = 0.0;
        for (batch, running) in batch.iter().zip(running) {
            expected += 0.1 * (batch - expected);
            assert!((running - expected).abs() < 1e-5, "{running} {expected}");
        }
        assert_eq!(series("running_variance").len(), 3);
    }
    let timing = &runs[1]["timing"];
    assert!(timing["normalization_forward_ms"].as_f64().unwrap() > 0.0);
    assert!(timing["normalization_backward_ms"].as_f64().unwrap() > 0.0);
    let share = timing["normalization_share"].as_f64().unwrap();
    assert!(0.0 < share && share < 1.0, "{share} of a step");

    let table = plain(&output.stdout);
    assert!(table.contains(&format!("{:.1} %", 100.0 * share)), "the share is shown:\n{table}");
    for run in runs {
        let accuracy = run["epochs"][0]["test_accuracy"].as_f64().unwrap();
        let name = run["normalization"].as_str().unwrap();
        assert!(table.contains(&format!("{name} {:.2} %", 100.0 * accuracy)));
    }
    let lines = String::from_utf8(output.stderr).unwrap();
    assert_eq!(lines.lines().count(), 2, "a line an epoch:\n{lines}");
}

#[test]
fn the_report_needs_no_other_file() {
    let workplace = Workplace::new();
    workplace.compare(&TWO).arg("--quiet").assert().success();
    let html = fs::read_to_string(workplace.out().join("report.html")).unwrap();
    for foreign in ["http:", "https:", "//", "<script", "<link", "@import", "url("] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    // Five charts of learning, one of times, six of statistics.
    assert_eq!(html.matches("<figure>").count(), 12);
    assert_eq!(html.matches("<svg viewBox").count(), 12);
    assert_eq!(html.matches("<figcaption>").count(), 12);
    assert!(!html.contains("#FEDC"), "an ink without a class");
    for name in ["none", "batch"] {
        assert!(html.contains(&format!("class=\"line dashed {name}\"")));
        assert!(html.contains(&format!("class=\"area dashed {name}\"")));
    }
    assert!(
        html.contains(
            "cellnorm compare --task image --norms none,batch --epochs 1 --batch-sizes 4"
        )
    );
}

#[test]
fn one_seed_gives_one_result_on_any_number_of_threads() {
    let workplace = Workplace::new();
    let run = |flags: &[&str]| {
        let mut command = workplace.compare(&["--norms", "batch,group", "--quiet"]);
        command.args(flags).assert().success();
        results(&workplace.out())
    };
    let one = run(&["--threads", "1"]);
    let two = run(&["--threads", "2"]);
    assert_eq!(one["timing"]["threads"], 1);
    assert_eq!(two["timing"]["threads"], 2);
    assert_eq!(remove_timing(one.clone()), remove_timing(two));
    let other = run(&["--seed", "2"]);
    assert_ne!(one["runs"][0]["epochs"], other["runs"][0]["epochs"]);
}

#[test]
fn every_spelling_of_the_data_is_read() {
    let workplace = Workplace::new();
    workplace.compare(&["--norms", "none", "--quiet"]).assert().success();
    let plain = results(&workplace.out());
    for (name, bytes) in Workplace::files() {
        workplace.take(name);
        if name.starts_with("train") {
            workplace.put(&format!("{}.gz", name.replace("-idx", ".idx")), &gzip(&bytes));
        } else {
            workplace.put(&name.replace("-idx", ".idx"), &bytes);
        }
    }
    workplace.compare(&["--norms", "none", "--quiet"]).assert().success();
    assert_eq!(remove_timing(plain), remove_timing(results(&workplace.out())));
}

#[test]
fn json_is_what_is_saved() {
    let workplace = Workplace::new();
    let output = workplace.compare(&["--norms", "rms", "--json"]).output().unwrap();
    assert!(output.status.success());
    let saved = fs::read(workplace.out().join("results.json")).unwrap();
    assert!(saved.ends_with(b"}\n"));
    assert_eq!(output.stdout, saved);
}

#[test]
fn quiet_says_nothing_and_replaces_older_results() {
    let workplace = Workplace::new();
    fs::create_dir(workplace.out()).unwrap();
    fs::write(workplace.out().join("results.json"), "older").unwrap();
    let output = workplace.compare(&["--norms", "layer", "--quiet"]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.is_empty() && output.stderr.is_empty());
    assert_eq!(results(&workplace.out())["runs"][0]["normalization"], "layer");
    assert_eq!(entries(&workplace.out()), ["report.html", "results.json"]);
}

#[test]
fn several_batch_sizes_are_crossed_with_the_normalizations() {
    let workplace = Workplace::new();
    let flags = ["--norms", "instance,none", "--batch-sizes", "10,5"];
    let output = workplace.compare(&flags).output().unwrap();
    assert!(output.status.success());
    let results = results(&workplace.out());
    let runs: Vec<_> = results["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| (run["normalization"].as_str().unwrap(), run["batch_size"].as_u64().unwrap()))
        .collect();
    assert_eq!(runs, [("instance", 10), ("none", 10), ("instance", 5), ("none", 5)]);
    assert!(plain(&output.stdout).contains("batch size"));
    let html = fs::read_to_string(workplace.out().join("report.html")).unwrap();
    assert!(html.contains("Test error by batch size"));
    assert_eq!(html.matches("<details>").count(), 2);
}

#[test]
fn batches_of_one_work_with_batch_normalization() {
    let workplace = Workplace::new();
    let flags = ["--norms", "batch", "--batch-sizes", "1", "--quiet"];
    workplace.compare(&flags).assert().success();
    let loss = &results(&workplace.out())["runs"][0]["epochs"][0]["test_loss"];
    assert!(loss.as_f64().is_some_and(f64::is_finite), "{loss}");
}

#[test]
fn a_killed_comparison_goes_on_to_the_same_results() {
    let command = |place: &Workplace, norms: &str, more: &[&str]| {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("cellnorm"));
        command.args(["compare", "--epochs", "30", "--batch-sizes", "4", "--norms", norms]);
        command.arg("--data").arg(place.data()).arg("--out").arg(place.out()).args(more);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        command
    };
    let norms = "none,batch,layer,instance,group,rms";
    let undisturbed = Workplace::new();
    assert!(command(&undisturbed, norms, &[]).output().unwrap().status.success());
    let disturbed = Workplace::new();
    let mut child = command(&disturbed, norms, &["--quiet"]).spawn().unwrap();
    let partial = disturbed.out().join("results.partial.json");
    while !partial.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        partial.exists() && !disturbed.out().join("results.json").exists(),
        "killed after the first training"
    );

    // another comparison is not continued
    let other = command(&disturbed, "none", &["--resume"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert!(plain(&other.stderr).contains("start with the same flags"), "{}", plain(&other.stderr));
    let resumed = command(&disturbed, norms, &["--resume"]).output().unwrap();
    assert!(resumed.status.success(), "{}", plain(&resumed.stderr));
    let [found, expected] =
        [&disturbed, &undisturbed].map(|place| remove_timing(results(&place.out())));
    assert_eq!(found["runs"], expected["runs"]);
    assert!(!partial.exists(), "what was kept has served its end");
}
