//! Checks that each top-level module imports only from modules that stand before it in `ORDER`.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use crate::ORDER;

/// The texts of all files below a folder, without comments, by their paths.
fn sources(folder: &Path, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a file");
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            texts.insert(path.display().to_string(), lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The first names after each `crate::` of a text: one, or those in braces.
fn imports(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let mut depth = 0;
        for part in rest.split_inclusive(['{', '}', ',', ';']) {
            if depth == 1 || rest.starts_with(part) {
                names.extend(words(part.trim_start()).next());
            }
            depth += part.matches('{').count() as i32 - part.matches('}').count() as i32;
            if depth <= 0 {
                break;
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

/// The module of each name that the crate's root exports.
fn exports<'a>(texts: impl Iterator<Item = &'a String>) -> HashMap<&'a str, &'a str> {
    let statements = texts.flat_map(|text| text.split("\npub use ").skip(1));
    let statements = statements.map(|rest| rest.split(';').next().unwrap_or(rest));
    statements
        .flat_map(|rest| words(rest).map(|name| (name, words(rest).next().unwrap_or(rest))))
        .collect()
}

#[test]
fn modules_import_only_from_modules_before_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = BTreeMap::new();
    sources(&src, &mut texts);
    let is_root =
        |path: &str| ["lib.rs", "main.rs"].iter().any(|root| Path::new(path) == src.join(root));
    let exports = exports(texts.iter().filter(|(path, _)| is_root(path)).map(|(_, text)| text));
    let place = |name: &str| {
        let module = exports.get(name).copied().unwrap_or(name);
        ORDER.iter().position(|other| *other == module)
    };
    let mut wrong = Vec::new();
    for (path, text) in &texts {
        let path = Path::new(path).strip_prefix(&src).expect("a file in src").with_extension("");
        let module = path.iter().next().expect("a name").to_string_lossy();
        if ["main", "lib", "order"].contains(&&*module) {
            continue;
        }
        let own = place(&module).unwrap_or_else(|| panic!("{module} is not in ORDER"));
        let later = imports(text).into_iter().filter(|name| place(name) > Some(own));
        wrong.extend(later.map(|name| format!("{} imports from {name}", path.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nested_and_braced_imports_are_found() {
    let text = "use crate::a::b;\nuse crate::{\n    c::{D, e},\n    f,\n};\nlet x = crate::g::h();";
    assert_eq!(imports(text), ["a", "c", "f", "g"]);
}
