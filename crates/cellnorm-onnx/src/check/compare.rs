//! The whole model before and after: how far the results are apart, whether the largest is the
//! same, and how long it took.

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
    /// The largest difference, as a share of the largest number of the same output. Where a
    /// sigmoid, a softmax, a logarithm of one, tanh, clipping or the place of the largest ends the
    /// model, it is that of the value before.
    pub largest_relative: f64,
    /// How many numbers of the outputs are infinite or NaN in the model before: with these nothing
    /// can be compared.
    pub not_finite_before: usize,
    /// How many rows of the outputs have their largest number at the same place, of how many.
    pub same_largest: (usize, usize),
    /// The median time of a run before, in milliseconds.
    pub before_ms: f64,
    /// The median time of a run after.
    pub after_ms: f64,
}

/// The difference that rounding explains: 64 units of the weights' type for a layer, as a share of
/// the output, growing with the square root of the number of layers whose numbers changed.
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

/// What two models are run on.
#[derive(Clone, Debug, Default)]
pub struct Feeds {
    /// Inputs that must run.
    pub given: Vec<Feed>,
    /// Others, of which those count that the model takes.
    pub random: Vec<Feed>,
}

/// An input of the model after, and what the model before gets instead.
struct Before<'f> {
    feed: Feed,
    after: &'f Feed,
}

/// Runs two models on the same inputs, then in turns on the first of these for about `timed`, at
/// least five times each. Where a normalization of the data became part of the second, the first
/// gets normalized inputs.
///
/// # Errors
/// If the model before cannot be loaded, or cannot be run on a given input or on any random one; in
/// the runtime's words. What only the model after cannot do is no error but the largest difference
/// there is.
pub fn compare(
    runtime: &dyn Runtime,
    pair: Pair<'_>,
    feeds: &Feeds,
    timed: Duration,
) -> Result<Comparison, String> {
    let Pair { before, after, probes, data } = pair;
    let old = runtime.load(before, &probes.before_last)?;
    let mut comparison = Comparison {
        runtime: runtime.name(),
        runs: 0,
        largest_difference: 0.0,
        largest_relative: 0.0,
        not_finite_before: 0,
        same_largest: (0, 0),
        before_ms: 0.0,
        after_ms: 0.0,
    };
    let apart = Comparison {
        largest_relative: f64::INFINITY,
        largest_difference: f64::INFINITY,
        ..comparison.clone()
    };
    let Ok(new) = runtime.load(after, &probes.before_last) else { return Ok(apart) };
    let mut sessions = [old, new];
    let [old, new] = &mut sessions;
    let (mut first, mut problem) = (None, "there is nothing to run it on".to_owned());
    let given = feeds.given.iter().map(|feed| (feed, true));
    for (feed, is_given) in given.chain(feeds.random.iter().map(|feed| (feed, false))) {
        let before = Before {
            feed: data.map_or_else(|| feed.clone(), |data| normalized(feed, data)),
            after: feed,
        };
        let old = match old.run(&before.feed) {
            Ok(old) => old,
            Err(error) if is_given => return Err(error),
            // a length that the model leaves open is not always free
            Err(error) => {
                problem = error;
                continue;
            }
        };
        let Ok(new) = new.run(before.after) else { return Ok(apart) };
        if old.len() != new.len()
            || old.iter().zip(&new).any(|((_, old), (_, new))| old.shape != new.shape)
        {
            return Ok(apart);
        }
        for ((name, old), (_, new)) in old.iter().zip(&new) {
            comparison.add(name, old, new, probes);
        }
        comparison.runs += 1;
        first.get_or_insert(before);
    }
    let before = first.ok_or(problem)?;
    let mut spent = [Vec::new(), Vec::new()];
    let start = Instant::now();
    while spent[0].len() < LEAST_TIMED || start.elapsed() < timed {
        for ((session, feed), spent) in
            sessions.iter_mut().zip([&before.feed, before.after]).zip(&mut spent)
        {
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
        if is_output {
            self.not_finite_before +=
                old.numbers.iter().filter(|number| !number.is_finite()).count();
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
