//! `report.html`: one file that shows a comparison in a browser, on any screen, without network.

use crate::error::Error;
use crate::results::Results;

mod axis;
mod charts;
mod figures;
mod ink;
mod learning;
mod moments;
mod page;
mod times;

const STYLE: &str = include_str!("style.css");

/// A colour of the style sheet: of a normalization by its name, or of `paper`, `card`, `words`, `quiet` and `rule`.
pub fn palette(name: &str, dark: bool) -> &'static str {
    // the light theme comes first
    let color = |before: String| {
        let (at, before) = STYLE.match_indices(&before).nth(usize::from(dark))?;
        STYLE[at + before.len()..].get(..7)
    };
    color(format!(".{name} {{ --ink: ")).or_else(|| color(format!("--{name}: "))).unwrap_or("#808080")
}

/// The report as HTML.
pub fn render(results: &Results) -> Result<String, Error> {
    Ok(page::render(results, &figures::chapters(results)?))
}
