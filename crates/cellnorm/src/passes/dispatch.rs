//! Runs a kernel compiled for the widest vectors of this machine.
//!
//! A kernel is a struct of its inputs with an inlined `run`. Each entry function below compiles that same `run` under its own
//! target features, and the choice between them is made when the program runs. The features never include fused
//! multiply-add, and a reduction's lanes do not depend on them, so the choice changes the speed and never the bits.

/// Work that is compiled once for each instruction set.
pub(super) trait Kernel {
    type Output;
    /// Must be `#[inline(always)]`, so that it melts into the entry function of each instruction set.
    fn run(self) -> Self::Output;
}

/// Runs the kernel with AVX-512 or AVX2 where the machine has them; elsewhere with what every machine of the target has
/// (SSE2 on x86-64, NEON on AArch64).
#[inline]
pub(super) fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
        {
            // SAFETY: the three features that `avx512` enables were found on this machine.
            return unsafe { avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature that `avx2` enables was found on this machine.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run()
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
