//! The page on folding names every reason that there is.

use std::collections::BTreeSet;

use cellnorm_onnx::fold::Reason;

#[test]
fn the_page_names_every_reason() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/folding.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section =
        page.split("## ").find(|section| section.starts_with("Why a node stays")).unwrap();
    let named: BTreeSet<&str> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let all: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(named, all);
    let json = |reason: &Reason| serde_json::to_string(reason).unwrap();
    assert!(Reason::ALL.iter().all(|reason| json(reason) == format!("\"{}\"", reason.code())));
    assert!(Reason::ALL.iter().all(|reason| !reason.advice().is_empty()));
}
