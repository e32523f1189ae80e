//! The lines of code in `docs/seed-features.md`, compiled and run: a file for each tutorial, each
//! line under its row's number.
//!
//! Lines of Burn are in `cellnorm-burn/tests/features.rs`, and those of the command are parsed by
//! `cellnorm-cli`.

mod s000;
mod s001;
mod s002;
mod s003;
mod s004;

use crate::pages::{features, is_feature, read};

/// The rows whose line is for the shell: the benchmark, which measures for minutes.
const SHELL: [&str; 1] = ["003-18"];

/// Code without spaces, and without the commas that formatting puts where it breaks a line.
fn bare(code: &str) -> String {
    let bare: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    [")", "]", "}"].iter().fold(bare, |bare, end| bare.replace(&format!(",{end}"), end))
}

/// The row whose number is all of this comment.
fn row_of(line: &str) -> Option<&str> {
    line.trim().strip_prefix("// ").filter(|id| is_feature(id))
}

/// The code under a row's number, up to the next number, without comments.
fn code_of(id: &str, source: &str) -> String {
    let under = source.lines().skip_while(|line| row_of(line) != Some(id)).skip(1);
    let code: Vec<&str> = under
        .take_while(|line| row_of(line).is_none())
        .filter(|line| !line.trim().starts_with("//"))
        .collect();
    bare(&code.join("\n"))
}

/// Whether the code under a row's number has this line, whole: not a part that would not compile
/// alone.
fn is_shown(id: &str, line: &str, source: &str) -> bool {
    let (code, line) = (code_of(id, source), bare(line));
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |(at, _): (usize, &str)| {
        let (before, after) = (&code[..at], &code[at + line.len()..]);
        let ended = line.ends_with([';', '}']) || !after.starts_with(in_word);
        ended && !before.ends_with(|c| in_word(c) || ".:".contains(c))
    };
    let count = |bracket: char| line.matches(bracket).count();
    let closed = [('(', ')'), ('[', ']'), ('{', '}')]
        .iter()
        .all(|(open, close)| count(*open) == count(*close));
    closed && code.match_indices(&line).any(whole)
}

#[test]
fn every_line_of_rust_is_compiled_under_its_number() {
    // those that this file compiles, and Burn's
    let modules = include_str!("mod.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let arrays: String = modules
        .map(|module| read(&format!("cellnorm/tests/errata/features/{module}.rs")))
        .collect();
    let source = arrays + &read("cellnorm-burn/tests/features.rs");
    let (mut rust, mut missing) = (Vec::new(), Vec::new());
    for (id, cells) in features() {
        let line = cells[2]
            .strip_prefix('`')
            .and_then(|cell| cell.strip_suffix('`'))
            .filter(|line| !line.contains('`'));
        let line =
            line.unwrap_or_else(|| panic!("{id} has no single line of code")).replace("\\|", "|");
        if !line.starts_with("cellnorm ") && !SHELL.contains(&id.as_str()) {
            if !is_shown(&id, &line, &source) {
                missing.push(format!("{id}: {line}"));
            }
            rust.push(id);
        }
    }
    assert!(missing.is_empty(), "no test has these lines under their numbers: {missing:#?}");
    let mut numbers: Vec<&str> = source.lines().filter_map(row_of).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, rust, "a number in the tests is there twice, or its row has no Rust");
}

#[test]
fn another_line_is_not_taken_for_the_one_in_the_table() {
    let source = "
    // 000-04
    // moments(y, &[1], true)?
    let (mean, _) = moments(
        x, &[0, 1],
    )?;
    // 000-05
    let y = x;";
    assert!(is_shown("000-04", "moments(x, &[0, 1])?", source));
    for (id, line) in [
        ("000-04", "moments(x, &[0, 2])?"),
        ("000-04", "moments(y, &[1], true)?"),
        ("000-04", "let y = x;"),
        ("000-05", "moments(x, &[0, 1])?"),
        ("000-06", "let y = x;"),
        ("000-04", "moments(x, &[0, 1])?)"),
        ("000-04", "moments(x, &[0, 1]"),
        ("000-04", "ments(x, &[0, 1])"),
    ] {
        assert!(!is_shown(id, line, source), "{id} {line}");
    }
}
