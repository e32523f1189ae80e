//! A file of statistics: the settings, the data set, the parts that are done, and their channels,
//! merged where parts are neighbours.
//!
//! It is JSON. `mean` and `std` come first, for programs that need nothing else. A digest of the
//! rest shows whether somebody changed it.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::Path;

use cellnorm::Moments;
use cellnorm::data::{Channel, Floats, Forest, Histogram, Samples, Summary, Values};
use cellnorm::ranks::{Communicator, exchange_bytes};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, text};
use crate::files::{Failure, hex};
use crate::{layout::Layout, settings::Settings};

/// The version of the format.
const VERSION: u32 = 1;

/// What ranks exchange, which all must agree on.
const REQUEST: &str = concat!("statistics of data of version ", env!("CARGO_PKG_VERSION"));

/// A data set that statistics are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// How many files it has.
    pub files: usize,
    /// The digest of their names and sizes, [`Listing::digest`](crate::files::Listing::digest).
    pub digest: String,
    /// The split, such as "train" or "test", if it is known.
    pub split: Option<String>,
}

/// Statistics of a data set, or of a part of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The data set.
    pub dataset: Dataset,
    /// The settings of the scan.
    pub settings: Settings,
    /// How many parts the data set is read in.
    pub parts: u64,
    /// The ranges of parts that are done, in order: the first part, and one after the last.
    pub done: Vec<[u64; 2]>,
    /// The files, or parts of files, that could not be read.
    pub failures: Vec<Failure>,
    /// The layout of all samples; `None` if no file could be read.
    pub layout: Option<Layout>,
    /// The channels of all parts, merged where parts are neighbours.
    pub channels: Forest<Vec<Channel>>,
}

impl Statistics {
    /// Statistics of no part yet.
    pub fn new(dataset: Dataset, settings: Settings, parts: u64, layout: Option<Layout>) -> Self {
        let (done, failures, channels) = (Vec::new(), Vec::new(), Forest::default());
        Self { dataset, settings, parts, done, failures, layout, channels }
    }

    /// [`Layout::full_scale`]; 1 if no file could be read.
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
    /// If there is no channel, one has no values, or all values of one are equal; the text follows
    /// the file's name.
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

    /// Adds the statistics of other parts of the same data set.
    ///
    /// # Errors
    /// If the data or the settings differ, or a part is in both.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        let differ = |things: &str, words: fn(&Self) -> String| {
            let problem = format!("{things} differ: {} and {}", words(self), words(&other));
            Err(Error::Merge { problem })
        };
        if self.dataset != other.dataset || self.parts != other.parts {
            return differ("the data sets", |all| {
                let Dataset { files, digest, split } = &all.dataset;
                let split = split.as_deref().unwrap_or("unknown");
                format!("{files} files, {} parts, digest {digest:.12}, split {split}", all.parts)
            });
        }
        if self.settings != other.settings {
            return differ("the settings", |all| {
                serde_json::to_string(&all.settings).unwrap_or_default()
            });
        }
        if self.layout != other.layout {
            return differ("the samples", |all| {
                all.layout.as_ref().map_or("nothing".into(), Layout::to_string)
            });
        }
        let mut ranges = [self.done.clone(), other.done].concat();
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0][1] > pair[1][0]) {
            return Err(Error::Merge {
                problem: format!("the part with index {} is in both", pair[1][0]),
            });
        }
        self.channels.merge(other.channels)?;
        self.done = joined(ranges);
        self.failures.extend(other.failures);
        self.failures.sort();
        self.failures.dedup();
        Ok(())
    }

    /// The statistics of all ranks together, the same on each, and to the bit those of one process
    /// that reads everything. If a rank could not read its part, all ranks get an error.
    ///
    /// # Errors
    /// Same errors as [`exchange_bytes`], also if the parts do not belong together.
    ///
    /// ```
    /// use cellnorm::ranks::{Communicator, Threads};
    /// use cellnorm_data::scan::{Plan, ScanOptions};
    /// use cellnorm_data::{Error, apply::Normalization, files};
    /// use cellnorm_data::{settings::Settings, state::Statistics};
    ///
    /// let rank = |over: Threads| {
    ///     let listing = files::list(&["tests/fixtures/features.csv".into()])?;
    ///     let plan = Plan::new(listing, Settings::default(), None)?;
    ///     let shard = Some(plan.shard(over.rank() as u64 + 1, over.size() as u64));
    ///     let options = ScanOptions {
    ///         threads: 1,
    ///         shard,
    ///         strict: true,
    ///         progress: &mut |_| {},
    ///         keep: &mut |_| Ok(()),
    ///     };
    ///     let statistics = Statistics::gather(plan.run(plan.start(), options), &over)?;
    ///     assert!(statistics.is_complete());
    ///     Normalization::from_statistics(&statistics) // the same on every rank
    /// };
    /// std::thread::scope(|scope| {
    ///     let ranks: Vec<_> = Threads::split(2)
    ///         .into_iter()
    ///         .map(|over| scope.spawn(move || rank(over)))
    ///         .collect();
    ///     ranks.into_iter().try_for_each(|rank| rank.join().unwrap().map(drop))
    /// })?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn gather<E>(own: Result<Self, E>, ranks: &dyn Communicator) -> Result<Self, E>
    where
        E: From<cellnorm::Error> + From<Error> + Display,
    {
        if ranks.size() == 1 {
            return own;
        }
        let texts = exchange_bytes(ranks, REQUEST, own.map(|own| own.to_text().into_bytes()))?;
        let mut all: Option<Self> = None;
        for (rank, content) in texts.iter().enumerate() {
            let failed = |problem| Error::Rank { rank, problem };
            let part = Self::parse(content).map_err(failed)?;
            match &mut all {
                Some(all) => all.merge(part).map_err(|error| failed(text(error)))?,
                None => all = Some(part),
            }
        }
        Ok(all.expect("there is a rank"))
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

    /// The statistics in a file's content.
    ///
    /// # Errors
    /// If it is damaged, was changed, or is of another version.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let version: Versioned = serde_json::from_slice(text)
            .map_err(|error| format!("is no file of statistics: {error}"))?;
        let version = version.cellnorm_statistics;
        if version != VERSION {
            return Err(format!("is of version {version}; this program reads version {VERSION}"));
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
        let full = self.full_scale();
        let each = |number: fn(&Summary) -> f64| {
            summaries.iter().map(|summary| Some(number(summary.as_ref()?) / full)).collect()
        };
        let mut stored = Stored {
            mean: each(|summary| summary.mean),
            std: each(|summary| summary.deviation),
            cellnorm_statistics: VERSION,
            sha256: String::new(),
            body: Body::new(self),
        };
        stored.sha256 = stored.digest();
        serde_json::to_string(&stored).unwrap_or_default() + "\n"
    }

    /// Writes the file beside its place, then renames it.
    ///
    /// # Errors
    /// If it cannot be written; the file that was there stays.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        write_beside(path, |draft| {
            let write = || {
                let mut file = fs::File::create(draft)?;
                file.write_all(self.to_text().as_bytes())?;
                // the name must not lead to a file that a crash has left empty
                file.sync_all()
            };
            write().map_err(|source| Error::Write { path: path.to_owned(), source })
        })
    }
}

/// Writes a file beside its place with `write`, then renames it. After an error no draft is left.
pub(crate) fn write_beside<T>(
    path: &Path,
    write: impl FnOnce(&Path) -> Result<T, Error>,
) -> Result<T, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let renamed = |written| {
        fs::rename(&draft, path)
            .map_err(|source| Error::Write { path: path.to_owned(), source })?;
        Ok(written)
    };
    write(&draft).and_then(renamed).inspect_err(|_| _ = fs::remove_file(&draft))
}

/// Ranges in order; neighbours are joined.
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

/// The content of statistics.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(rename = "about")]
    dataset: Dataset,
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
    values: CellValues,
    /// Count, mean and M2 of the samples' means, Σ of their variances, Σ of their deviations.
    samples: [f64; 5],
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CellValues {
    /// How many values there may be, and each value that occurs with its count.
    Integers(usize, Vec<(u16, u64)>),
    /// Count, mean, M2 and the low part of the mean; the smallest and the largest if there are any;
    /// how many are NaN and infinite.
    Floats([f64; 4], Option<[f64; 2]>, [u64; 2]),
}

impl Stored {
    /// The digest of all fields except the digest itself.
    fn digest(&self) -> String {
        let content = serde_json::to_vec(&(&self.mean, &self.std, &self.body));
        hex(&Sha256::digest(content.unwrap_or_default()))
    }
}

impl Body {
    fn new(all: &Statistics) -> Self {
        let cell = |channel: &Channel| {
            let Samples { means, variances, deviations } = channel.samples;
            let values = match &channel.values {
                Values::Integers(histogram) => {
                    let counts = (0..=u16::MAX).zip(histogram.counts().iter().copied());
                    let counts = counts.filter(|(_, count)| *count > 0).collect();
                    CellValues::Integers(histogram.counts().len(), counts)
                }
                Values::Floats(floats) => {
                    let Moments { count, mean, m2 } = floats.moments;
                    let ends = (count > 0.0).then_some([floats.min, floats.max]);
                    let others = [floats.nan, floats.infinite];
                    CellValues::Floats([count, mean, m2, floats.low], ends, others)
                }
            };
            Cell { values, samples: [means.count, means.mean, means.m2, variances, deviations] }
        };
        let nodes = all
            .channels
            .nodes()
            .map(|(start, level, channels)| (start, level, channels.iter().map(cell).collect()));
        let nodes = nodes.collect();
        Self {
            dataset: all.dataset.clone(),
            settings: all.settings.clone(),
            parts: all.parts,
            done: all.done.clone(),
            failures: all.failures.clone(),
            layout: all.layout.clone(),
            nodes,
        }
    }

    fn statistics(self) -> Result<Statistics, String> {
        let Self { dataset, settings, parts, done, failures, layout, nodes } = self;
        let full_scale = layout.as_ref().map_or(1.0, |layout| layout.full_scale);
        if ![1.0, 255.0, 65_535.0].contains(&full_scale) {
            return Err(format!("has the full scale {full_scale}"));
        }
        let mut channels = Forest::default();
        let mut counts = Vec::new();
        for (start, level, cells) in nodes {
            let node = cells.into_iter().map(Cell::channel).collect::<Option<Vec<_>>>();
            let node = node.ok_or("has numbers that no data set leads to")?;
            let is_counted = |channel: &Channel| matches!(channel.values, Values::Integers(_));
            let fits = layout.as_ref().is_some_and(|layout| {
                layout.channels() == Some(node.len())
                    && node.iter().all(|channel| is_counted(channel) == layout.counted)
            });
            if !fits {
                return Err("has other channels than its layout says".into());
            }
            counts.resize(node.len(), 0_u64);
            for (sum, channel) in counts.iter_mut().zip(&node) {
                if let Values::Integers(histogram) = &channel.values {
                    // no data set has more values than this, and they could not be added
                    let total = sum.checked_add(histogram.count());
                    *sum = total.filter(|sum| *sum < 1 << 62).ok_or("has too many values")?;
                }
            }
            channels.insert(start, level, node).map_err(text)?;
        }
        let in_order = done.windows(2).all(|pair| pair[0][1] < pair[1][0]);
        if !in_order || done.iter().any(|[start, end]| start >= end || *end > parts) {
            return Err("says in no order which parts are done".into());
        }
        if !channels.nodes().flat_map(|(_, _, channels)| channels).all(Channel::is_finite) {
            return Err("has numbers that no data set leads to".into());
        }
        Ok(Statistics { dataset, settings, parts, done, failures, layout, channels })
    }
}

impl Cell {
    fn channel(self) -> Option<Channel> {
        let values = match self.values {
            CellValues::Integers(length, counts) => {
                if length > 1 << 16 {
                    return None;
                }
                let mut all = vec![0; length];
                for (value, count) in counts {
                    *all.get_mut(usize::from(value))? = count;
                }
                // counts that overflow cannot be summed
                all.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count))?;
                Values::Integers(Histogram::of_counts(all)?)
            }
            CellValues::Floats([count, mean, m2, low], ends, [nan, infinite]) => {
                let moments = moments(count, mean, m2)?;
                let [min, max] = ends.unwrap_or([f64::INFINITY, f64::NEG_INFINITY]);
                if ends.is_none() != (count == 0.0) || (count > 0.0 && min > max) {
                    return None;
                }
                Values::Floats(Floats { moments, low, min, max, nan, infinite })
            }
        };
        let [count, mean, m2, variances, deviations] = self.samples;
        let samples = Samples { means: moments(count, mean, m2)?, variances, deviations };
        (variances >= 0.0 && deviations >= 0.0).then_some(Channel { values, samples })
    }
}

/// Moments of a whole number of values.
fn moments(count: f64, mean: f64, m2: f64) -> Option<Moments> {
    let is_fine = count >= 0.0 && count.fract() == 0.0 && m2 >= 0.0;
    is_fine.then_some(Moments { count, mean, m2 })
}
