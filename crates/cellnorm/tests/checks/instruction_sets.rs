//! The environment variable `CELLNORM_MACHINE`: this test runs itself once with each value. That
//! all sets give the same bits is `bits`' to show, within one process.

use std::process::Command;

use cellnorm::kernels;

/// A child prints the instruction set that a pass runs on.
#[test]
#[ignore = "run by the test below"]
fn child() {
    let mean =
        kernels::moments(&[1.0_f32, 3.0], &cellnorm::shape::Cells::channels_first(1, 1, 2))[0].mean;
    println!("set {} {mean}", kernels::instruction_set());
}

/// The instruction set a child used, and what it wrote to stderr.
fn run_child(asked: &str) -> (String, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "instruction_sets::child",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("CELLNORM_MACHINE", asked)
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}{err}");
    let line =
        out.lines().find_map(|line| line.split_once("set ")).expect("the child prints its set").1;
    let (set, mean) = line.split_once(' ').unwrap();
    assert_eq!(mean, "2");
    (set.to_string(), err)
}

#[test]
#[cfg_attr(miri, ignore = "Miri starts no processes")]
fn the_environment_holds_the_choice_down() {
    let possible = kernels::instruction_sets();
    let widest = *possible.last().unwrap();
    assert_eq!(run_child("").0, widest);
    for asked in ["portable", "avx2", "avx512", "avx512bf16"] {
        let (set, err) = run_child(&format!("instruction_set={asked}"));
        assert_eq!(set, if possible.contains(&asked) { asked } else { widest });
        // a set that the machine lacks is replaced, and the user told, once
        let note = format!(
            "CELLNORM_MACHINE: instruction_set is {asked}, but this processor has {widest} at \
             most; ignored"
        );
        assert_eq!(err.matches(&note).count(), usize::from(set != asked), "{err}");
    }
    let (set, err) = run_child("instruction_set=sse9");
    assert_eq!(set, widest);
    assert_eq!(
        err.matches(
            "CELLNORM_MACHINE: instruction_set is \"sse9\"; it must be one of portable, avx2, \
             avx512, avx512bf16"
        )
        .count(),
        1,
        "{err}"
    );
}
