//! Runs a kernel compiled for the widest vectors of this machine.
//!
//! A kernel is a struct of its inputs with an inlined `run`. Each entry function below compiles that same `run` under its own
//! target features, and the choice between them is made when the program first runs a kernel. The features never include fused
//! multiply-add, and a reduction's lanes do not depend on them, so the choice changes the speed and never the bits.
//!
//! The environment variable `CELLNORM_ISA` holds the choice down, to compare speeds or to look for a fault: `portable`, `avx2`
//! or `avx512`. What the machine does not have or the library does not know is said on stderr, once, and not used. Within a
//! program, [`on_instruction_set`] holds it down for a while.

use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;

/// Work that is compiled once for each instruction set.
pub(super) trait Kernel {
    type Output;
    /// Must be `#[inline(always)]`, so that it melts into the entry function of each instruction set.
    fn run(self) -> Self::Output;
}

/// The instruction sets that kernels are compiled for, each with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum InstructionSet {
    /// What every machine of the target has: SSE2 on x86-64, NEON on AArch64.
    Portable,
    Avx2,
    Avx512,
}

use InstructionSet::{Avx2, Avx512, Portable};

impl InstructionSet {
    const ALL: [Self; 3] = [Portable, Avx2, Avx512];

    fn name(self) -> &'static str {
        match self {
            Portable => "portable",
            Avx2 => "avx2",
            Avx512 => "avx512",
        }
    }

    /// The widest that this machine has.
    fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq");
            return if wide { Avx512 } else { Avx2 };
        }
        Portable
    }

    /// What `asked` names, but never more than `widest`; and what to tell the user where that is something else.
    fn choose(asked: &str, widest: Self) -> (Self, Option<String>) {
        let using = widest.name();
        match Self::ALL.into_iter().find(|set| set.name() == asked) {
            Some(set) if set <= widest => (set, None),
            Some(_) => {
                (widest, Some(format!("CELLNORM_ISA is {asked}, but this machine has {using} at most; using {using}")))
            }
            None if asked.is_empty() => (widest, None),
            None => {
                let possible = Self::ALL.map(Self::name).join(", ");
                (widest, Some(format!("CELLNORM_ISA is {asked}; it must be one of {possible}; using {using}")))
            }
        }
    }

    /// Those that this machine has, the widest last.
    fn available() -> impl Iterator<Item = Self> {
        let widest = Self::widest();
        Self::ALL.into_iter().filter(move |set| *set <= widest)
    }

    /// The one that kernels run on now.
    #[inline]
    fn chosen() -> Self {
        // relaxed: whichever thread sees the number of a set, the machine has that set, and every set gives the same bits
        match CHOSEN.load(Ordering::Relaxed) {
            UNDECIDED => Self::decide(),
            number => Self::ALL[usize::from(number)],
        }
    }

    #[cold]
    fn decide() -> Self {
        let asked = std::env::var_os("CELLNORM_ISA").unwrap_or_default();
        let (set, note) = Self::choose(&asked.to_string_lossy(), Self::widest());
        let decided = CHOSEN.compare_exchange(UNDECIDED, set as u8, Ordering::Relaxed, Ordering::Relaxed);
        match (decided, note) {
            (Err(number), _) => return Self::ALL[usize::from(number)],
            (Ok(_), Some(note)) => eprintln!("cellnorm: {note}"),
            (Ok(_), None) => {}
        }
        set
    }
}

const UNDECIDED: u8 = u8::MAX;

/// The index in `ALL` of the set that kernels run on, never above what this machine has; or `UNDECIDED`.
static CHOSEN: AtomicU8 = AtomicU8::new(UNDECIDED);

/// The instruction set that the passes run on: `portable`, `avx2` or `avx512`.
///
/// It is the widest that the machine has, unless the environment variable `CELLNORM_ISA` names another when the first pass runs,
/// or [`on_instruction_set`] is at work. The choice never changes a bit of the results.
pub fn instruction_set() -> &'static str {
    InstructionSet::chosen().name()
}

/// The instruction sets that this machine has and the passes are compiled for, the widest last.
pub fn instruction_sets() -> Vec<&'static str> {
    InstructionSet::available().map(InstructionSet::name).collect()
}

/// Runs `work` with all passes, on whichever thread, on the instruction set named, and then goes back to the one before.
///
/// For tests and benchmarks that compare instruction sets within one program: the set is the whole program's, so that the
/// threads which a pass calls in have it too. Such calls wait for one another, and a call inside another's `work` is fine on the
/// same thread; on another thread which that `work` waits for, it would wait forever.
///
/// # Errors
/// If this machine does not have the set, or there is none of this name; `work` is not run then.
///
/// ```
/// use cellnorm::passes;
/// for set in passes::instruction_sets() {
///     assert_eq!(passes::on_instruction_set(set, passes::instruction_set)?, set);
/// }
/// assert!(passes::on_instruction_set("sse9", || ()).is_err());
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn on_instruction_set<R>(name: &str, work: impl FnOnce() -> R) -> Result<R, Error> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    thread_local!(static HELD: Cell<bool> = const { Cell::new(false) });

    let Some(set) = InstructionSet::available().find(|set| set.name() == name) else {
        return Err(Error::InstructionSet { given: name.into(), possible: instruction_sets() });
    };
    /// Puts back, even when `work` panics, what was chosen and held before; the lock goes after it.
    struct Restore(InstructionSet, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHOSEN.store(self.0 as u8, Ordering::Relaxed);
            HELD.set(self.1);
        }
    }
    let outermost = !HELD.replace(true);
    let _lock = outermost.then(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    let _restore = Restore(InstructionSet::chosen(), !outermost);
    CHOSEN.store(set as u8, Ordering::Relaxed);
    Ok(work())
}

/// Runs the kernel on the instruction set chosen.
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match InstructionSet::chosen() {
        // SAFETY: `CHOSEN` is at most what was found on this machine, with all features that `avx512` enables.
        #[cfg(target_arch = "x86_64")]
        Avx512 => unsafe { avx512(kernel) },
        // SAFETY: as above, for `avx2`.
        #[cfg(target_arch = "x86_64")]
        Avx2 => unsafe { avx2(kernel) },
        _ => kernel.run(),
    }
}

/// Runs `work` compiled for the instruction set chosen. It must be `#[inline(always)]`, and so must be what it calls; what is not
/// keeps the vectors of the portable one.
///
/// ```
/// let x = [1.0_f32; 100];
/// let sum = cellnorm::passes::vectorized(#[inline(always)] || x.iter().map(|x| f64::from(*x)).sum::<f64>());
/// assert_eq!(sum, 100.0);
/// ```
#[inline]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> Kernel for Work<F> {
        type Output = R;
        #[inline(always)]
        fn run(self) -> R {
            (self.0)()
        }
    }
    dispatch(Work(work))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
#[inline(never)]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline(never)]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_machine_has_is_chosen() {
        for widest in InstructionSet::ALL {
            assert_eq!(InstructionSet::choose("", widest), (widest, None));
            for set in InstructionSet::ALL {
                let (chosen, note) = InstructionSet::choose(set.name(), widest);
                assert_eq!((chosen, note.is_none()), (set.min(widest), set <= widest));
            }
        }
        let note = |asked, widest| InstructionSet::choose(asked, widest).1.unwrap();
        assert_eq!(note("avx512", Avx2), "CELLNORM_ISA is avx512, but this machine has avx2 at most; using avx2");
        assert_eq!(note("AVX", Avx512), "CELLNORM_ISA is AVX; it must be one of portable, avx2, avx512; using avx512");
    }

    #[test]
    fn a_set_is_held_and_given_back() {
        let before = instruction_set();
        let seen = on_instruction_set("portable", || {
            let elsewhere = std::thread::spawn(instruction_set).join().unwrap();
            let inner = on_instruction_set(before, instruction_set).unwrap();
            (instruction_set(), elsewhere, inner)
        });
        assert_eq!(seen, Ok(("portable", "portable", before)));
        let panics = std::panic::catch_unwind(|| on_instruction_set("portable", || panic!("of the work")));
        assert!(panics.is_err());
        assert_eq!(instruction_set(), before);
        // and the lock is free for another thread
        let other = std::thread::spawn(|| on_instruction_set("portable", instruction_set)).join().unwrap();
        assert_eq!(other, Ok("portable"));
    }

    #[test]
    fn a_set_that_is_not_there_is_refused() {
        let error = on_instruction_set("AVX", || unreachable!("the work is not run")).unwrap_err();
        let possible = instruction_sets();
        assert_eq!(possible.first(), Some(&"portable"));
        assert_eq!(possible.last(), Some(&InstructionSet::widest().name()));
        assert!(error.to_string().ends_with(&format!("possible: {}", possible.join(", "))), "{error}");
    }
}
