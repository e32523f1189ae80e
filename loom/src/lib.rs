//! The library's own `kernels/fork_join.rs`, with loom's threads and atomics in place of those that
//! `kernels::sync` names.

#[path = "../../crates/cellnorm/src/kernels/fork_join.rs"]
mod fork_join;

mod sync {
    pub(crate) use loom::hint;
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::AtomicUsize;

    pub(crate) mod thread {
        pub(crate) use loom::thread::yield_now;

        pub(crate) fn sleep(_: std::time::Duration) {
            yield_now();
        }
    }

    pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) {
        loom::thread::spawn(work);
    }

    /// So many that every job is spawned.
    pub(crate) fn current_num_threads() -> usize {
        1 << 10
    }
}

/// `kernels::fork_join::run`.
pub fn run(others: usize, work: &(dyn Fn() + Sync)) {
    fork_join::run(others, work);
}
