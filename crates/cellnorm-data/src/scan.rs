//! Reading a data set: its parts on all threads, each merged as soon as it is done.

use std::collections::HashSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cellnorm::data::Channel;

use crate::counting::{Channels, TOO_FAR, add};
use crate::drawn::drawn;
use crate::error::Error;
use crate::files::{Failure, Listing};
use crate::first::{first, first_colour};
use crate::layout::Layout;
use crate::settings::{Colour, Settings};
use crate::source::{Block, Source, open};
use crate::state::{About, Statistics};

/// A data set that is about to be read.
pub struct Plan {
    listing: Listing,
    settings: Settings,
    parts: Vec<Part>,
    /// What is known of each file.
    opened: Vec<Opened>,
    failures: Vec<Failure>,
    split: Option<String>,
    /// What the samples of the first file that can be read have in common; those of all others must
    /// have it, too.
    layout: Option<Layout>,
}

/// A file whose header was read.
#[derive(Default)]
struct Opened {
    /// Ready to read, unless there are so many files that each is opened when it is its turn.
    source: Option<Box<dyn Source>>,
    samples: Option<u64>,
    parts: usize,
}

/// Files that are held open; a system allows some hundreds.
const HELD: usize = 64;

/// Something that one thread reads.
#[derive(Clone)]
struct Part {
    file: usize,
    range: Range<u64>,
    /// Where the file's places begin among those of the data set.
    offset: u64,
    /// The samples of it that were drawn; all when `None`.
    only: Option<Vec<u64>>,
}

/// How to read.
pub struct Run<'r> {
    /// How many threads read.
    pub threads: usize,
    /// The first part and one behind the last; all when `None`.
    pub shard: Option<Range<u64>>,
    /// Whether the first file that cannot be read ends everything.
    pub strict: bool,
    /// Called a few times a second with how far it is.
    pub progress: &'r mut dyn FnMut(&Progress),
    /// Called now and then with what is there, to be kept for an interruption.
    pub keep: &'r mut dyn FnMut(&Statistics) -> Result<(), Error>,
}

/// How far the reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Parts that are done.
    pub done: u64,
    /// Parts there are.
    pub parts: u64,
    /// Bytes of the files read, about.
    pub bytes: u64,
}

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_millis(100);

/// Between two times that what is there is kept.
const KEEP: Duration = Duration::from_secs(1);

impl Plan {
    /// Looks at every file's header, and at the first image if the settings depend on it.
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
                others => format!(" among the {others} files there"),
            };
            let what =
                format!("no image, IDX, npy, npz, Parquet, CSV or safetensors file found{others}");
            return Err(Error::Nothing { what });
        }
        if settings.colour == Colour::First {
            settings.colour = first_colour(&listing, &settings);
        }
        let layout =
            first(listing.files.iter(), &settings, |block| Layout::of(block, &settings).ok());
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
                // blocks start at multiples of their length within the file, and so they must
                // within the data set
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
            let source = (plan.listing.files.len() <= HELD).then_some(source);
            plan.opened.push(Opened { source, samples, parts });
        }
        if let Some((count, seed)) = plan.settings.sample {
            plan.draw(count, seed)?;
        }
        Ok(plan)
    }

    /// Draws samples at random, each with the same chance, and keeps the parts that have one of
    /// them.
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
            let some = !only.is_empty();
            part.only = (only.len() as u64 != part.range.end - part.range.start).then_some(only);
            some
        });
        Ok(())
    }

    /// The files that are read.
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

    /// Statistics of nothing yet.
    pub fn start(&self) -> Statistics {
        let about = About {
            files: self.listing.files.len(),
            digest: self.listing.digest(),
            split: self.split.clone(),
        };
        let mut statistics =
            Statistics::new(about, self.settings.clone(), self.parts(), self.layout.clone());
        statistics.failures.clone_from(&self.failures);
        statistics
    }

    /// Reads what is not done yet.
    ///
    /// # Errors
    /// If nothing could be read, what is there cannot be kept, or a file cannot be read and that is
    /// to end everything.
    pub fn run(&self, mut statistics: Statistics, run: Run<'_>) -> Result<Statistics, Error> {
        let Run { threads, shard, strict, progress, keep } = run;
        if let (true, Some(failure)) = (strict, self.failures.first()) {
            return Err(Error::file(&failure.name, failure.problem.clone()));
        }
        let range = shard.unwrap_or(0..self.parts());
        let waiting: Vec<u64> =
            range.clone().filter(|part| !self.is_read(*part, &statistics)).collect();
        // what could not be read before is tried again
        let in_vain = waiting.iter().filter(|part| statistics.is_done(**part));
        let again: HashSet<&str> = in_vain.map(|part| self.name(*part)).collect();
        statistics.failures.retain(|failure| {
            self.failures.contains(failure) || !again.contains(failure.name.as_str())
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
                let joined = read
                    .and_then(|found| all.channels.merge(found).map_err(|error| error.to_string()));
                let failed = match joined {
                    Ok(()) => false,
                    Err(problem) => {
                        all.failures.push(self.failure(*part, problem));
                        true
                    }
                };
                all.mark_done(*part);
                drop(all);
                bytes.fetch_add(self.bytes(*part), Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
                if strict && failed {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            working.fetch_sub(1, Ordering::Release);
            caller.unpark();
        };
        let kept = thread::scope(|scope| {
            (0..threads.max(1)).for_each(|_| drop(scope.spawn(work)));
            let mut last = Instant::now();
            while working.load(Ordering::Acquire) > 0 {
                thread::park_timeout(LOOK);
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
        });
        kept?;
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

    /// Whether a part is done, and was not in vain.
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
        let whole = self.opened[part.file].parts == 1;
        let problem = if whole {
            problem
        } else {
            format!("samples {} to {}: {problem}", part.range.start, part.range.end - 1)
        };
        Failure { name, problem }
    }

    /// The channels of a part.
    fn read(&self, part: u64) -> Result<Channels, String> {
        let part = &self.parts[part as usize];
        let mut channels = Channels::default();
        let mut give = |place: u64, block: &Block| match &part.only {
            None => {
                add(&mut channels, part.offset + place, block, &self.settings, self.layout.as_ref())
            }
            Some(only) => {
                let drawn = only
                    .iter()
                    .filter_map(|sample| Some((sample, block.sample(sample.checked_sub(place)?)?)));
                drawn.into_iter().try_for_each(|(sample, one)| {
                    add(
                        &mut channels,
                        part.offset + sample,
                        &one,
                        &self.settings,
                        self.layout.as_ref(),
                    )
                })
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
                read_from(&*open(file, &self.settings).map_err(|error| error.to_string())?)
            }
        }));
        read.unwrap_or_else(|_| Err("its decoder failed; the file is damaged".into()))?;
        if channels.places() == 0 { Err("it has no samples".into()) } else { Ok(channels) }
    }
}
