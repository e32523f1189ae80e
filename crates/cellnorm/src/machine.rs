//! The machine that the passes run on, and the thresholds that follow from it.
//!
//! It is read once, when the first pass runs. Every threshold of the passes that depends on the
//! machine is a method of [`Machine`], a formula over its sizes; none changes a bit of the results.
//!
//! `CELLNORM_MACHINE` overrides any field, so that one machine can take the paths of another:
//!
//! ```sh
//! CELLNORM_MACHINE=l2=2M,l3=260M,instruction_set=avx2 cellnorm --version -v
//! ```
//!
//! Fields are those of [`Machine`]; sizes are in bytes, or in `K`, `M` or `G` of 1024. A field or a
//! value that cannot be used leaves the machine as it was, and a line on stderr says so, once.
//! Within a program, [`Machine::run`] takes another machine for some work.

use std::cell::Cell;
use std::fmt;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::error::Error;

mod caches;

/// The instruction sets that the passes are compiled for, each with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum InstructionSet {
    /// The set that every machine of the target has: SSE2 on x86-64, NEON on AArch64.
    Portable,
    /// AVX2 and F16C of x86-64.
    Avx2,
    /// AVX-512 F, VL, DQ and BW of x86-64.
    Avx512,
    /// The same with AVX-512 BF16.
    Avx512Bf16,
}

impl InstructionSet {
    pub(crate) const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// `portable`, `avx2`, `avx512` or `avx512bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// The widest that this machine has.
    pub(crate) fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw");
            return match (wide, is_x86_feature_detected!("avx512bf16")) {
                (true, true) => Self::Avx512Bf16,
                (true, false) => Self::Avx512,
                _ => Self::Avx2,
            };
        }
        Self::Portable
    }
}

impl Error {
    /// That this machine has no instruction set of this name.
    pub(crate) fn no_instruction_set(given: &str) -> Self {
        let widest = InstructionSet::widest();
        let possible = InstructionSet::ALL.into_iter().filter(|set| *set <= widest);
        let possible = possible.map(InstructionSet::name).collect();
        Self::InstructionSet { given: given.into(), possible }
    }
}

/// The numbers of a machine that the speed of the passes depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// The widest vectors.
    pub instruction_set: InstructionSet,
    /// The cores that this process may use.
    pub cores: usize,
    /// The bytes of a core's first data cache.
    pub l1: usize,
    /// The bytes of the second cache that fall to a core.
    pub l2: usize,
    /// The bytes of the last cache. A virtual machine may own a part of it alone.
    pub l3: usize,
    /// The cores that share the last cache, other virtual machines' too if it is known.
    pub l3_cores: usize,
    /// The bytes of a huge page; 0 where the system grants none.
    pub huge_page: usize,
}

/// The bytes of an element where a threshold is in elements: the passes compute in f32.
const ELEMENT: usize = size_of::<f32>();

/// The thresholds.
impl Machine {
    /// An output of so many bytes is streamed past the caches by a pass that touches `tensors` of
    /// this size: together they fill half of the last caches; but at most sixteen times what the
    /// second caches hold, since others own the rest of a last cache that is far larger.
    pub fn stream_bytes(&self, tensors: usize) -> usize {
        let last = self.l3.saturating_mul((self.cores / self.l3_cores.max(1)).max(1));
        let second = self.l2.saturating_mul(16).saturating_mul(self.cores);
        (last / 2).min(second) / tensors.max(1)
    }

    /// Fewer elements are done by the calling thread alone: source and destination lie in half of
    /// its second cache, and are done before another thread wakes.
    pub fn alone_below(&self) -> usize {
        self.l2 / (4 * ELEMENT)
    }

    /// How many elements a thread takes at a time: an eighth of its share, but at least twice the
    /// first cache, or sharing out costs more than the work, and at most the second cache, beyond
    /// which longer tasks gain nothing.
    pub fn task(&self, elements: usize, threads: usize) -> usize {
        let (least, most) = (self.l1.saturating_mul(2) / ELEMENT, self.l2 / ELEMENT);
        (elements / threads.max(1).saturating_mul(8)).clamp(least.max(1), most.max(least).max(1))
    }

    /// Sets smaller than so many elements are taken together until they are as many: half of the
    /// first cache, so that the second pass finds what the first has read.
    pub fn batch(&self) -> usize {
        self.l1 / (2 * ELEMENT)
    }

    /// Sets whose cells lie apart are taken together until they are so many elements: an eighth of
    /// the second cache. More neighbouring cells are read in one go then.
    pub fn batch_apart(&self) -> usize {
        self.l2 / (8 * ELEMENT)
    }

    /// The next memory is fetched to the first cache up to so many bytes, a quarter of that cache.
    pub fn near_bytes(&self) -> usize {
        self.l1 / 4
    }

    /// The next memory is fetched to the second cache up to so many bytes, half of that cache.
    pub fn fetch_bytes(&self) -> usize {
        self.l2 / 2
    }

    /// Whether so many bytes are fetched to the first cache, or to the second; None for neither.
    pub(crate) fn fetches_near(&self, bytes: usize) -> Option<bool> {
        (bytes <= self.fetch_bytes().max(self.near_bytes())).then(|| bytes <= self.near_bytes())
    }
}

/// A threshold of the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Threshold {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub bytes: usize,
    /// The decision that it makes.
    pub meaning: &'static str,
}

impl Machine {
    /// The thresholds that the passes take from this machine.
    ///
    /// ```
    /// use cellnorm::machine::Machine;
    /// let large = Machine::current().with("l2=2M,l3=260M,cores=2,l3_cores=2").0;
    /// let stream = large.thresholds()[0];
    /// assert_eq!((stream.name, stream.bytes), ("stream", 32 << 20));
    /// ```
    pub fn thresholds(&self) -> Vec<Threshold> {
        let large = self.task(usize::MAX / 2, 1) * ELEMENT;
        let thresholds = [
            (
                "stream",
                self.stream_bytes(2),
                "outputs of at least so much are written past the caches, on x86-64",
            ),
            ("stream dx", self.stream_bytes(3), "gradients of x of so much, too"),
            (
                "alone",
                self.alone_below() * ELEMENT,
                "tensors of less are done by the calling thread alone",
            ),
            (
                "task, least",
                self.task(0, 1) * ELEMENT,
                "a thread takes at least so much of a tensor at a time",
            ),
            ("task, most", large, "and at most so much"),
            ("batch", self.batch() * ELEMENT, "neighbouring sets of less are taken together"),
            ("batch apart", self.batch_apart() * ELEMENT, "and sets whose parts lie apart"),
            (
                "fetch near",
                self.near_bytes(),
                "what comes next is fetched to the first cache up to so much",
            ),
            ("fetch", self.fetch_bytes(), "and to the second cache up to so much"),
        ];
        thresholds.map(|(name, bytes, meaning)| Threshold { name, bytes, meaning }).to_vec()
    }
}

/// The machine in use, with no instruction set above this one's; null before the first pass.
static CURRENT: AtomicPtr<Machine> = AtomicPtr::new(null_mut());

impl Machine {
    /// The machine that the passes run on now.
    #[inline]
    pub fn current() -> &'static Self {
        // SAFETY: what CURRENT points to is a `Machine` that is never freed nor changed.
        unsafe { CURRENT.load(Ordering::Acquire).as_ref() }.unwrap_or_else(Self::decide)
    }

    /// This machine, without `CELLNORM_MACHINE`.
    pub fn this() -> &'static Self {
        static THIS: OnceLock<Machine> = OnceLock::new();
        THIS.get_or_init(|| Self {
            instruction_set: InstructionSet::widest(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            huge_page: huge_page(),
            ..caches::read()
        })
    }

    #[cold]
    fn decide() -> &'static Self {
        static DECIDED: OnceLock<Machine> = OnceLock::new();
        let decided = DECIDED.get_or_init(|| {
            let asked = std::env::var_os("CELLNORM_MACHINE").unwrap_or_default();
            let (machine, notes) = Self::this().with(&asked.to_string_lossy());
            for note in notes {
                eprintln!("cellnorm: CELLNORM_MACHINE: {note}");
            }
            machine
        });
        let pointer = std::ptr::from_ref(decided).cast_mut();
        // whoever set another meanwhile is `run`, and puts back what it found
        let _ = CURRENT.compare_exchange(null_mut(), pointer, Ordering::AcqRel, Ordering::Acquire);
        decided
    }

    /// The same machine with the fields that `text` names, and notes on those that it cannot name.
    ///
    /// ```
    /// use cellnorm::machine::Machine;
    /// let (machine, notes) = Machine::current().with("l2=2M,l4=1G");
    /// assert_eq!(machine.l2, 2 << 20);
    /// assert!(notes[0].starts_with("there is no field \"l4\""));
    /// ```
    pub fn with(&self, text: &str) -> (Self, Vec<String>) {
        let (mut machine, mut notes) = (*self, vec![]);
        for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
            if let Err(note) = machine.set(part) {
                notes.push(note);
            }
        }
        (machine, notes)
    }

    fn set(&mut self, part: &str) -> Result<(), String> {
        let (field, value) = part.split_once('=').unwrap_or((part, ""));
        if field == "instruction_set" {
            self.instruction_set = choose(value, InstructionSet::widest())?;
            return Ok(());
        }
        let Some((_, number)) = self.numbers_mut().into_iter().find(|(name, _)| *name == field)
        else {
            let possible = self.numbers_mut().map(|(name, _)| name).join(", ");
            return Err(format!(
                "there is no field {field:?}; it must be one of instruction_set, {possible}; \
                 ignored"
            ));
        };
        *number =
            size(value).filter(|size| *size > 0 || field == "huge_page").ok_or_else(|| {
                format!(
                    "{field} is {value:?}; it must be a size such as 48K, 2M or 33554432; ignored"
                )
            })?;
        Ok(())
    }

    /// The fields that are numbers, by name.
    pub fn numbers(&self) -> Vec<(&'static str, usize)> {
        let mut machine = *self;
        machine.numbers_mut().map(|(name, number)| (name, *number)).to_vec()
    }

    fn numbers_mut(&mut self) -> [(&'static str, &mut usize); 6] {
        let Self { cores, l1, l2, l3, l3_cores, huge_page, instruction_set: _ } = self;
        [
            ("cores", cores),
            ("l1", l1),
            ("l2", l2),
            ("l3", l3),
            ("l3_cores", l3_cores),
            ("huge_page", huge_page),
        ]
    }

    /// Runs `work` with all passes, on any thread, as on this machine, and then goes back.
    ///
    /// For tests and benchmarks that compare machines within one program: the machine is the whole
    /// program's, so that the threads which a pass calls in have it too. Such calls wait for one
    /// another, and a call inside another's `work` is fine on the same thread; on another thread
    /// which that `work` waits for, it would wait forever. Each call keeps the bytes of one
    /// `Machine` for as long as the program runs.
    ///
    /// # Errors
    /// If the processor lacks `self.instruction_set`; `work` is not run then.
    ///
    /// ```
    /// use cellnorm::machine::Machine;
    /// let mut small = *Machine::current();
    /// small.l3 = 1 << 20;
    /// assert_eq!(small.run(|| Machine::current().l3)?, 1 << 20);
    /// # Ok::<(), cellnorm::Error>(())
    /// ```
    pub fn run<R>(self, work: impl FnOnce() -> R) -> Result<R, Error> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        thread_local!(static HELD: Cell<bool> = const { Cell::new(false) });

        if self.instruction_set > InstructionSet::widest() {
            return Err(Error::no_instruction_set(self.instruction_set.name()));
        }
        /// Puts back what was chosen and held before, even when `work` panics; then the lock goes.
        struct Restore(&'static Machine, bool);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.store(std::ptr::from_ref(self.0).cast_mut(), Ordering::Release);
                HELD.set(self.1);
            }
        }
        let outermost = !HELD.replace(true);
        let _lock = outermost.then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
        let _restore = Restore(Self::current(), !outermost);
        // leaked: a pass on another thread may still look at it when this call returns
        CURRENT.store(Box::leak(Box::new(self)), Ordering::Release);
        Ok(work())
    }
}

impl fmt::Display for Machine {
    /// As `CELLNORM_MACHINE` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction_set={}", self.instruction_set.name())?;
        self.numbers().iter().try_for_each(|(name, number)| write!(f, ",{name}={}", Size(*number)))
    }
}

/// A number of bytes, or of cores, as `CELLNORM_MACHINE` takes it: 33554432 is `32M`.
pub struct Size(pub usize);

const UNITS: [(char, usize); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The inverse of [`Size`].
fn size(text: &str) -> Option<usize> {
    let unit = UNITS.iter().find(|(name, _)| text.ends_with(*name));
    let (digits, unit) = unit.map_or((text, 1), |(_, unit)| (&text[..text.len() - 1], *unit));
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// The instruction set that `asked` names, or what to tell the user where the processor lacks it.
fn choose(asked: &str, widest: InstructionSet) -> Result<InstructionSet, String> {
    match InstructionSet::ALL.into_iter().find(|set| set.name() == asked) {
        Some(set) if set <= widest => Ok(set),
        Some(_) => Err(format!(
            "instruction_set is {asked}, but this processor has {} at most; ignored",
            widest.name()
        )),
        None => {
            let possible = InstructionSet::ALL.map(InstructionSet::name).join(", ");
            Err(format!("instruction_set is {asked:?}; it must be one of {possible}; ignored"))
        }
    }
}

/// The bytes of a huge page where memory that asks is granted one; the usual size if nothing says.
fn huge_page() -> usize {
    const USUAL: usize = 2 << 20;
    let setting =
        |name: &str| std::fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{name}"));
    if !cfg!(target_os = "linux")
        || setting("enabled").is_ok_and(|enabled| enabled.contains("[never]"))
    {
        return 0;
    }
    setting("hpage_pmd_size").ok().and_then(|size| size.trim().parse().ok()).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use super::InstructionSet::{Avx2, Avx512};
    use super::*;

    #[test]
    fn only_what_the_processor_has_is_chosen() {
        for widest in InstructionSet::ALL {
            for set in InstructionSet::ALL {
                let chosen = choose(set.name(), widest);
                assert_eq!(chosen.is_ok(), set <= widest);
                assert!(chosen.is_err() || chosen == Ok(set));
            }
        }
        assert_eq!(
            choose("avx512", Avx2).unwrap_err(),
            "instruction_set is avx512, but this processor has avx2 at most; ignored"
        );
        assert_eq!(
            choose("AVX", Avx512).unwrap_err(),
            "instruction_set is \"AVX\"; it must be one of portable, avx2, avx512, avx512bf16; \
             ignored"
        );
    }

    #[test]
    fn fields_are_overridden_by_name() {
        let this = *Machine::this();
        let (machine, notes) = this.with("l2=2M, l3=260M cores=3,huge_page=0,l1=49152");
        assert_eq!(notes, [""; 0]);
        let expected =
            Machine { l1: 48 << 10, l2: 2 << 20, l3: 260 << 20, cores: 3, huge_page: 0, ..this };
        assert_eq!(machine, expected);
        assert_eq!(this.with(&machine.to_string()), (machine, vec![]));
        let (same, notes) = this.with("l2=2MB,l4=1M,l1=0,cores,instruction_set=sse9");
        assert_eq!(same, this);
        assert_eq!(notes.len(), 5);
        let size = "l2 is \"2MB\"; it must be a size such as 48K, 2M or 33554432; ignored";
        assert_eq!(notes[0], size);
        let known = "there is no field \"l4\"; it must be one of instruction_set, cores, l1";
        assert!(notes[1].starts_with(known), "{}", notes[1]);
    }

    #[test]
    fn a_machine_is_held_and_given_back() {
        let before = *Machine::this();
        let other =
            Machine { instruction_set: InstructionSet::Portable, l2: before.l2 + 4096, ..before };
        // within one call, since other tests take other machines
        let seen = before.run(|| {
            let seen = other.run(|| {
                let elsewhere = std::thread::spawn(|| *Machine::current()).join().unwrap();
                let inner = before.run(|| *Machine::current()).unwrap();
                (*Machine::current(), elsewhere, inner)
            });
            let panics = std::panic::catch_unwind(|| other.run(|| panic!("of the work")));
            assert!(panics.is_err());
            assert_eq!(*Machine::current(), before);
            seen
        });
        assert_eq!(seen.unwrap().unwrap(), (other, other, before));
        // and the lock is free for another thread
        let elsewhere =
            std::thread::spawn(move || other.run(|| *Machine::current())).join().unwrap();
        assert_eq!(elsewhere.unwrap(), other);
    }

    #[test]
    fn a_task_lies_between_the_caches() {
        let mut machine = *Machine::this();
        (machine.l1, machine.l2) = (32 << 10, 1 << 20);
        assert_eq!(machine.task(0, 2), 16 << 10);
        assert_eq!(machine.task(1 << 20, 2), 64 << 10);
        assert_eq!(machine.task(1 << 30, 2), 256 << 10);
        // numbers that no machine has give thresholds all the same
        let odd = Machine { cores: 0, l1: 0, l2: 0, l3: usize::MAX, l3_cores: 0, ..machine };
        assert_eq!((odd.task(1 << 20, 0), odd.stream_bytes(2)), (1, 0));
        // a machine whose second cache is no larger than the first has tasks all the same
        (machine.l1, machine.l2) = (64 << 10, 64 << 10);
        assert_eq!(machine.task(1 << 30, 2), 32 << 10);
    }
}
