//! `report.html`: one file that shows a comparison in a browser, on any screen, without network.

use super::CompareError;
use super::results::{Results, Training};
use crate::norm::Norm;

mod axis;
mod charts;
mod ink;
mod page;
mod sections;

/// Sections that belong together.
pub struct Chapter {
    /// The heading, under which the sections can be folded away; None for sections that are always
    /// seen.
    pub title: Option<String>,
    pub sections: Vec<Section>,
}

/// Charts about one question.
pub struct Section {
    pub title: &'static str,
    /// How to read the charts.
    pub intro: &'static str,
    /// The normalizations to explain the colours of.
    pub legend: Vec<Norm>,
    pub charts: Vec<Chart>,
}

/// A chart with its words.
pub struct Chart {
    pub title: String,
    pub svg: String,
    pub caption: String,
}

pub fn render(results: &Results) -> Result<String, CompareError> {
    Ok(page::render(results, &chapters(results)?))
}

/// The chapters of the report: with several batch sizes their influence comes first, then a chapter
/// for each size.
fn chapters(results: &Results) -> Result<Vec<Chapter>, CompareError> {
    let sections = |size: &usize| sections(&results.shown_for_size(*size));
    let sizes = &results.config.batch_sizes;
    if let [size] = sizes.as_slice() {
        return Ok(vec![Chapter { title: None, sections: sections(size)? }]);
    }
    let mut chapters =
        vec![Chapter { title: None, sections: vec![sections::batch_sizes(results)?] }];
    for size in sizes {
        let title = Some(format!("Batch size {size}"));
        chapters.push(Chapter { title, sections: sections(size)? });
    }
    Ok(chapters)
}

/// The sections about `runs` with one batch size.
fn sections(runs: &[&Training]) -> Result<Vec<Section>, CompareError> {
    let mut sections = vec![sections::learning(runs)?];
    sections.extend(sections::times(runs)?);
    for run in runs {
        if let Some(statistics) = &run.statistics {
            sections.push(sections::statistics(run.normalization, statistics)?);
        }
    }
    Ok(sections)
}
