//! Reading a data set: its parts on all threads, each merged as soon as it is done.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cellnorm::data::{Channel, Forest, Grid, Values};

use crate::error::Error;
use crate::files::{Failure, Kind, Listing};
use crate::settings::{Colour, Per, Settings};
use crate::source::{Block, Numbers, Source, open};
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

/// The most channels whose integers are counted one by one.
const COUNTED: usize = 1 << 12;

impl Plan {
    /// Looks at every file's header, and at the first image if the settings depend on it.
    ///
    /// # Errors
    /// If there is no file to read.
    pub fn new(listing: Listing, mut settings: Settings, split: Option<String>) -> Result<Self, Error> {
        if listing.files.is_empty() {
            let others = match listing.others {
                0 => String::new(),
                others => format!(" among the {others} files there"),
            };
            let what = format!("no image, IDX, npy, npz, Parquet, CSV or safetensors file found{others}");
            return Err(Error::Nothing { what });
        }
        if settings.colour == Colour::First {
            settings.colour = first_colour(&listing, &settings);
        }
        let mut plan = Self {
            failures: listing.failures.clone(),
            listing,
            settings,
            parts: Vec::new(),
            opened: Vec::new(),
            split,
        };
        let mut offset = 0_u64;
        for (place, file) in plan.listing.files.iter().enumerate() {
            let source = match open(file, &plan.settings) {
                Ok(source) => source,
                Err(error) => {
                    let problem = match error {
                        Error::File { problem, .. } => problem,
                        other => other.to_string(),
                    };
                    plan.failures.push(Failure { name: file.name.clone(), problem });
                    plan.opened.push(Opened::default());
                    continue;
                }
            };
            let ranges = source.parts();
            let (samples, parts) = (source.samples(), ranges.len());
            // blocks start at multiples of their length within the file, and so they must within the data set
            let places = ranges.last().map_or(0, |range| range.end);
            let start = offset.next_multiple_of(places.next_power_of_two().min(1 << 16));
            offset = start + places;
            plan.parts.extend(ranges.into_iter().map(|range| Part { file: place, range, offset: start }));
            let source = (plan.listing.files.len() <= HELD).then_some(source);
            plan.opened.push(Opened { source, samples, parts });
        }
        if let Some((count, seed)) = plan.settings.sample {
            plan.draw(count, seed);
        }
        Ok(plan)
    }

    /// Keeps parts drawn at random until they have as many places as samples are wanted.
    fn draw(&mut self, count: u64, seed: u64) {
        let mut state = seed;
        let mut keyed: Vec<(u64, Part)> = self.parts.drain(..).map(|part| (split_mix(&mut state), part)).collect();
        keyed.sort_by_key(|(key, _)| *key);
        let mut places = 0;
        let enough = keyed.iter().position(|(_, part)| {
            let before = places;
            places += part.range.end - part.range.start;
            before >= count
        });
        keyed.truncate(enough.unwrap_or(keyed.len()));
        self.parts = keyed.into_iter().map(|(_, part)| part).collect();
        self.parts.sort_by_key(|part| part.offset + part.range.start);
    }

    /// How many parts there are.
    pub fn parts(&self) -> u64 {
        self.parts.len() as u64
    }

    /// The parts of a shard: of `shards` the one with this number, counted from 1.
    pub fn shard(&self, number: u64, shards: u64) -> Range<u64> {
        let bound = |number: u64| (u128::from(self.parts()) * u128::from(number) / u128::from(shards.max(1))) as u64;
        bound(number.saturating_sub(1))..bound(number)
    }

    /// Statistics of nothing yet.
    pub fn start(&self) -> Statistics {
        let about = About { files: self.listing.files.len(), digest: self.listing.digest(), split: self.split.clone() };
        let mut statistics = Statistics::new(about, self.settings.clone(), self.parts());
        statistics.failures.clone_from(&self.failures);
        statistics
    }

    /// Reads what is not done yet.
    ///
    /// # Errors
    /// If nothing could be read, what is there cannot be kept, or a file cannot be read and that is to end everything.
    pub fn run(&self, statistics: Statistics, run: Run<'_>) -> Result<Statistics, Error> {
        let Run { threads, shard, strict, progress, keep } = run;
        if let (true, Some(failure)) = (strict, self.failures.first()) {
            return Err(Error::file(&failure.name, failure.problem.clone()));
        }
        let range = shard.unwrap_or(0..self.parts());
        let waiting: Vec<u64> = range.clone().filter(|part| !statistics.is_done(*part)).collect();
        let already = (range.end - range.start) - waiting.len() as u64;
        let next = AtomicU64::new(0);
        let (done, bytes, stop) = (AtomicU64::new(already), AtomicU64::new(0), AtomicBool::new(false));
        let all = Mutex::new(statistics);
        let lock = || all.lock().unwrap_or_else(PoisonError::into_inner);
        let (caller, working) = (thread::current(), AtomicUsize::new(threads.max(1)));
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(part) = waiting.get(next.fetch_add(1, Ordering::Relaxed) as usize) else { break };
                let read = self.read(*part);
                let mut all = lock();
                let failed = match read.and_then(|found| join(&mut all, found)) {
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
        Ok(all)
    }

    fn bytes(&self, part: u64) -> u64 {
        let part = &self.parts[part as usize];
        let file = &self.listing.files[part.file];
        let all = self.opened[part.file].samples.unwrap_or(1).max(1);
        (u128::from(file.bytes) * u128::from((part.range.end - part.range.start).min(all)) / u128::from(all)) as u64
    }

    fn failure(&self, part: u64, problem: String) -> Failure {
        let part = &self.parts[part as usize];
        let name = self.listing.files[part.file].name.clone();
        let whole = self.opened[part.file].parts == 1;
        let problem =
            if whole { problem } else { format!("samples {} to {}: {problem}", part.range.start, part.range.end - 1) };
        Failure { name, problem }
    }

    /// The channels of a part.
    fn read(&self, part: u64) -> Result<Found, String> {
        let part = &self.parts[part as usize];
        let file = &self.listing.files[part.file];
        let mut found = Found { channels: Forest::default(), full_scale: None };
        let mut give = |place: u64, block: &Block| found.add(part.offset + place, block, &self.settings);
        // a decoder that panics on a damaged file must not take the other files with it
        let read = catch_unwind(AssertUnwindSafe(|| match &self.opened[part.file].source {
            Some(source) => source.read(&part.range, &mut give),
            None => open(file, &self.settings).map_err(|error| error.to_string())?.read(&part.range, &mut give),
        }));
        read.unwrap_or_else(|_| Err("its decoder failed; the file is damaged".into()))?;
        Ok(found)
    }
}

/// What was found in a part.
struct Found {
    channels: Forest<Vec<Channel>>,
    full_scale: Option<f64>,
}

impl Found {
    fn add(&mut self, place: u64, block: &Block, settings: &Settings) -> Result<(), String> {
        let text = |error: cellnorm::Error| error.to_string();
        let grid = Grid::new(&block.shape, &kept(block, settings)?).map_err(text)?;
        let samples = block.numbers.len().checked_div(grid.length()).unwrap_or(0) as u64;
        if !samples.is_power_of_two() {
            return Err("a block is no power of two of samples".into());
        }
        let valid = valid(block, settings);
        let valid = valid.as_deref();
        let counted = grid.channels() <= COUNTED;
        let channels = match &block.numbers {
            Numbers::U8(all) if counted => grid.integers(all, valid),
            Numbers::U16(all) if counted => grid.integers(all, valid),
            Numbers::U8(_) | Numbers::U16(_) => grid.floats(&block.numbers.to_f64(), valid),
            Numbers::F32(all) => grid.floats(all, valid),
            Numbers::F64(all) => grid.floats(all, valid),
        };
        self.full_scale = Some(block.numbers.full_scale());
        self.channels.insert(place, samples.ilog2(), channels.map_err(text)?).map_err(text)
    }
}

/// Which values count.
fn valid(block: &Block, settings: &Settings) -> Option<Vec<bool>> {
    let Some(ignored) = settings.ignore else { return block.valid.clone() };
    let values = block.numbers.to_f64();
    let seen = |place: usize| block.valid.as_ref().is_none_or(|valid| valid[place]);
    let valid: Vec<bool> = values.iter().enumerate().map(|(place, value)| *value != ignored && seen(place)).collect();
    (!valid.iter().all(|valid| *valid)).then_some(valid)
}

/// The axes of a sample that are kept.
fn kept(block: &Block, settings: &Settings) -> Result<Vec<usize>, String> {
    let rank = block.shape.len();
    let below = |axis: usize| match axis {
        0 => Err("axis 0 is that of the samples, which are always taken together".to_owned()),
        axis if axis > rank => Err(format!("axis {axis} does not exist in samples of shape {:?}", block.shape)),
        axis => Ok(axis - 1),
    };
    match (&settings.per, settings.channel_axis, block.channel_axis) {
        (Per::All, ..) => Ok(Vec::new()),
        (Per::Place, ..) => Ok((0..rank).collect()),
        (Per::Axes(axes), ..) => axes.iter().map(|axis| below(*axis)).collect(),
        (Per::Channel, Some(axis), _) => Ok(vec![below(axis)?]),
        (Per::Channel, None, Some(axis)) => Ok(vec![axis]),
        (Per::Channel, None, None) => match block.shape[..] {
            // one number, or a picture without colours
            [] | [_, _] => Ok(Vec::new()),
            [_] => Ok(vec![0]),
            [first, .., last] if first <= 4 && last > 4 => Ok(vec![0]),
            [first, .., last] if last <= 4 && first > 4 => Ok(vec![rank - 1]),
            _ => Err(format!(
                "samples of shape {:?} may have their channels on axis 1 or {rank}; say which with --channel-axis",
                block.shape
            )),
        },
    }
}

/// Merges what was found in a part, unless it is of another kind than what is there.
fn join(all: &mut Statistics, found: Found) -> Result<(), String> {
    let Some(full_scale) = found.full_scale else { return Ok(()) };
    let kind = |channels: &[Channel]| {
        let counted = channels.iter().any(|channel| matches!(channel.values, Values::Integers(_)));
        (channels.len(), counted)
    };
    let (here, there) = (found.channels.nodes().next(), all.channels.nodes().next());
    if let (Some((_, _, here)), Some((_, _, there))) = (here, there) {
        let (a, b) = ((kind(here), full_scale), (kind(there), all.full_scale));
        if a != b {
            let told = |((channels, _), scale): ((usize, bool), f64)| match scale {
                1.0 => format!("{channels} channels of floats"),
                scale => format!("{channels} channels of integers up to {scale}"),
            };
            return Err(format!("it has {}, and what was read before has {}", told(a), told(b)));
        }
    }
    all.full_scale = full_scale;
    all.channels.merge(found.channels).map_err(|error| error.to_string())
}

/// Grey or colour, as the first image that can be read has it.
fn first_colour(listing: &Listing, settings: &Settings) -> Colour {
    let as_it_is = Settings { alpha: crate::settings::Alpha::Ignore, resize: None, crop: None, ..settings.clone() };
    for file in listing.files.iter().filter(|file| file.kind == Kind::Image) {
        let mut channels = None;
        let read = open(file, &as_it_is).map_err(|error| error.to_string()).and_then(|source| {
            source.read(&(0..1), &mut |_, block| {
                channels = block.shape.last().copied();
                Ok(())
            })
        });
        match (read, channels) {
            (Ok(()), Some(1)) => return Colour::Grey,
            (Ok(()), Some(_)) => return Colour::Rgb,
            _ => {}
        }
    }
    Colour::First
}

/// SplitMix64 (G. Steele et al., 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
