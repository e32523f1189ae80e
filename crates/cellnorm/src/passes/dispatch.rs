//! Runs a kernel compiled for the widest vectors of this machine.
//!
//! A kernel is a struct of its inputs with an inlined `run`. Each entry function below compiles that same `run` under its own
//! target features, and the choice between them is made when the program first runs a kernel. The features never include fused
//! multiply-add, and a reduction's lanes do not depend on them, so the choice changes the speed and never the bits.
//!
//! The environment variable `CELLNORM_ISA` holds the choice down, to compare speeds or to look for a fault: `portable`, `avx2`
//! or `avx512`. What the machine does not have or the library does not know is said on stderr, once, and not used.

use std::sync::OnceLock;

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

    fn chosen() -> Self {
        static CHOSEN: OnceLock<InstructionSet> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let asked = std::env::var_os("CELLNORM_ISA").unwrap_or_default();
            let (set, note) = Self::choose(&asked.to_string_lossy(), Self::widest());
            if let Some(note) = note {
                eprintln!("cellnorm: {note}");
            }
            set
        })
    }
}

/// The instruction set that the passes run on: `portable`, `avx2` or `avx512`.
///
/// It is the widest that the machine has, unless the environment variable `CELLNORM_ISA` names another. The choice is made once
/// and never changes a bit of the results.
pub fn instruction_set() -> &'static str {
    InstructionSet::chosen().name()
}

/// Runs the kernel on the instruction set chosen.
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match InstructionSet::chosen() {
        // SAFETY: `chosen` is at most what was found on this machine, with all features that `avx512` enables.
        #[cfg(target_arch = "x86_64")]
        Avx512 => unsafe { avx512(kernel) },
        // SAFETY: as above, for `avx2`.
        #[cfg(target_arch = "x86_64")]
        Avx2 => unsafe { avx2(kernel) },
        _ => kernel.run(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
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
}
