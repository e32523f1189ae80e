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

/// The report as HTML.
pub fn render(results: &Results) -> Result<String, Error> {
    Ok(page::render(results, &figures::chapters(results)?))
}
