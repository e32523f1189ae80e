//! Reading a data set: its parts on all threads, each merged as soon as it is done.
//!
//! ```text
//! plan   open every file for its header; split it into parts, whose places follow each other
//! run    on each thread, until no part is left: read the next part in blocks, add them up, and
//!        merge the sums with those of all parts; meanwhile the caller's thread reports progress
//!        and saves the statistics now and then
//! ```

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cellnorm::data::Channel;

use crate::error::{Error, text};
use crate::files::{Failure, File, Format, Listing};
use crate::layout::{Channels, Layout, TOO_FAR, add};
use crate::settings::{Alpha, Colour, Settings};
use crate::source::{Block, Source, open, peek};
use crate::state::{Dataset, Statistics};

/// A data set that is about to be read.
pub struct Plan {
    listing: Listing,
    settings: Settings,
    parts: Vec<Part>,
    /// The headers of the files.
    opened: Vec<Opened>,
    failures: Vec<Failure>,
    split: Option<String>,
    /// The layout of the first file that can be read, which all others must have.
    layout: Option<Layout>,
}

/// A file whose header was read.
#[derive(Default)]
struct Opened {
    /// The open file; `None` if there are so many files that each is opened when it is its turn.
    source: Option<Box<dyn Source>>,
    samples: Option<u64>,
    parts: usize,
}

/// The most files that are held open; a system allows some hundreds.
const MOST_OPEN: usize = 64;

/// A part of a file, which one thread reads.
#[derive(Clone)]
struct Part {
    file: usize,
    range: Range<u64>,
    /// The place of the file's first sample in the data set.
    offset: u64,
    /// Its samples that were drawn; all when `None`.
    only: Option<Vec<u64>>,
}

/// Options of a scan.
pub struct ScanOptions<'r> {
    /// How many threads read.
    pub threads: usize,
    /// The parts to read; all when `None`.
    pub shard: Option<Range<u64>>,
    /// Whether the first file that cannot be read ends everything.
    pub strict: bool,
    /// Called a few times a second with the progress.
    pub progress: &'r mut dyn FnMut(&Progress),
    /// Called now and then with the statistics so far, to be saved for an interruption.
    pub keep: &'r mut dyn FnMut(&Statistics) -> Result<(), Error>,
}

/// The progress of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Parts that are done.
    pub done: u64,
    /// Parts there are.
    pub parts: u64,
    /// About how many bytes of the files are read.
    pub bytes: u64,
}

/// The time between two reports of the progress.
const REPORT: Duration = Duration::from_millis(100);

/// The time between two calls of [`ScanOptions::keep`].
const KEEP: Duration = Duration::from_secs(1);

impl Plan {
    /// Reads every file's header, and the first image if the settings depend on it.
    ///
    /// # Errors
    /// If there is no file to read.
    pub fn new(
        listing: Listing,
        mut settings: Settings,
        split: Option<String>,
    ) -> Result<Self, Error> {
        if listing.files.is_empty() {
            let others = match listing.others {
                0 => String::new(),
                others => format!(", only others ({others})"),
            };
            let what =
                format!("no image, IDX, npy, npz, Parquet, CSV or safetensors file found{others}");
            return Err(Error::Nothing { what });
        }
        if settings.colour == Colour::First {
            settings.colour = first_colour(&listing, &settings);
        }
        let layout =
            first(listing.files.iter(), &settings, |block| Layout::new(block, &settings).ok());
        let mut plan = Self {
            layout,
            failures: listing.failures.clone(),
            listing,
            settings,
            parts: Vec::new(),
            opened: Vec::new(),
            split,
        };
        let mut offset = 0_u64;
        for (place, file) in plan.listing.files.iter().enumerate() {
            let ready = open(file, &plan.settings).map_err(|error| match error {
                Error::File { problem, .. } => problem,
                other => other.to_string(),
            });
            let ready = ready.and_then(|source| {
                let ranges = source.parts();
                let places = ranges.last().ok_or("it has no samples")?.end;
                // blocks must start at multiples of their length within the data set, too
                let step = places.checked_next_power_of_two().map(|step| step.min(1 << 16));
                let start = step.and_then(|step| offset.checked_next_multiple_of(step));
                let end =
                    start.and_then(|start| start.checked_add(places)).filter(|end| *end < 1 << 62);
                let (start, end) =
                    start.zip(end).ok_or("it announces more samples than can be counted")?;
                Ok((source, ranges, start, end))
            });
            let (source, ranges, start, end) = match ready {
                Ok(ready) => ready,
                Err(problem) => {
                    plan.failures.push(Failure { name: file.name.clone(), problem });
                    plan.opened.push(Opened::default());
                    continue;
                }
            };
            let (samples, parts) = (source.samples(), ranges.len());
            offset = end;
            plan.parts.extend(ranges.into_iter().map(|range| Part {
                file: place,
                range,
                offset: start,
                only: None,
            }));
            let source = (plan.listing.files.len() <= MOST_OPEN).then_some(source);
            plan.opened.push(Opened { source, samples, parts });
        }
        if let Some((count, seed)) = plan.settings.sample {
            plan.draw(count, seed)?;
        }
        Ok(plan)
    }

    /// Draws samples at random, each with the same chance, and keeps the parts that hold one.
    fn draw(&mut self, count: u64, seed: u64) -> Result<(), Error> {
        let mut starts = Vec::new();
        let mut all = 0_u64;
        for (file, opened) in self.listing.files.iter().zip(&self.opened) {
            starts.push(all);
            all += match (opened.parts, opened.samples) {
                (0, _) => 0,
                (_, Some(samples)) => samples,
                (_, None) => {
                    let problem = "it does not say how many samples it has, so none can be drawn; \
                                   leave out --sample";
                    return Err(Error::file(&file.path, problem));
                }
            };
        }
        let drawn = drawn(all, count, seed);
        self.parts.retain_mut(|part| {
            let start = starts[part.file];
            let range = start + part.range.start..start + part.range.end;
            let only: Vec<u64> = drawn.range(range).map(|sample| sample - start).collect();
            let is_read = !only.is_empty();
            part.only = (only.len() as u64 != part.range.end - part.range.start).then_some(only);
            is_read
        });
        Ok(())
    }

    /// The files of the data set.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// How many parts there are.
    pub fn parts(&self) -> u64 {
        self.parts.len() as u64
    }

    /// The parts of a shard: of `shards` the one with this number, counted from 1.
    pub fn shard(&self, number: u64, shards: u64) -> Range<u64> {
        let bound = |number: u64| {
            (u128::from(self.parts()) * u128::from(number) / u128::from(shards.max(1))) as u64
        };
        bound(number.saturating_sub(1))..bound(number)
    }

    /// Statistics of no part yet.
    pub fn start(&self) -> Statistics {
        let files = self.listing.files.len();
        let dataset = Dataset { files, digest: self.listing.digest(), split: self.split.clone() };
        let mut statistics =
            Statistics::new(dataset, self.settings.clone(), self.parts(), self.layout.clone());
        statistics.failures.clone_from(&self.failures);
        statistics
    }

    /// Reads the parts that are not done yet.
    ///
    /// # Errors
    /// If `keep` fails, the moments of all files together are not finite, or a file cannot be read
    /// and the scan is strict.
    pub fn run(
        &self,
        mut statistics: Statistics,
        options: ScanOptions<'_>,
    ) -> Result<Statistics, Error> {
        let ScanOptions { threads, shard, strict, progress, keep } = options;
        if let (true, Some(failure)) = (strict, self.failures.first()) {
            return Err(Error::file(&failure.name, failure.problem.clone()));
        }
        let range = shard.unwrap_or(0..self.parts());
        let waiting: Vec<u64> =
            range.clone().filter(|part| !self.is_read(*part, &statistics)).collect();
        // parts that failed before are tried again
        let failed = waiting.iter().filter(|part| statistics.is_done(**part));
        let retried: HashSet<&str> = failed.map(|part| self.name(*part)).collect();
        statistics.failures.retain(|failure| {
            self.failures.contains(failure) || !retried.contains(failure.name.as_str())
        });
        let already = (range.end - range.start) - waiting.len() as u64;
        let next = AtomicU64::new(0);
        let (done, bytes, stop) =
            (AtomicU64::new(already), AtomicU64::new(0), AtomicBool::new(false));
        let all = Mutex::new(statistics);
        let lock = || all.lock().unwrap_or_else(PoisonError::into_inner);
        let (caller, working) = (thread::current(), AtomicUsize::new(threads.max(1)));
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(part) = waiting.get(next.fetch_add(1, Ordering::Relaxed) as usize) else {
                    break;
                };
                let read = self.read(*part);
                let mut all = lock();
                if let Err(problem) = read.and_then(|read| all.channels.merge(read).map_err(text)) {
                    all.failures.push(self.failure(*part, problem));
                    stop.fetch_or(strict, Ordering::Relaxed);
                }
                all.mark_done(*part);
                drop(all);
                bytes.fetch_add(self.bytes(*part), Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
            }
            working.fetch_sub(1, Ordering::Release);
            caller.unpark();
        };
        thread::scope(|scope| {
            (0..threads.max(1)).for_each(|_| drop(scope.spawn(work)));
            let mut last = Instant::now();
            while working.load(Ordering::Acquire) > 0 {
                thread::park_timeout(REPORT);
                let [done, bytes] = [&done, &bytes].map(|count| count.load(Ordering::Relaxed));
                progress(&Progress { done, parts: range.end - range.start, bytes });
                if last.elapsed() > KEEP {
                    let now = lock().clone();
                    if let Err(error) = keep(&now) {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                    last = Instant::now();
                }
            }
            Ok(())
        })?;
        let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.failures.sort();
        all.failures.dedup();
        if let (true, Some(failure)) = (strict, all.failures.first()) {
            return Err(Error::file(&failure.name, failure.problem.clone()));
        }
        if !all.channels.total().iter().flatten().all(Channel::is_finite) {
            return Err(Error::Settings { problem: format!("of all files together: {TOO_FAR}") });
        }
        Ok(all)
    }

    /// Whether a part is done, and did not fail.
    fn is_read(&self, part: u64, statistics: &Statistics) -> bool {
        let Part { range, offset, only, .. } = &self.parts[part as usize];
        let first = only.as_ref().and_then(|only| only.first()).unwrap_or(&range.start);
        statistics.is_done(part) && statistics.channels.contains(offset + first)
    }

    fn name(&self, part: u64) -> &str {
        &self.listing.files[self.parts[part as usize].file].name
    }

    fn bytes(&self, part: u64) -> u64 {
        let part = &self.parts[part as usize];
        let file = &self.listing.files[part.file];
        let all = self.opened[part.file].samples.unwrap_or(1).max(1);
        (u128::from(file.bytes) * u128::from((part.range.end - part.range.start).min(all))
            / u128::from(all)) as u64
    }

    fn failure(&self, part: u64, problem: String) -> Failure {
        let name = self.name(part).to_owned();
        let part = &self.parts[part as usize];
        let Range { start, end } = part.range;
        let problem = match self.opened[part.file].parts {
            1 => problem,
            _ => format!("samples {start} to {}: {problem}", end - 1),
        };
        Failure { name, problem }
    }

    /// The channels of a part.
    fn read(&self, part: u64) -> Result<Channels, String> {
        let part = &self.parts[part as usize];
        let mut channels = Channels::default();
        let mut add = |place: u64, block: &Block| {
            add(&mut channels, part.offset + place, block, &self.settings, self.layout.as_ref())
        };
        let mut give = |place: u64, block: &Block| match &part.only {
            None => add(place, block),
            Some(only) => {
                let sample = |at: &u64| Some((*at, block.sample(at.checked_sub(place)?)?));
                only.iter().filter_map(sample).try_for_each(|(at, sample)| add(at, &sample))
            }
        };
        let mut read_from = |source: &dyn Source| match &part.only {
            Some(only) if source.reads_any_range() => {
                only.iter().try_for_each(|sample| source.read(&(*sample..sample + 1), &mut give))
            }
            _ => source.read(&part.range, &mut give),
        };
        // a decoder that panics on a damaged file must not take the other files with it
        let read = catch_unwind(AssertUnwindSafe(|| match &self.opened[part.file].source {
            Some(source) => read_from(&**source),
            None => {
                let file = &self.listing.files[part.file];
                read_from(&*open(file, &self.settings).map_err(text)?)
            }
        }));
        read.unwrap_or_else(|_| Err("its decoder failed; the file is damaged".into()))?;
        if channels.places() == 0 { Err("it has no samples".into()) } else { Ok(channels) }
    }
}

/// The first value that `read` finds in a block, file by file.
fn first<'f, T>(
    mut files: impl Iterator<Item = &'f File>,
    settings: &Settings,
    read: impl Fn(&Block) -> Option<T>,
) -> Option<T> {
    files.find_map(|file| {
        let mut found = None;
        peek(file, settings, |block| {
            found = read(block);
            false
        });
        found
    })
}

/// Grey or colour, as in the first image that can be read.
fn first_colour(listing: &Listing, settings: &Settings) -> Colour {
    let plain = Settings { alpha: Alpha::Ignore, resize: None, crop: None, ..settings.clone() };
    let has_images = |file: &&File| matches!(file.format, Format::Image | Format::Parquet);
    let files = listing.files.iter().filter(has_images);
    let colour = first(files, &plain, |block| match (block.channel_axis, block.shape.last()) {
        (Some(2), Some(1)) => Some(Colour::Grey),
        (Some(2), Some(_)) => Some(Colour::Rgb),
        _ => None,
    });
    colour.unwrap_or(Colour::First)
}

/// `count` of the numbers below `all`, or all of them. Every choice has the same chance: R. Floyd's
/// algorithm (J. Bentley, R. Floyd, 1987).
fn drawn(all: u64, count: u64, seed: u64) -> BTreeSet<u64> {
    let mut state = seed;
    let mut drawn = BTreeSet::new();
    // one of the first n + 1, or the last of them if that was drawn before
    for last in all.saturating_sub(count)..all {
        let one = ((u128::from(split_mix(&mut state)) * u128::from(last + 1)) >> 64) as u64;
        drawn.insert(if drawn.contains(&one) { last } else { one });
    }
    drawn
}

/// SplitMix64 (G. Steele et al., 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
