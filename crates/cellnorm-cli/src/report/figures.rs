//! What the report shows, in which order.

use super::{learning, moments, times};
use crate::error::Error;
use crate::norm::Norm;
use crate::results::{Results, Run};

/// Sections that belong together.
pub struct Chapter {
    /// The heading, under which the sections can be folded away. Those without are always seen.
    pub title: Option<String>,
    /// The sections.
    pub sections: Vec<Section>,
}

/// Charts about one question.
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// How to read the charts.
    pub intro: &'static str,
    /// The normalizations to explain the colours of.
    pub legend: Vec<Norm>,
    /// The charts.
    pub figures: Vec<Figure>,
}

/// A chart with its words.
pub struct Figure {
    /// What is drawn.
    pub title: String,
    /// The drawing.
    pub svg: String,
    /// What one sees.
    pub caption: String,
}

/// All of the report: with several batch sizes what they change comes first, then each size.
pub fn chapters(results: &Results) -> Result<Vec<Chapter>, Error> {
    let sizes = &results.config.batch_sizes;
    if let [size] = sizes.as_slice() {
        return Ok(vec![Chapter {
            title: None,
            sections: sections(&results.with_batch_size(*size))?,
        }]);
    }
    let mut chapters =
        vec![Chapter { title: None, sections: vec![learning::by_batch_size(results)?] }];
    for &size in sizes {
        chapters.push(Chapter {
            title: Some(format!("Batch size {size}")),
            sections: sections(&results.with_batch_size(size))?,
        });
    }
    Ok(chapters)
}

/// The sections about `runs` with one batch size.
fn sections(runs: &[&Run]) -> Result<Vec<Section>, Error> {
    let mut sections = vec![learning::section(runs)?];
    sections.extend(times::section(runs)?);
    for run in runs {
        if let Some(statistics) = &run.statistics {
            sections.push(moments::section(run.normalization, statistics)?);
        }
    }
    Ok(sections)
}
