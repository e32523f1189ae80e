//! The page `docs/conformance.md`, of which two tests write a part each: `conformance` the
//! frameworks', `onnx` ONNX's.
//!
//! With the environment variable `CELLNORM_WRITE_DOCS` a test writes its part and keeps the
//! other's; without, it checks that the page has its numbers of cases. The errors on the page may
//! be those of an older version.

use std::path::Path;
use std::{env, fs};

/// The heading of ONNX's part, which is the last.
const ONNX: &str = "## ONNX's node tests";

/// Writes a part, if asked to, and asserts that the page has these lines.
pub fn check(part: &str, lines: impl IntoIterator<Item = String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
    let mut page = fs::read_to_string(&path).unwrap_or_default();
    if env::var_os("CELLNORM_WRITE_DOCS").is_some() {
        page = renewed(&page, part);
        fs::create_dir_all(path.parent().expect("a folder"))
            .expect("the folder of the documentation");
        fs::write(&path, &page).expect("the page");
    }
    for line in lines {
        assert!(
            page.lines().any(|has| has == line),
            "{} has no line \"{line}\": renew it with CELLNORM_WRITE_DOCS=1 cargo test -p \
             cellnorm --test conformance --test onnx",
            path.display(),
        );
    }
}

/// The page with one part exchanged, which its heading tells from the other.
fn renewed(page: &str, part: &str) -> String {
    let (frameworks, onnx) = page.split_at(page.find(ONNX).unwrap_or(page.len()));
    let parts = if part.starts_with(ONNX) { [frameworks, part] } else { [part, onnx] };
    parts.map(str::trim_end).join("\n\n").trim_end().to_owned() + "\n"
}
