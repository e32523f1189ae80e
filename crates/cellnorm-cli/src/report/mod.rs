//! `report.html`: one file that shows a comparison in a browser, on any screen, without network.

use crate::error::Error;
use crate::norm::Norm;
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

/// A colour of the style sheet: of a normalization by its name, or of `paper`, `card`, `words`,
/// `quiet` and `rule`.
pub fn palette(name: &str, dark: bool) -> &'static str {
    // the light theme comes first
    let color = |before: String| {
        let (at, before) = STYLE.match_indices(&before).nth(usize::from(dark))?;
        STYLE[at + before.len()..].get(..7)
    };
    color(format!(".{name} {{ --ink: "))
        .or_else(|| color(format!("--{name}: ")))
        .unwrap_or("#808080")
}

/// The style sheet, with a colour and dashes for each normalization that it does not name: hues a
/// golden angle apart, which keeps neighbours distinct however many there are.
pub fn style() -> String {
    let unnamed = Norm::ALL
        .iter()
        .map(|norm| norm.name())
        .filter(|name| !STYLE.contains(&format!(".{name} {{")));
    let rule = |(i, name): (usize, &str)| {
        let hue = (20.0 + 137.5 * i as f64) % 360.0;
        let dashes = format!("{} {} 8 {}", 14 + 9 * (i % 5), 10 + 4 * (i % 3), 10 + 4 * (i % 3));
        format!(
            ".{name} {{ --ink: light-dark(hsl({hue} 65% 36%), hsl({hue} 65% 70%)); \
             }}\n.dashed.{name} {{ stroke-dasharray: {dashes}; }}\n"
        )
    };
    STYLE.to_owned() + "\n" + &unnamed.enumerate().map(rule).collect::<String>()
}

/// The report as HTML.
pub fn render(results: &Results) -> Result<String, Error> {
    Ok(page::render(results, &figures::chapters(results)?))
}
