//! The verdict on a folded model: proven fold by fold, and run before and after.

use std::time::Duration;

use serde::Serialize;

use super::{
    Comparison, Feed, Pair, Proof, Runtime, compare, default_tolerance, probes, prove,
    random_feeds, text,
};
use crate::error::Error;
use crate::fold::{Folded, FoldedData};
use crate::proto::Float;
use crate::save::Draft;
use crate::source::Source;

/// The result of checking a folded model.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// The folds, layer by layer.
    pub proofs: Vec<Proof>,
    /// The whole model before and after.
    pub run: Outcome,
    /// The largest difference of an output that is allowed, as a share of its largest number.
    pub tolerance: f64,
    /// Whether every fold is proven and no difference is above the tolerance.
    pub holds: bool,
}

/// The outcome of running the whole model before and after.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The comparison of both.
    Compared(Comparison),
    /// The reason that they could not be run; the folds are proven one by one all the same.
    NotRun(String),
}

impl Outcome {
    /// The comparison of the models, if they could be run.
    pub fn compared(&self) -> Option<&Comparison> {
        match self {
            Self::Compared(comparison) => Some(comparison),
            Self::NotRun(_) => None,
        }
    }
}

/// Options of a check.
pub struct Checks<'c> {
    /// The runtimes; the first that can run both models is taken. There may be none.
    pub runtimes: &'c [&'c dyn Runtime],
    /// Inputs to run on besides random ones.
    pub inputs: Vec<Feed>,
    /// The difference that is allowed; `None` for [`default_tolerance`].
    pub tolerance: Option<f64>,
    /// How long both models are run to measure their time.
    pub timed: Duration,
}

/// Checks a folded model that was written.
///
/// # Errors
/// If the written model cannot be read again, or lacks a layer.
pub fn certify(
    source: &Source,
    folded: &Folded<'_>,
    draft: &Draft,
    checks: Checks<'_>,
) -> Result<Certificate, Error> {
    let written = Source::open(draft.path())?;
    let proofs = prove(folded, &written.model()?)?;
    let floats = folded.layers.iter().map(|layer| layer.layer.linear.weight.values.float);
    let coarsest = floats.max_by(|a, b| a.unit().total_cmp(&b.unit())).unwrap_or(Float::F32);
    // data far from 0 lose as many digits as the fold was allowed to cost
    let far = folded.data.as_ref().map_or(0.0, FoldedData::distance);
    let default = || default_tolerance(coarsest, proofs.len()) * (1.0 + far / 16.0);
    let tolerance = checks.tolerance.unwrap_or_else(default);
    let run = match run(source, folded, draft, &checks) {
        Ok(comparison) => Outcome::Compared(comparison),
        Err(problem) => Outcome::NotRun(problem),
    };
    let close = run.compared().is_none_or(|comparison| comparison.largest_relative <= tolerance);
    let holds = close && proofs.iter().all(|proof| proof.share <= 1.0);
    Ok(Certificate { proofs, run, tolerance, holds })
}

/// Both models in the first runtime that can run them, on the inputs given and on random ones.
fn run(
    source: &Source,
    folded: &Folded<'_>,
    draft: &Draft,
    checks: &Checks<'_>,
) -> Result<Comparison, String> {
    if checks.runtimes.is_empty() {
        return Err("nothing was asked to run them".into());
    }
    let model = source.model().map_err(text)?;
    let written = Source::open(draft.path()).map_err(text)?;
    let probes = probes(&model, &written.model().map_err(text)?);
    let (before, after) = (source.path(), &*draft.path());
    let mut problems = Vec::new();
    let mut random = random_feeds(&model, 1).unwrap_or_else(|problem| {
        problems.push(problem);
        Vec::new()
    });
    if let Some(data) = &folded.data {
        random.iter_mut().for_each(|feed| data.place(feed));
    }
    let (probes, data, given, random) = (&probes, folded.data.as_ref(), &*checks.inputs, &*random);
    let pair = Pair { before, after, probes, data, given, random };
    for runtime in checks.runtimes {
        match compare(*runtime, pair, checks.timed) {
            Ok(comparison) => return Ok(comparison),
            Err(problem) => problems.push(format!("{}: {problem}", runtime.name())),
        }
    }
    Err(problems.join("; "))
}
