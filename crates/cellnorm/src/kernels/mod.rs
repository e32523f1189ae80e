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

use crate::moments::Moments;
use crate::shape::{Cells, Sets};
use pre_activation::PreActivations;

mod activation;
mod add;
mod affine;
mod buffers;
mod coefficients;
mod column_moments;
mod columns;
mod compiled;
mod copy_rates;
mod dispatch;
mod element;
mod fork_join;
mod gradient;
mod lanes;
mod lines;
mod moments;
mod pairs;
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
pub(crate) use compiled::Compiled;
pub use copy_rates::CopyRate;
pub use dispatch::{instruction_set, instruction_sets, on_instruction_set, vectorized};
pub(crate) use element::nearest_bf16;
pub use element::{Element, Real};
pub use gradient::Gradient;
pub(crate) use lines::{LINE, fetch};
pub(crate) use pairs::Pairs;
pub use sums::Sums;
pub(crate) use threads::fill_lines;
pub(crate) use vectors::Lane;

/// How many neighbouring values are added in the computing type before they are merged in f64.
const BLOCK: usize = 4096;
/// How many rows of interleaved cells are.
const CHUNK: usize = 128;

/// The count, mean and M2 of each cell of x.
///
/// # Panics
/// If `x` is not as long as the cells.
///
/// ```
/// use cellnorm::{kernels, shape::Cells};
/// let x = [1.0_f32, 3.0, 10.0, 10.0];
/// let moments = kernels::moments(&x, &Cells::channels_first(1, 2, 2));
/// assert_eq!((moments[0].mean, moments[0].variance()), (2.0, 1.0));
/// assert_eq!((moments[1].mean, moments[1].variance()), (10.0, 0.0));
/// ```
pub fn moments<T: Element>(x: &[T], cells: &Cells) -> Vec<Moments> {
    T::moments(x, cells)
}

/// y = (x − center) · scale + offset with the coefficients of each cell.
///
/// # Panics
/// If the buffers are not as long as the cells, or there are not as many coefficients as cells.
pub fn affine<T: Element>(x_y: Buffers<'_, T>, cells: &Cells, affines: &[Affine]) {
    affine_activated(x_y, cells, affines, Activation::Identity);
}

/// [`affine`], followed by an activation.
///
/// # Panics
/// As [`affine`].
pub fn affine_activated<T: Element>(
    x_y: Buffers<'_, T>,
    cells: &Cells,
    affines: &[Affine],
    activation: Activation,
) {
    T::affine(x_y, cells, affines, activation);
}

/// y = x + other.
///
/// # Panics
/// If they differ in length.
pub fn add<T: Element>(x_y: Buffers<'_, T>, other: &[T]) {
    T::add(x_y, other);
}

/// Σ dy and Σ dy · (x − center) of each cell.
///
/// # Panics
/// If `x` or `dy` is not as long as the cells, or there are not as many centers as cells.
pub fn sums<T: Element>(x: &[T], dy: &[T], cells: &Cells, centers: &[f64]) -> Vec<Sums> {
    T::sums(x, dy, cells, centers)
}

/// dx = a · dy + b · (x − center) + k with the coefficients of each cell.
///
/// # Panics
/// If `x` or the buffers are not as long as the cells, or there are not as many centers or
/// coefficients as cells.
pub fn gradient<T: Element>(
    x: &[T],
    dy_dx: Buffers<'_, T>,
    cells: &Cells,
    centers: &[f64],
    gradients: &[Gradient],
) {
    T::gradient(x, dy_dx, cells, centers, gradients);
}

/// Forward: for each set, the moments of its parts (its cells, or all of them at once where they
/// lie side by side), `table(set, moments, affines)`, and the affine pass. Returns what the tables
/// returned, a set's mean and variance for example.
///
/// # Panics
/// If the buffers are not as long as the cells, or the sets are not of these cells.
///
/// ```
/// use cellnorm::{
///     Moments,
///     kernels::{self, Affine, Buffers},
///     shape::{Cells, Sets},
/// };
/// // layer normalization of 2 samples × 2 channels × 2 positions, without parameters
/// let x = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0];
/// let (cells, sets) = (Cells::channels_first(2, 2, 2), Sets::new(&[0, 0, 1, 1]));
/// let mut y = Vec::new();
/// let statistics = kernels::forward(
///     Buffers::Into(&x, &mut y),
///     &cells,
///     &sets,
///     |_set, moments, affines| {
///         let all = Moments::merge_all(moments);
///         let rstd = 1.0 / (all.variance() + 1e-5).sqrt();
///         affines.fill(Affine { center: all.mean, scale: rstd, offset: 0.0 });
///         (all.mean, all.variance())
///     },
/// );
/// assert_eq!(statistics, [(2.5, 1.25), (5.0, 0.0)]);
/// assert_eq!(y[4..], [0.0; 4]);
/// ```
pub fn forward<T: Element>(
    x_y: Buffers<'_, T>,
    cells: &Cells,
    sets: &Sets,
    table: impl Fn(usize, &[Moments], &mut [Affine]) -> (f64, f64) + Sync,
) -> Vec<(f64, f64)> {
    forward_activated(x_y, cells, sets, Activation::Identity, table)
}

/// [`forward`], followed by an activation: y = act((x − center) · scale + offset).
///
/// # Panics
/// As [`forward`].
pub fn forward_activated<T: Element>(
    x_y: Buffers<'_, T>,
    cells: &Cells,
    sets: &Sets,
    activation: Activation,
    table: impl Fn(usize, &[Moments], &mut [Affine]) -> (f64, f64) + Sync,
) -> Vec<(f64, f64)> {
    T::forward(x_y, cells, sets, activation, &table)
}

/// Backward: for each set, the sums of its cells, `table(set, sums, gradients)`, and the gradient
/// pass. Returns the sums of each cell.
///
/// # Panics
/// If `x` or the buffers are not as long as the cells, the sets are not of these cells, or there
/// are not as many centers as cells.
pub fn backward<T: Element>(
    x: &[T],
    dy_dx: Buffers<'_, T>,
    cells: &Cells,
    sets: &Sets,
    centers: &[f64],
    table: impl Fn(usize, &[Sums], &mut [Gradient]) + Sync,
) -> Vec<Sums> {
    T::backward(x, dy_dx, cells, sets, centers, PreActivations::NONE, &table)
}

/// [`backward`], where the forward pass was [`forward_activated`] with these maps: dy is the
/// gradient after the activation.
///
/// # Panics
/// As [`backward`], or if there are not as many maps as cells.
pub fn backward_activated<T: Element>(
    x: &[T],
    dy_dx: Buffers<'_, T>,
    cells: &Cells,
    sets: &Sets,
    affines: &[Affine],
    activation: Activation,
    table: impl Fn(usize, &[Sums], &mut [Gradient]) + Sync,
) -> Vec<Sums> {
    assert_eq!(affines.len(), cells.count(), "one affine map for each cell");
    let centers: Vec<f64> = affines.iter().map(|affine| affine.center).collect();
    let pre_activations = PreActivations { activation, affines };
    T::backward(x, dy_dx, cells, sets, &centers, pre_activations, &table)
}
