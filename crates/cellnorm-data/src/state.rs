//! A file of statistics: what was asked, of which files, how far it got, and every part that cannot
//! be merged further yet.
//!
//! It is JSON. `mean` and `std` come first, for programs that want nothing else. A digest of the
//! rest shows whether somebody changed it.

use std::fs;
use std::io::Write;
use std::path::Path;

use cellnorm::Moments;
use cellnorm::data::{Channel, Floats, Forest, Histogram, Samples, Summary, Values};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::files::{Failure, hex};
use crate::layout::Layout;
use crate::settings::Settings;

/// The version of the format.
const VERSION: u32 = 1;

/// What the statistics are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// How many files the data set has.
    pub files: usize,
    /// What they are called and how large they are, as
    /// [`Listing::digest`](crate::files::Listing::digest) has it.
    pub digest: String,
    /// The split, such as "train" or "test", if it is known.
    pub split: Option<String>,
}

/// Statistics of a data set, or of a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// What they are of.
    pub about: About,
    /// What was asked.
    pub settings: Settings,
    /// How many parts the data set is read in.
    pub parts: u64,
    /// Which of them are done, in order: first and one behind the last.
    pub done: Vec<[u64; 2]>,
    /// What is not among them.
    pub failures: Vec<Failure>,
    /// What all samples have in common; `None` if no file could be read.
    pub layout: Option<Layout>,
    /// The channels, merged as far as they are neighbours.
    pub channels: Forest<Vec<Channel>>,
}

impl Statistics {
    /// Of nothing yet.
    pub fn new(about: About, settings: Settings, parts: u64, layout: Option<Layout>) -> Self {
        let channels = Forest::default();
        Self { about, settings, parts, done: Vec::new(), failures: Vec::new(), layout, channels }
    }

    /// The largest value that the numbers' type can have: 255 and 65,535 for integers, 1 for
    /// floats.
    pub fn full_scale(&self) -> f64 {
        self.layout.as_ref().map_or(1.0, |layout| layout.full_scale)
    }

    /// Whether all parts are done.
    pub fn is_complete(&self) -> bool {
        self.parts == 0 || self.done == [[0, self.parts]]
    }

    /// Whether a part is done.
    pub fn is_done(&self, part: u64) -> bool {
        self.done.iter().any(|[start, end]| (*start..*end).contains(&part))
    }

    /// Notes that a part is done.
    pub fn mark_done(&mut self, part: u64) {
        self.done.push([part, part + 1]);
        self.done = joined(std::mem::take(&mut self.done));
    }

    /// The statistics of each channel; `None` for one without values.
    pub fn summaries(&self) -> Vec<Option<Summary>> {
        self.channels.total().unwrap_or_default().iter().map(Channel::summary).collect()
    }

    /// Mean and deviation of each channel, divided by the numbers' full scale.
    ///
    /// # Errors
    /// If there is no channel, one has no values, or all values of one are equal; the text goes on
    /// from the file's name.
    pub fn pairs(&self) -> Result<(Vec<f64>, Vec<f64>), &'static str> {
        let whole: Option<Vec<Summary>> = self.summaries().into_iter().collect();
        let whole = whole.filter(|all| !all.is_empty()).ok_or("has a channel without values")?;
        if whole.iter().any(Summary::is_constant) {
            return Err(
                "has a channel whose values are all equal: there is no deviation to divide by",
            );
        }
        let full = self.full_scale();
        Ok(whole.iter().map(|one| (one.mean / full, one.deviation / full)).unzip())
    }

    /// Adds those of another part of the same data set.
    ///
    /// # Errors
    /// If they are of other data, were made with other settings, or have a part in common.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        let differs = |what: &str, a: String, b: String| {
            Err(Error::Merge { problem: format!("{what} differ: {a} and {b}") })
        };
        if self.about != other.about || self.parts != other.parts {
            let told = |all: &Self| {
                let About { files, digest, split } = &all.about;
                let split = split.as_deref().unwrap_or("unknown");
                format!("{files} files, {} parts, digest {digest:.12}, split {split}", all.parts)
            };
            return differs("the data sets", told(self), told(&other));
        }
        if self.settings != other.settings {
            let told = |all: &Self| serde_json::to_string(&all.settings).unwrap_or_default();
            return differs("the settings", told(self), told(&other));
        }
        if self.layout != other.layout {
            let told = |all: &Self| all.layout.as_ref().map_or("nothing".into(), Layout::to_string);
            return differs("the samples", told(self), told(&other));
        }
        let mut ranges = [self.done.clone(), other.done].concat();
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0][1] > pair[1][0]) {
            return Err(Error::Merge { problem: format!("part {} is in both", pair[1][0]) });
        }
        self.channels.merge(other.channels)?;
        self.done = joined(ranges);
        self.failures.extend(other.failures);
        self.failures.sort();
        self.failures.dedup();
        Ok(())
    }

    /// Reads a file of statistics.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, was changed, or is of another version.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|problem| Error::file(path, problem))
    }

    /// The statistics that a file's content says.
    ///
    /// # Errors
    /// If it is damaged, was changed, or is of another version.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let version: Versioned = serde_json::from_slice(text)
            .map_err(|error| format!("is no file of statistics: {error}"))?;
        if version.cellnorm_statistics != VERSION {
            return Err(format!(
                "is of version {}; this program reads version {VERSION}",
                version.cellnorm_statistics
            ));
        }
        let stored: Stored = serde_json::from_slice(text)
            .map_err(|error| format!("is a damaged file of statistics: {error}"))?;
        // a fuzzer would get no further
        if !cfg!(fuzzing) && stored.sha256 != stored.digest() {
            return Err("was changed: its content has another digest than it says".into());
        }
        stored.body.statistics()
    }

    /// The content of a file of statistics.
    pub fn to_text(&self) -> String {
        let summaries = self.summaries();
        let each = |of: fn(&Summary) -> f64| {
            summaries
                .iter()
                .map(|summary| summary.map(|summary| of(&summary) / self.full_scale()))
                .collect()
        };
        let mut stored = Stored {
            mean: each(|summary| summary.mean),
            std: each(|summary| summary.deviation),
            cellnorm_statistics: VERSION,
            sha256: String::new(),
            body: Body::of(self),
        };
        stored.sha256 = stored.digest();
        serde_json::to_string(&stored).unwrap_or_default() + "\n"
    }

    /// Writes the file beside its place, then renames it.
    ///
    /// # Errors
    /// If it cannot be written; what was there stays.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let attempt = || {
            let mut file = fs::File::create(&beside)?;
            file.write_all(self.to_text().as_bytes())?;
            // the name must not lead to a file that a crash has left empty
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        attempt().inspect_err(|_| _ = fs::remove_file(&beside)).map_err(failed)
    }
}

/// Ranges in order, those that touch as one.
fn joined(mut ranges: Vec<[u64; 2]>) -> Vec<[u64; 2]> {
    ranges.sort_unstable();
    let mut all: Vec<[u64; 2]> = Vec::new();
    for [start, end] in ranges {
        match all.last_mut() {
            Some(last) if last[1] >= start => last[1] = last[1].max(end),
            _ => all.push([start, end]),
        }
    }
    all
}

#[derive(Deserialize)]
struct Versioned {
    cellnorm_statistics: u32,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Stored {
    mean: Vec<Option<f64>>,
    std: Vec<Option<f64>>,
    cellnorm_statistics: u32,
    sha256: String,
    body: Body,
}

/// What statistics are made of again.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    about: About,
    settings: Settings,
    parts: u64,
    done: Vec<[u64; 2]>,
    failures: Vec<Failure>,
    layout: Option<Layout>,
    nodes: Vec<(u64, u32, Vec<Cell>)>,
}

/// A channel.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cell {
    values: Counted,
    /// Count, mean and M2 of the samples' means, Σ of their variances, Σ of their deviations.
    samples: [f64; 5],
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Counted {
    /// How many values there may be, and each that occurs with its count.
    Integers(usize, Vec<(u16, u64)>),
    /// Count, mean, M2 and what the mean leaves over, the ends if there are any, NaN and infinite
    /// ones.
    Floats([f64; 4], Option<[f64; 2]>, [u64; 2]),
}

impl Stored {
    /// Of all that is not the digest itself.
    fn digest(&self) -> String {
        hex(&Sha256::digest(
            serde_json::to_vec(&(&self.mean, &self.std, &self.body)).unwrap_or_default(),
        ))
    }
}

impl Body {
    fn of(all: &Statistics) -> Self {
        let cell = |channel: &Channel| {
            let Samples { means, variances, deviations } = channel.samples;
            let values = match &channel.values {
                Values::Integers(histogram) => {
                    let counts = histogram
                        .counts()
                        .iter()
                        .zip(0..=u16::MAX)
                        .filter(|(count, _)| **count > 0);
                    Counted::Integers(
                        histogram.counts().len(),
                        counts.map(|(count, value)| (value, *count)).collect(),
                    )
                }
                Values::Floats(floats) => {
                    let Moments { count, mean, m2 } = floats.moments;
                    let ends = (count > 0.0).then_some([floats.min, floats.max]);
                    Counted::Floats(
                        [count, mean, m2, floats.low],
                        ends,
                        [floats.nan, floats.infinite],
                    )
                }
            };
            Cell { values, samples: [means.count, means.mean, means.m2, variances, deviations] }
        };
        let nodes = all.channels.nodes();
        let nodes = nodes
            .map(|(start, level, channels)| (start, level, channels.iter().map(cell).collect()))
            .collect();
        Self {
            about: all.about.clone(),
            settings: all.settings.clone(),
            parts: all.parts,
            done: all.done.clone(),
            failures: all.failures.clone(),
            layout: all.layout.clone(),
            nodes,
        }
    }

    fn statistics(self) -> Result<Statistics, String> {
        let scales = [1.0, 255.0, 65_535.0];
        if let Some(layout) =
            self.layout.as_ref().filter(|layout| !scales.contains(&layout.full_scale))
        {
            return Err(format!("has the full scale {}", layout.full_scale));
        }
        let mut channels = Forest::default();
        let mut counts = Vec::new();
        for (start, level, cells) in self.nodes {
            let parts = cells.into_iter().map(Cell::channel).collect::<Option<Vec<_>>>();
            let parts = parts.ok_or("has numbers that no data set leads to")?;
            let layout =
                self.layout.as_ref().filter(|layout| layout.channels() == Some(parts.len()));
            let is_counted = |part: &Channel| matches!(part.values, Values::Integers(_));
            if !layout
                .is_some_and(|layout| parts.iter().all(|part| is_counted(part) == layout.counted))
            {
                return Err("has other channels than its layout says".into());
            }
            counts.resize(parts.len(), 0_u64);
            for (sum, part) in counts.iter_mut().zip(&parts) {
                if let Values::Integers(histogram) = &part.values {
                    // more values than this are in no data set, and could not be added
                    *sum = sum
                        .checked_add(histogram.count())
                        .filter(|sum| *sum < 1 << 62)
                        .ok_or("has too many values")?;
                }
            }
            channels.insert(start, level, parts).map_err(|error| error.to_string())?;
        }
        let in_order = self.done.windows(2).all(|pair| pair[0][1] < pair[1][0]);
        if !in_order || self.done.iter().any(|[start, end]| start >= end || *end > self.parts) {
            return Err("says in no order which parts are done".into());
        }
        if !channels.nodes().flat_map(|(_, _, channels)| channels).all(Channel::is_finite) {
            return Err("has numbers that no data set leads to".into());
        }
        Ok(Statistics {
            about: self.about,
            settings: self.settings,
            parts: self.parts,
            done: self.done,
            failures: self.failures,
            layout: self.layout,
            channels,
        })
    }
}

impl Cell {
    fn channel(self) -> Option<Channel> {
        let values = match self.values {
            Counted::Integers(length, counts) => {
                if length > 1 << 16 {
                    return None;
                }
                let mut all = vec![0; length];
                for (value, count) in counts {
                    *all.get_mut(usize::from(value))? = count;
                }
                // more than this cannot be summed
                all.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count))?;
                Values::Integers(Histogram::of_counts(all)?)
            }
            Counted::Floats([count, mean, m2, low], ends, [nan, infinite]) => {
                let is_count = count >= 0.0 && count.fract() == 0.0 && m2 >= 0.0;
                let [min, max] = ends.unwrap_or([f64::INFINITY, f64::NEG_INFINITY]);
                if !is_count || ends.is_none() != (count == 0.0) || (count > 0.0 && min > max) {
                    return None;
                }
                Values::Floats(Floats {
                    moments: Moments { count, mean, m2 },
                    low,
                    min,
                    max,
                    nan,
                    infinite,
                })
            }
        };
        let [count, mean, m2, variances, deviations] = self.samples;
        let is_fine = count >= 0.0
            && count.fract() == 0.0
            && m2 >= 0.0
            && variances >= 0.0
            && deviations >= 0.0;
        let samples = Samples { means: Moments { count, mean, m2 }, variances, deviations };
        is_fine.then_some(Channel { values, samples })
    }
}
