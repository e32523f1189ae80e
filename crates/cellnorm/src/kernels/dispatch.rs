//! Runs a kernel compiled for the widest vectors of this machine.
//!
//! A kernel is a struct of its inputs with an inlined `run`. Each entry function below compiles
//! that same `run` under its own target features; the machine in use says which of them is called.
//! The compiler never fuses a multiplication and an addition by itself, and a reduction's lanes do
//! not depend on the features, so the choice changes the speed and never the bits.

#[cfg(target_arch = "x86_64")]
use super::vectors::{Avx2, Avx512, Avx512Bf16};
use super::vectors::{Portable, Vectors};
use crate::error::Error;
use crate::machine::{InstructionSet, Machine};

/// Work that is compiled once for each instruction set.
pub(super) trait Kernel {
    type Output;
    /// Whether it gains from instructions for bf16.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "a set of x86-64 asks"))]
    const BF16: bool = false;
    /// Must be `#[inline(always)]`, so that it is inlined into the entry function of each
    /// instruction set. `S` has its vectors.
    fn run<S: Vectors>(self) -> Self::Output;
}

/// Runs the kernel on the instruction set of the machine in use.
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    match Machine::current().instruction_set {
        // SAFETY: a machine in use has no instruction set above what was found here, with all
        // features of `avx512_bf16`.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512Bf16 if K::BF16 => unsafe { avx512_bf16(kernel) },
        // SAFETY: as above, for `avx512`.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 | InstructionSet::Avx512Bf16 => unsafe { avx512(kernel) },
        // SAFETY: as above, for `avx2`.
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => unsafe { avx2(kernel) },
        _ => portable(kernel),
    }
}

#[inline(never)]
fn portable<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Portable>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")]
#[inline(never)]
fn avx512_bf16<K: Kernel>(kernel: K) -> K::Output {
    // the compiler drops this branch for other kernels
    if K::BF16 { kernel.run::<Avx512Bf16>() } else { unreachable!("a kernel without bf16") }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
#[inline(never)]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
#[inline(never)]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// The instruction set that the passes run on: `portable`, `avx2`, `avx512` or `avx512bf16`.
///
/// It is the widest that the machine has, unless the environment variable `CELLNORM_MACHINE` names
/// another (see [`machine`](crate::machine)), or [`on_instruction_set`] is at work. The choice
/// never changes a bit of the results.
pub fn instruction_set() -> &'static str {
    Machine::current().instruction_set.name()
}

/// The instruction sets that this machine has and the passes are compiled for, the widest last.
pub fn instruction_sets() -> Vec<&'static str> {
    available().map(InstructionSet::name).collect()
}

fn available() -> impl Iterator<Item = InstructionSet> {
    let widest = InstructionSet::widest();
    InstructionSet::ALL.into_iter().filter(move |set| *set <= widest)
}

/// Runs `work` with all passes on the instruction set named: [`Machine::run`] on the machine in
/// use, except for that set.
///
/// # Errors
/// If this machine does not have the set, or there is none of this name; `work` is not run then.
///
/// ```
/// use cellnorm::kernels;
/// for set in kernels::instruction_sets() {
///     assert_eq!(kernels::on_instruction_set(set, kernels::instruction_set)?, set);
/// }
/// assert!(kernels::on_instruction_set("sse9", || ()).is_err());
/// # Ok::<(), cellnorm::Error>(())
/// ```
pub fn on_instruction_set<R>(name: &str, work: impl FnOnce() -> R) -> Result<R, Error> {
    let set = available()
        .find(|set| set.name() == name)
        .ok_or_else(|| Error::no_instruction_set(name))?;
    Machine { instruction_set: set, ..*Machine::current() }.run(work)
}

/// Runs `work` compiled for the instruction set chosen. It must be `#[inline(always)]`, and so must
/// be what it calls; what is not keeps the vectors of the portable one.
///
/// ```
/// let x = [1.0_f32; 100];
/// let sum = cellnorm::kernels::vectorized(
///     #[inline(always)]
///     || x.iter().map(|x| f64::from(*x)).sum::<f64>(),
/// );
/// assert_eq!(sum, 100.0);
/// ```
#[inline]
pub fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> Kernel for Work<F> {
        type Output = R;
        #[inline(always)]
        fn run<S: Vectors>(self) -> R {
            (self.0)()
        }
    }
    dispatch(Work(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_is_not_there_is_refused() {
        let error = on_instruction_set("AVX", || unreachable!("the work is not run")).unwrap_err();
        let possible = instruction_sets();
        assert_eq!(possible.first(), Some(&"portable"));
        assert_eq!(possible.last(), Some(&InstructionSet::widest().name()));
        assert!(
            error.to_string().ends_with(&format!("possible: {}", possible.join(", "))),
            "{error}"
        );
    }
}
