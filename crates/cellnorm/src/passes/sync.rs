//! How the threads of a crew meet and wait. `loom/` compiles `crew.rs` with loom's in their place,
//! to try every interleaving.

pub(super) use std::sync::Mutex;
pub(super) use std::sync::atomic::AtomicUsize;
pub(super) use std::{hint, thread};

pub(super) use rayon::{current_num_threads, spawn};
