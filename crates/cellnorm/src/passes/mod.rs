//! The passes over memory. They know cells and sets, and no normalization.
//!
//! | pass | reads | gives |
//! |---|---|---|
//! | [`moments`] | x | count, mean, M2 of each cell |
//! | [`affine`] | x | y = (x − center) · scale + offset |
//! | [`sums`] | x, dy | Σ dy and Σ dy · (x − center) of each cell |
//! | [`gradient`] | x, dy | dx = a · dy + b · (x − center) + k |
//!
//! [`forward`] is moments, a table, affine; [`backward`] is sums, a table, gradient: they finish one set after another, so that
//! the second pass reads from the cache. A new normalization is a closure for each table. [`rows`] holds the second shape,
//! where the affine parameters vary inside the set.
//!
//! All of them give the same bits on any number of threads and any instruction set: reductions run over 16 lanes in blocks cut
//! by the shape alone and are merged in index order in f64.

use crate::cells::{Cells, Sets};
use crate::element::Element;
use crate::moments::Moments;

mod activation;
mod add;
mod affine;
mod buffers;
mod column_moments;
mod columns;
mod dispatch;
mod gradient;
mod lanes;
mod moments;
mod parameters;
pub mod rows;
mod span;
mod sums;
mod sweep;
mod threads;
mod through;

pub use activation::Activation;
pub use affine::Affine;
pub use buffers::Buffers;
pub use dispatch::{instruction_set, instruction_sets, on_instruction_set};
pub use gradient::Gradient;
pub use parameters::Parameters;
pub use sums::Sums;
pub(crate) use threads::fill_lines;

use affine::AffinePass;
use buffers::{Shared, Source};
use gradient::GradientPass;
use moments::MomentsPass;
use sums::SumsPass;
use through::Through;

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
/// use cellnorm::{Cells, passes};
/// let x = [1.0_f32, 3.0, 10.0, 10.0];
/// let moments = passes::moments(&x, &Cells::channels_first(1, 2, 2));
/// assert_eq!((moments[0].mean, moments[0].variance()), (2.0, 1.0));
/// assert_eq!((moments[1].mean, moments[1].variance()), (10.0, 0.0));
/// ```
pub fn moments<T: Element>(x: &[T], cells: &Cells) -> Vec<Moments> {
    check(x.len(), cells);
    sweep::reduce_all(&MomentsPass(Source::new(x)), cells)
}

/// y = (x − center) · scale + offset with the coefficients of each cell.
///
/// # Panics
/// If the buffers are not as long as the cells, or there are not as many coefficients as cells.
pub fn affine<T: Element>(x_y: Buffers<'_, T>, cells: &Cells, affines: &[Affine]) {
    affine_activated(x_y, cells, affines, Activation::Identity);
}

/// As [`affine`], with an activation behind it.
///
/// # Panics
/// As [`affine`].
pub fn affine_activated<T: Element>(x_y: Buffers<'_, T>, cells: &Cells, affines: &[Affine], activation: Activation) {
    let shared = Shared::new(x_y);
    check(shared.len(), cells);
    assert_eq!(affines.len(), cells.count(), "one affine map for each cell");
    sweep::apply_all(&AffinePass { x_y: &shared, activation }, cells, affines);
    // SAFETY: the pass covered the cells, and their length is the buffers' (checked).
    unsafe { shared.finish() }
}

/// y = x + other.
///
/// # Panics
/// If they differ in length.
pub fn add<T: Element>(x_y: Buffers<'_, T>, other: &[T]) {
    let shared = Shared::new(x_y);
    add::run(&shared, other);
    // SAFETY: the pass covered the buffers.
    unsafe { shared.finish() }
}

/// Σ dy and Σ dy · (x − center) of each cell.
///
/// # Panics
/// If `x` or `dy` is not as long as the cells, or there are not as many centers as cells.
pub fn sums<T: Element>(x: &[T], dy: &[T], cells: &Cells, centers: &[f64]) -> Vec<Sums> {
    check(x.len(), cells);
    check(dy.len(), cells);
    assert_eq!(centers.len(), cells.count(), "one center for each cell");
    sweep::reduce_all(&SumsPass { x, dy: Source::new(dy), centers, through: Through::default() }, cells)
}

/// dx = a · dy + b · (x − center) + k with the coefficients of each cell.
///
/// # Panics
/// If `x` or the buffers are not as long as the cells, or there are not as many centers or coefficients as cells.
pub fn gradient<T: Element>(x: &[T], dy_dx: Buffers<'_, T>, cells: &Cells, centers: &[f64], gradients: &[Gradient]) {
    let shared = Shared::new(dy_dx);
    check(x.len(), cells);
    check(shared.len(), cells);
    assert_eq!(centers.len(), cells.count(), "one center for each cell");
    assert_eq!(gradients.len(), cells.count(), "one gradient map for each cell");
    let pass = GradientPass { x, dy_dx: &shared, centers, through: Through::default() };
    sweep::apply_all(&pass, cells, gradients);
    // SAFETY: as in `affine`.
    unsafe { shared.finish() }
}

/// Forward: for each set, the moments of its parts (its cells, or all of them at once where they lie side by side),
/// `table(set, moments, affines)`, and the affine pass. Returns what the tables returned, by set.
///
/// # Panics
/// If the buffers are not as long as the cells, or the sets are not of these cells.
///
/// ```
/// use cellnorm::{Cells, Moments, Sets, passes::{self, Affine, Buffers}};
/// // layer normalization of 2 samples × 2 channels × 2 positions, without parameters
/// let x = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0];
/// let (cells, sets) = (Cells::channels_first(2, 2, 2), Sets::new(&[0, 0, 1, 1]));
/// let mut y = Vec::new();
/// let means = passes::forward(Buffers::Into(&x, &mut y), &cells, &sets, |_set, moments, affines| {
///     let all = Moments::merge_all(moments);
///     let rstd = 1.0 / (all.variance() + 1e-5).sqrt();
///     affines.fill(Affine { center: all.mean, scale: rstd, offset: 0.0 });
///     all.mean
/// });
/// assert_eq!(means, [2.5, 5.0]);
/// assert_eq!(y[4..], [0.0; 4]);
/// ```
pub fn forward<T: Element, S: Send + Default>(
    x_y: Buffers<'_, T>,
    cells: &Cells,
    sets: &Sets,
    table: impl Fn(usize, &[Moments], &mut [Affine]) -> S + Sync,
) -> Vec<S> {
    forward_activated(x_y, cells, sets, Activation::Identity, table)
}

/// As [`forward`], with an activation behind it: y = act((x − center) · scale + offset).
///
/// # Panics
/// As [`forward`].
pub fn forward_activated<T: Element, S: Send + Default>(
    x_y: Buffers<'_, T>,
    cells: &Cells,
    sets: &Sets,
    activation: Activation,
    table: impl Fn(usize, &[Moments], &mut [Affine]) -> S + Sync,
) -> Vec<S> {
    let shared = Shared::new(x_y);
    check(shared.len(), cells);
    assert_eq!(sets.of_cells().len(), cells.count(), "one set label for each cell");
    let swept = sweep::sweep(&MomentsPass(shared.source()), &AffinePass { x_y: &shared, activation }, cells, sets, &table);
    // SAFETY: every cell belongs to a set, so the sweep covered the cells, and their length is the buffers' (checked).
    unsafe { shared.finish() };
    swept.of_sets
}

/// Backward: for each set, the sums of its cells, `table(set, sums, gradients)`, and the gradient pass. Returns the sums of each
/// cell.
///
/// # Panics
/// If `x` or the buffers are not as long as the cells, the sets are not of these cells, or there are not as many centers as
/// cells.
pub fn backward<T: Element>(
    x: &[T],
    dy_dx: Buffers<'_, T>,
    cells: &Cells,
    sets: &Sets,
    centers: &[f64],
    table: impl Fn(usize, &[Sums], &mut [Gradient]) + Sync,
) -> Vec<Sums> {
    sweep_back(x, dy_dx, cells, sets, centers, Through::default(), table)
}

/// As [`backward`], where the forward pass was [`forward_activated`] with these maps: dy is that behind the activation.
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
    sweep_back(x, dy_dx, cells, sets, &centers, Through { activation, affines }, table)
}

fn sweep_back<T: Element>(
    x: &[T],
    dy_dx: Buffers<'_, T>,
    cells: &Cells,
    sets: &Sets,
    centers: &[f64],
    through: Through<'_>,
    table: impl Fn(usize, &[Sums], &mut [Gradient]) + Sync,
) -> Vec<Sums> {
    let shared = Shared::new(dy_dx);
    check(x.len(), cells);
    check(shared.len(), cells);
    assert_eq!(sets.of_cells().len(), cells.count(), "one set label for each cell");
    assert_eq!(centers.len(), cells.count(), "one center for each cell");
    let sums = SumsPass { x, dy: shared.source(), centers, through };
    let gradient = GradientPass { x, dy_dx: &shared, centers, through };
    let swept = sweep::sweep(&sums, &gradient, cells, sets, &table);
    // SAFETY: as in `forward`.
    unsafe { shared.finish() };
    swept.of_cells
}

fn check(len: usize, cells: &Cells) {
    // a product that wraps around could be the right length by chance
    let cells = cells.outer.checked_mul(cells.positions).and_then(|len| len.checked_mul(cells.inner));
    assert_eq!(Some(len), cells, "the buffer's length is not that of the cells");
}
