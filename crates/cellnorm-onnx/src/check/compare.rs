//! The whole model before and after: the difference of the results, the place of the largest, and
//! the time.
//!
//! A network that ends in a sigmoid or a softmax answers 0 or 1 to most random inputs whatever its
//! layers do; before that last operator the difference shows, so the values there are compared
//! besides the outputs.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Array, Feed, Runtime, Session};
use crate::fold::FoldedData;
use crate::proto::{Float, Model};

/// The values of a model that are compared, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Values before the last operator, by name.
    pub before_last: Vec<String>,
    /// Outputs that are judged by the value before them: a softmax of numbers near 10¹⁹ turns a
    /// difference in the last digit into one between 0 and 1.
    pub judged_before: BTreeSet<String>,
    /// Other outputs between −1 and 1: 1 is their scale, however small the numbers happen to be.
    pub bounded: BTreeSet<String>,
}

/// The values to compare of a model before and after, which both have.
pub fn probes(before: &Model<'_>, after: &Model<'_>) -> Probes {
    let mut probes = Probes::default();
    let graph = &before.graph;
    for output in graph.values.iter().filter(|value| value.output) {
        let Some(node) = output.producer.map(|node| &graph.nodes[node]) else { continue };
        let bounded = matches!(node.op, "Sigmoid" | "HardSigmoid" | "Softmax" | "Tanh");
        let is_last = bounded || matches!(node.op, "LogSoftmax" | "ArgMax" | "Clip" | "Erf");
        if !node.domain.is_empty() || !is_last {
            continue;
        }
        let Some(value) = node.input(0).map(|value| &graph.values[value]) else { continue };
        let same = after.graph.find(&value.name).map(|id| &after.graph.values[id]);
        if value.producer.is_some() && same.is_some_and(|same| same.producer.is_some()) {
            if !value.output {
                probes.before_last.push(value.name.to_string());
            }
            probes.judged_before.insert(output.name.to_string());
        } else if bounded {
            probes.bounded.insert(output.name.to_string());
        }
    }
    probes
}

/// The comparison of two models.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// The runtime that ran them.
    pub runtime: String,
    /// The number of inputs they were run on.
    pub runs: usize,
    /// The largest difference of an output.
    pub largest_difference: f64,
    /// The largest difference, as a share of the largest number of the same output. Where the model
    /// ends in a sigmoid, softmax, log-softmax, tanh, clip, erf or argmax, it is that of the value
    /// before.
    pub largest_relative: f64,
    /// How many numbers of the outputs are infinite or NaN in the model before: nothing can be
    /// compared with these.
    pub not_finite_before: usize,
    /// How many rows of the outputs have their largest number at the same place, and how many rows
    /// there are.
    pub same_largest: (usize, usize),
    /// The median time of a run before, in milliseconds.
    pub before_ms: f64,
    /// The median time of a run after.
    pub after_ms: f64,
}

/// The difference that rounding explains, as a share of the output: 64 units of the weights' type,
/// times the root of one more than the number of layers whose numbers changed.
pub fn default_tolerance(float: Float, layers: usize) -> f64 {
    64.0 * float.unit() * ((layers + 1) as f64).sqrt()
}

/// Runs of each model that are timed, however long they take.
const LEAST_TIMED: usize = 5;

/// A model before and after, and the inputs that both are run on.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'p> {
    /// The model before.
    pub before: &'p Path,
    /// The model after.
    pub after: &'p Path,
    /// The values that are compared besides the outputs.
    pub probes: &'p Probes,
    /// The normalization of the data that became part of the model after.
    pub data: Option<&'p FoldedData>,
    /// Inputs that must run.
    pub given: &'p [Feed],
    /// Other inputs, ignored where the model does not take them.
    pub random: &'p [Feed],
}

/// Runs two models on the same inputs, then in turns on the first of these for about `timed`, at
/// least five times each. Where a normalization of the data became part of the second, the first
/// gets normalized inputs.
///
/// # Errors
/// If the model before cannot be loaded, or cannot be run on a given input or on any random one; in
/// the runtime's words. If only the model after fails, the difference is infinite.
pub fn compare(
    runtime: &dyn Runtime,
    pair: Pair<'_>,
    timed: Duration,
) -> Result<Comparison, String> {
    let Pair { before, after, probes, data, given, random } = pair;
    let mut old_session = runtime.load(before, &probes.before_last)?;
    let mut comparison = Comparison { runtime: runtime.name(), ..Comparison::default() };
    let apart = Comparison {
        largest_relative: f64::INFINITY,
        largest_difference: f64::INFINITY,
        ..comparison.clone()
    };
    let Ok(mut new_session) = runtime.load(after, &probes.before_last) else { return Ok(apart) };
    let (mut first, mut problem) = (None, "there is nothing to run it on".to_owned());
    for (index, feed) in given.iter().chain(random).enumerate() {
        let old_feed = data.map_or_else(|| feed.clone(), |data| normalized(feed, data));
        let old = match old_session.run(&old_feed) {
            Ok(old) => old,
            Err(error) if index < given.len() => return Err(error),
            // a length that the model leaves open is not always free
            Err(error) => {
                problem = error;
                continue;
            }
        };
        let Ok(new) = new_session.run(feed) else { return Ok(apart) };
        let mut outputs = old.iter().zip(&new);
        if old.len() != new.len() || outputs.any(|((_, old), (_, new))| old.shape != new.shape) {
            return Ok(apart);
        }
        for ((name, old), (_, new)) in old.iter().zip(&new) {
            comparison.add(name, old, new, probes);
        }
        comparison.runs += 1;
        first.get_or_insert((old_feed, feed));
    }
    let (old_feed, new_feed) = first.ok_or(problem)?;
    let (mut old_times, mut new_times) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while old_times.len() < LEAST_TIMED || start.elapsed() < timed {
        old_times.push(milliseconds(old_session.as_mut(), &old_feed)?);
        new_times.push(milliseconds(new_session.as_mut(), new_feed)?);
    }
    [comparison.before_ms, comparison.after_ms] = [old_times, new_times].map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(0.0)
    });
    Ok(comparison)
}

/// Inputs after the normalization of the data: (x − mean)/deviation for each channel.
fn normalized(feed: &Feed, data: &FoldedData) -> Feed {
    let mut feed = feed.clone();
    data.map(&mut feed, |x, mean, deviation| (x - mean) / deviation);
    feed
}

impl FoldedData {
    /// The distance of the data from 0, in deviations.
    pub(super) fn distance(&self) -> f64 {
        let distances = self.mean.iter().zip(&self.deviation).map(|(mean, d)| (mean / d).abs());
        distances.fold(0.0, f64::max)
    }

    /// Takes normal numbers to where the data lie: mean + deviation · x, in the type of the input.
    pub(super) fn place(&self, feed: &mut Feed) {
        self.map(feed, |x, mean, deviation| mean + deviation * x);
        for (_, array) in feed.iter_mut().filter(|(name, _)| *name == self.input) {
            if let Some(float) = Float::from_onnx(array.element) {
                array.numbers.iter_mut().for_each(|number| *number = float.round(*number));
            }
        }
    }

    /// Maps the numbers of the input, given the mean and the deviation of their channel.
    fn map(&self, feed: &mut Feed, to: impl Fn(f64, f64, f64) -> f64) {
        for (_, array) in feed.iter_mut().filter(|(name, _)| *name == self.input) {
            let inner: usize = array.shape.iter().skip(self.axis + 1).product();
            for (place, number) in array.numbers.iter_mut().enumerate() {
                let channel = place / inner.max(1) % self.mean.len();
                *number = to(*number, self.mean[channel], self.deviation[channel]);
            }
        }
    }
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
            // a number that was not finite before has no difference
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
