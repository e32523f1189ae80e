//! The whole model before and after: how far the results are apart, whether the largest is the same, and how long it took.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::array::{Array, Feed};
use super::probe::Probes;
use super::{Runtime, Session};
use crate::fold::FoldedData;
use crate::proto::values::Float;

/// How two models compare.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What ran them.
    pub runtime: String,
    /// How many inputs they were run on.
    pub runs: usize,
    /// The largest difference of an output.
    pub largest_difference: f64,
    /// The largest difference, as a share of the largest number of the same output. Where a sigmoid, a softmax, a logarithm of one,
    /// tanh, clipping or the place of the largest ends the model, it is that of the value before.
    pub largest_relative: f64,
    /// How many rows of the outputs have their largest number at the same place, of how many.
    pub same_largest: (usize, usize),
    /// The median time of a run before, in milliseconds.
    pub before_ms: f64,
    /// The median time of a run after.
    pub after_ms: f64,
}

/// The difference that rounding explains: 64 units of the weights' type for a layer, as a share of the output, growing with the
/// square root of the number of layers whose numbers changed.
pub fn default_tolerance(float: Float, layers: usize) -> f64 {
    64.0 * float.unit() * ((layers + 1) as f64).sqrt()
}

/// Runs of each model that are timed, however long they take.
const LEAST_TIMED: usize = 5;

/// A model before and after.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'p> {
    /// The model before.
    pub before: &'p Path,
    /// The model after.
    pub after: &'p Path,
    /// What is compared besides the outputs.
    pub probes: &'p Probes,
    /// The normalization of the data that became part of the model after.
    pub data: Option<&'p FoldedData>,
}

/// Runs two models on the same inputs, then in turns on the first of these for about `timed`, at least five times each. Where a normalization of the data became part of
/// the second, the first gets normalized inputs.
///
/// # Errors
/// If a model cannot be loaded or run; in the runtime's words.
pub fn compare(runtime: &dyn Runtime, pair: Pair<'_>, feeds: &[Feed], timed: Duration) -> Result<Comparison, String> {
    let Pair { before, after, probes, data } = pair;
    let old = runtime.load(before, &probes.before_last)?;
    let mut comparison = Comparison {
        runtime: runtime.name(),
        runs: feeds.len(),
        largest_difference: 0.0,
        largest_relative: 0.0,
        same_largest: (0, 0),
        before_ms: 0.0,
        after_ms: 0.0,
    };
    // what only the model after cannot do is a difference, and the largest there is
    let apart = Comparison { largest_relative: f64::INFINITY, largest_difference: f64::INFINITY, ..comparison.clone() };
    let Ok(new) = runtime.load(after, &probes.before_last) else { return Ok(apart) };
    let mut sessions = [old, new];
    let [old, new] = &mut sessions;
    for feed in feeds {
        let normalized = data.map(|data| normalized(feed, data));
        let old = old.run(normalized.as_ref().unwrap_or(feed))?;
        let Ok(new) = new.run(feed) else { return Ok(apart) };
        if old.len() != new.len() {
            return Ok(apart);
        }
        for ((name, old), (_, new)) in old.iter().zip(&new) {
            if old.shape != new.shape {
                return Ok(apart);
            }
            comparison.add(name, old, new, probes);
        }
    }
    let mut spent = [Vec::new(), Vec::new()];
    let start = Instant::now();
    while let Some(feed) = feeds.first().filter(|_| spent[0].len() < LEAST_TIMED || start.elapsed() < timed) {
        for (session, spent) in sessions.iter_mut().zip(&mut spent) {
            spent.push(milliseconds(session.as_mut(), feed)?);
        }
    }
    [comparison.before_ms, comparison.after_ms] = spent.map(|mut spent| {
        spent.sort_by(f64::total_cmp);
        spent.get(spent.len() / 2).copied().unwrap_or(0.0)
    });
    Ok(comparison)
}

/// Inputs after the normalization of the data: (x − mean)/deviation for each channel.
fn normalized(feed: &Feed, data: &FoldedData) -> Feed {
    let mut feed = feed.clone();
    for (_, array) in feed.iter_mut().filter(|(name, _)| *name == data.input) {
        let inner: usize = array.shape.iter().skip(data.axis + 1).product();
        for (place, number) in array.numbers.iter_mut().enumerate() {
            let channel = place / inner.max(1) % data.mean.len();
            *number = (*number - data.mean[channel]) / data.deviation[channel];
        }
    }
    feed
}

fn milliseconds(session: &mut dyn Session, feed: &Feed) -> Result<f64, String> {
    let start = Instant::now();
    session.run(feed)?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

impl Comparison {
    fn add(&mut self, name: &str, old: &Array, new: &Array, probes: &Probes) {
        let finite = old.numbers.iter().filter(|number| number.is_finite());
        let least = if probes.bounded.contains(name) { 1.0 } else { 0.0 };
        let scale = finite.fold(least, |largest: f64, number| largest.max(number.abs()));
        let is_output = !probes.before_last.iter().any(|probe| probe == name);
        for (old, new) in old.numbers.iter().zip(&new.numbers) {
            // where the model gave no number before, there is none to compare with
            let difference = match (old.is_finite(), new.is_finite()) {
                (true, true) => (old - new).abs(),
                (false, _) => 0.0,
                (true, false) => f64::INFINITY,
            };
            if is_output {
                self.largest_difference = self.largest_difference.max(difference);
            }
            if difference > 0.0 && !probes.judged_before.contains(name) {
                self.largest_relative = self.largest_relative.max(difference / scale);
            }
        }
        let row = old.shape.last().copied().unwrap_or(0);
        if row > 1 && is_output {
            for (old, new) in old.numbers.chunks_exact(row).zip(new.numbers.chunks_exact(row)) {
                self.same_largest.0 += usize::from(largest_place(old) == largest_place(new));
                self.same_largest.1 += 1;
            }
        }
    }
}

fn largest_place(numbers: &[f64]) -> Option<usize> {
    (0..numbers.len()).max_by(|a, b| numbers[*a].total_cmp(&numbers[*b]))
}
