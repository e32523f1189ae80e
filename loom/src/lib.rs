//! The library's own `passes/crew.rs`, with loom's threads and atomics in place of those that
//! `passes/sync.rs` names.

#[path = "../../crates/cellnorm/src/passes/crew.rs"]
mod crew;

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

    /// So many that every call for help is made.
    pub(crate) fn current_num_threads() -> usize {
        1 << 10
    }
}

/// `passes::crew::together`.
pub fn together(others: usize, work: &(dyn Fn() + Sync)) {
    crew::together(others, work);
}
