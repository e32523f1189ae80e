//! Passes over memory. They know cells and sets, but no normalization.
//!
//! | pass | reads | gives |
//! |---|---|---|
//! | [`moments`] | x | count, mean, M2 of each cell |
//! | [`affine`] | x | y = (x − center) · scale + offset |
//! | [`sums`] | x, dy | Σ dy and Σ dy · (x − center) of each cell |
//! | [`gradient`] | x, dy | dx = a · dy + b · (x − center) + k |
//!
//! [`forward`] is moments, a table, affine; [`backward`] is sums, a table, gradient: they finish
//! one set after another, so that the second pass reads from the cache. A new normalization is a
//! closure for each table. [`rows`] holds the second shape, where the affine parameters vary inside
//! the set.
//!
//! All of them give the same bits on any number of threads and any instruction set: reductions run
//! over 16 lanes in blocks cut by the shape alone and are merged in index order in f64.

mod activation;
mod add;
mod affine;
mod buffers;
mod coefficients;
mod column_moments;
mod columns;
mod copy_rates;
mod dispatch;
mod element;
mod fork_join;
mod gradient;
mod lanes;
mod lines;
mod moments;
mod pairs;
mod passes;
mod pre_activation;
pub mod rows;
mod segments;
mod span;
mod sums;
mod sweep;
mod threads;
mod vectors;

/// The locks of `fork_join`. `loom/` compiles it with loom's in their place, to try every
/// interleaving.
mod sync {
    pub(super) use std::sync::Mutex;
    pub(super) use std::sync::atomic::AtomicUsize;
    pub(super) use std::{hint, thread};

    pub(super) use rayon::{current_num_threads, spawn};
}

pub use activation::{Activation, Parameters};
pub use affine::Affine;
pub use buffers::Buffers;
pub use copy_rates::CopyRate;
pub use dispatch::{instruction_set, instruction_sets, on_instruction_set, vectorized};
pub(crate) use element::nearest_bf16;
pub use element::{Element, Real};
pub use gradient::Gradient;
pub(crate) use lines::{LINE, fetch};
pub(crate) use pairs::Pairs;
pub(crate) use passes::Compiled;
pub use passes::{
    BackwardTable, ForwardTable, add, affine, backward, backward_activated, forward, gradient,
    moments, sums,
};
pub use sums::Sums;
pub(crate) use threads::fill_lines;
pub(crate) use vectors::Lane;

/// How many neighbouring values are added in the computing type before they are merged in f64.
const BLOCK: usize = 4096;
/// How many rows of interleaved cells are.
const CHUNK: usize = 128;
