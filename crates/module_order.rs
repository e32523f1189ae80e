//! Unit test of every crate that declares this file: the top-level modules of the crate import only
//! themselves and the modules above them in `lib.rs` or `main.rs`, so no two import each other,
//! directly or through others. Files named `tests.rs` may import anything.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn modules_import_only_what_stands_above_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let roots = ["lib.rs", "main.rs"].map(|root| source.join(root));
    let root = roots.iter().find(|root| root.exists()).expect("a crate has a root");
    let root = fs::read_to_string(root).unwrap();
    let order: Vec<&str> = root
        .lines()
        .filter_map(|line| line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod "))
        .filter_map(|rest| rest.strip_suffix(';'))
        .collect();
    assert!(!order.is_empty());
    let place = |name: &str| order.iter().position(|module| *module == name);
    let checked = |file: &&PathBuf| !roots.contains(file) && !file.ends_with("tests.rs");
    for file in files(&source).iter().filter(checked) {
        let inside = file.strip_prefix(&source).unwrap().with_extension("");
        let module = inside.iter().next().unwrap().to_str().unwrap();
        let Some(own) = place(module) else { continue };
        for name in imports(&fs::read_to_string(file).unwrap()) {
            let imported = place(&name);
            let shown = file.display();
            let imported = imported.unwrap_or_else(|| panic!("{shown}: {name} is no module"));
            assert!(imported <= own, "{shown}: {name} does not stand above {module}");
        }
    }
}

/// The `.rs` files of a folder and of those in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// Each `name` of `crate::name` and of `crate::{name, name::…}`, except in comments.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join(" ");
    let name = |path: &str| {
        path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let mut depth = 1;
        let end = list.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        let mut depth = 0;
        let paths = list[..end.unwrap()].split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        found.extend(paths.map(name).filter(|name: &String| !name.is_empty()));
    }
    found
}
