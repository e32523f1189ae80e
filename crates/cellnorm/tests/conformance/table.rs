//! The tables, as text that is also the first part of a page of the documentation.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::compare::{Distance, FAR, Found, TOLERANCE};

/// The groups of results that have a column each.
const COLUMNS: [&str; 3] = ["forward", "backward", "running statistics"];

/// One framework: its lines, and what stands below them.
pub struct Framework {
    name: String,
    lines: BTreeMap<String, Line>,
    nearer: Vec<String>,
}

/// The cases of one layer.
#[derive(Default)]
struct Line {
    cases: usize,
    worst: [Option<Distance>; COLUMNS.len()],
    nearer: usize,
}

impl Framework {
    pub fn new(name: &str, version: &str) -> Self {
        let name = format!("{name} {version}");
        Self { name, lines: BTreeMap::new(), nearer: Vec::new() }
    }

    /// Enters a case: what was found for each result of each step.
    pub fn enter(&mut self, layer: &str, case: &str, found: &[(&str, Found)]) {
        let line = self.lines.entry(layer.into()).or_default();
        line.cases += 1;
        let mut nearer = BTreeMap::<&str, (f64, f64)>::new();
        for (result, found) in found {
            match found {
                Found::Agrees(distance) => {
                    let worst = &mut line.worst[column(result)];
                    *worst = Some(worst.unwrap_or_default().worst(*distance));
                }
                Found::Nearer { theirs, ours } => {
                    let worst = nearer.entry(result).or_default();
                    *worst = (worst.0.max(*theirs), worst.1.max(*ours));
                }
                Found::Differs(_) => {}
            }
        }
        line.nearer += usize::from(!nearer.is_empty());
        for (result, (theirs, ours)) in nearer {
            self.nearer
                .push(format!("| {} | {case} | {result} | {theirs:.1e} | {ours:.1e} |", self.name));
        }
    }

    /// One line that says how many cases there are.
    pub fn summary(&self) -> String {
        format!("{}: {} cases", self.name, self.cases())
    }

    /// The number of cases.
    pub fn cases(&self) -> usize {
        self.lines.values().map(|line| line.cases).sum()
    }

    /// The rows of the main table.
    fn rows(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|(layer, line)| {
            let ulp = line.worst.iter().flatten().map(|distance| distance.ulp).fold(0.0, f64::max);
            let mut row = format!("| {} | {layer} | {} | {ulp:.1} |", self.name, line.cases);
            for worst in line.worst {
                let cell =
                    worst.map_or("–".into(), |distance| format!("{:.1e}", distance.relative));
                write!(row, " {cell} |").expect("text");
            }
            row + &format!(" {} |", line.nearer)
        })
    }
}

fn column(result: &str) -> usize {
    match result {
        "y" => 0,
        gradient if gradient.starts_with('d') => 1,
        _ => 2,
    }
}

/// The frameworks' part of the page.
pub struct Page<'a>(pub &'a [Framework]);

const HEAD: &str = "\
# Conformance

Each layer of each framework, run in f32 by the framework itself, and by Cellnorm from the \
                    framework's preset and the same
arguments and numbers. The layer is made as a user would make it, so the presets' defaults are \
                    compared, too.
`CELLNORM_WRITE_DOCS=1 cargo test -p cellnorm --test conformance --test onnx` writes this page; \
                    `fixtures/*/generate.py` beside
the tests make the numbers. [ONNX's node tests](#onnxs-node-tests) are at the end.
";

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        for framework in self.0 {
            writeln!(f, "* {}", framework.summary())?;
        }
        writeln!(
            f,
            "
Worst errors: max |ours − theirs| / max(1, max |theirs|) of an array, at most {TOLERANCE:.0e}. The \
             ulp is the last place of
an f32 of the size of the array's largest value, or of 1. Arrays in which the framework itself is \
             more than {FAR:.0e} from f64
are not in these columns: the last one counts the cases that have some, and the second table shows \
             that Cellnorm is nearer.

Under a mask, y and dx are compared at every position, also at those that the mask excludes, where
dy is not 0 either.

| framework | layer | cases | ulp | {} | far |
|---|---|---:|---:|---:|---:|---:|---:|",
            COLUMNS.join(" | ")
        )?;
        for row in self.0.iter().flat_map(Framework::rows) {
            writeln!(f, "{row}")?;
        }
        writeln!(
            f,
            "
## Where a framework is far from f64

N(1000,1) says that x has mean 1,000 and deviation 1.

| framework | case | array | its error | Cellnorm's error |
|---|---|---|---:|---:|"
        )?;
        for row in self.0.iter().flat_map(|framework| &framework.nearer) {
            writeln!(f, "{row}")?;
        }
        Ok(())
    }
}
