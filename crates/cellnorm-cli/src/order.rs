//! Checks that each top-level module imports only from modules that stand before it in `ORDER`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::ORDER;

/// The Rust files below a folder with their texts, without comments.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let source = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            vec![(path, code.collect::<Vec<_>>().join("\n"))]
        }
        _ => vec![],
    };
    paths.flat_map(source).collect()
}

/// The first name of a text.
fn first(text: &str) -> &str {
    let is_end = |letter: char| !letter.is_alphanumeric() && letter != '_';
    text.trim_start().split(is_end).next().unwrap_or_default()
}

/// The names that follow each `crate::`: one, or the outer names in braces.
fn imports(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for rest in text.split("crate::").skip(1) {
        let mut depth = 0;
        for part in rest.split_inclusive(['{', '}', ',', ';']) {
            if depth <= 1 {
                names.push(first(part));
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

#[test]
fn modules_import_only_from_modules_before_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let outside = ["lib.rs", "main.rs", "order.rs"].map(|name| src.join(name));
    let (roots, modules): (Vec<_>, Vec<_>) =
        sources(&src).into_iter().partition(|(path, _)| outside.contains(path));
    // the modules of the names that the root exports
    let exports = roots.iter().flat_map(|(_, text)| text.split("\npub use ").skip(1));
    let exports = exports.map(|rest| rest.split_once(';').map_or(rest, |(export, _)| export));
    let exports: HashMap<&str, &str> = exports
        .flat_map(|export| {
            export.split(['{', ',', ' ', ':']).map(|name| (first(name), first(export)))
        })
        .collect();
    let place = |name: &str| ORDER.iter().position(|module| *module == name);
    let mut wrong = Vec::new();
    for (path, text) in &modules {
        let path = path.strip_prefix(&src).unwrap().with_extension("");
        let module = path.iter().next().unwrap().to_string_lossy();
        let own = place(&module).unwrap_or_else(|| panic!("{module} is not in ORDER"));
        for name in imports(text) {
            if place(exports.get(name).unwrap_or(&name)) > Some(own) {
                wrong.push(format!("{} imports from {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nested_and_braced_imports_are_found() {
    let text = "use crate::a::b;\nuse crate::{\n    c::{D, e},\n    f,\n};\nlet x = crate::g::h();";
    assert_eq!(imports(text), ["a", "c", "f", "g"]);
}
