//! The two pages about the tutorials are whole, and name tests that exist and hold the numbers that
//! the pages state.

use std::fs;
use std::path::{Path, PathBuf};

/// The rows `| id | cell | … |` of a page whose id `is_id` takes.
fn rows(page: &str, is_id: impl Fn(&str) -> bool) -> Vec<(String, Vec<String>)> {
    let row = |line: &str| {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let mut cells = cells.split(" | ").map(|cell| cell.trim().to_owned());
        let id = cells.next().filter(|id| is_id(id))?;
        Some((id, cells.collect()))
    };
    read(&format!("../docs/{page}")).lines().filter_map(row).collect()
}

/// Whether this is the number of a row of the page of features.
pub fn is_feature(id: &str) -> bool {
    id.split_once('-').is_some_and(|(tutorial, row)| {
        (tutorial.len(), row.len()) == (3, 2)
            && [tutorial, row].iter().all(|n| n.bytes().all(|c| c.is_ascii_digit()))
    })
}

/// The rows of the page of features; the cells are: what is shown, where it is, the line of code,
/// the test.
pub fn features() -> Vec<(String, Vec<String>)> {
    rows("seed-features.md", is_feature)
}

/// A file, by its path from `crates/`.
pub fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The `path.rs::name` in a cell.
fn tests_named(cell: &str) -> Vec<(&str, &str)> {
    cell.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs::")).collect()
}

/// A test from its comment to its end.
fn source((path, name): (&str, &str)) -> String {
    let file = read(&format!("{path}.rs"));
    let head = format!("fn {name}(");
    let at = file.find(&head).unwrap_or_else(|| panic!("{path}.rs has no {name}"));
    let start = file[..at].rfind("\n\n").expect("a line above");
    let indent: String = file[..at].chars().rev().take_while(|c| *c == ' ').collect();
    let end = file[at..].find(&format!("\n{indent}}}")).expect("an end") + at;
    let text = &file[start..end];
    assert!(text.contains("#[test]"), "{path}.rs::{name} is no test");
    text.to_owned()
}

/// The paths and texts of the library's files.
fn library(folder: &Path) -> Vec<(String, String)> {
    let paths =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = |path: PathBuf| match path.is_dir() {
        true => library(&path),
        false => vec![(path.display().to_string(), fs::read_to_string(&path).expect("text"))],
    };
    paths.flat_map(files).collect()
}

/// Whether the comment of a public item, which may be named with its module, has code.
fn has_doc_test(item: &str, library: &[(String, String)]) -> bool {
    let (module, name) = item.rsplit_once("::").unwrap_or(("", item));
    let named = |line: &str| {
        let mut words =
            line.trim().strip_prefix("pub ")?.split(|c: char| !c.is_alphanumeric() && c != '_');
        ["fn", "struct", "enum", "type"].contains(&words.next()?).then_some(words.next()? == name)
    };
    let tells = |part: &str| {
        let (comment, code): (Vec<&str>, Vec<&str>) =
            part.lines().partition(|line| line.trim().starts_with("///"));
        comment.iter().any(|line| line.ends_with("```"))
            && code.iter().copied().find_map(named) == Some(true)
    };
    let of_module = library.iter().filter(|(path, _)| path.contains(module));
    of_module.flat_map(|(_, text)| text.split("\n\n")).any(tells)
}

fn complete(rows: &[(String, Vec<String>)], cells: usize) {
    for (id, row) in rows {
        assert_eq!(row.len(), cells, "{id} has another number of cells");
        assert!(
            row.iter().all(|cell| cell.chars().any(char::is_alphanumeric)),
            "{id} has an empty cell"
        );
    }
}

#[test]
fn every_feature_has_a_place_and_a_test() {
    let expected: Vec<String> = [36, 25, 12, 39, 48]
        .iter()
        .enumerate()
        .flat_map(|(tutorial, count)| {
            (1..=*count).map(move |row| format!("{tutorial:03}-{row:02}"))
        })
        .collect();
    assert_eq!(expected.len(), 160);
    let rows = features();
    assert_eq!(rows.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), expected);
    complete(&rows, 4);
    let library = library(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for (id, cells) in &rows {
        let tests = tests_named(&cells[3]);
        tests.iter().copied().map(source).for_each(drop);
        let documented: Vec<&str> = cells[3]
            .split("doc test of `")
            .skip(1)
            .map(|rest| rest.split_once('`').unwrap().0)
            .collect();
        for item in &documented {
            assert!(has_doc_test(item, &library), "{id}: the documentation of {item} runs nothing");
        }
        let told = !documented.is_empty() || cells[3].contains("none:");
        assert!(told || !tests.is_empty(), "{id} names no test and does not say why");
    }
}

/// The columns are: what is said, what is right, the wrong number, the right number, the test.
#[test]
fn every_erratum_has_its_numbers_in_its_test() {
    let mut rows =
        rows("seed-errata.md", |id| id.starts_with('E') && id[1..].parse::<u32>().is_ok());
    complete(&rows, 5);
    rows.sort_by_key(|(id, _)| id[1..].parse::<u32>().unwrap());
    let expected: Vec<String> = (1..=37).map(|id| format!("E{id}")).collect();
    assert_eq!(rows.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), expected);
    for (id, cells) in &rows {
        let tests: Vec<String> = tests_named(&cells[4]).into_iter().map(source).collect();
        if tests.is_empty() {
            assert!(cells[4].starts_with("none:"), "{id} names no test and does not say why");
            continue;
        }
        let text = tests.concat().replace('_', "");
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
        assert!(words.contains(&id.as_str()), "the test of {id} is not about it");
        let held = numbers(&text, |c| !c.is_ascii_digit() && !"-.e".contains(c));
        for cell in &cells[2..4] {
            for stated in numbers(&cell.replace('−', "-").replace(',', ""), char::is_whitespace) {
                assert!(held.contains(&stated), "the test of {id} does not hold {stated}");
            }
        }
    }
}

/// The numbers among the parts of a text.
fn numbers(text: &str, between: impl Fn(char) -> bool) -> Vec<f64> {
    text.split(between).filter_map(|part| part.parse().ok()).collect()
}
