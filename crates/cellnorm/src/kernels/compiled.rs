//! The passes, compiled in this crate for each type of elements.
//!
//! Generic functions are compiled wherever they are used, and a pass is a lot of code: several
//! instruction sets, two layouts, whole vectors and their rests. So the generic functions of the
//! other files end here.

use super::activation::{Activation, Parameters};
use super::affine::{Affine, AffinePass};
use super::buffers::{Buffers, Shared, Source};
use super::gradient::{Gradient, GradientPass};
use super::moments::MomentsPass;
use super::pre_activation::PreActivations;
use super::rows::{self, ParameterGradients};
use super::sums::{Sums, SumsPass};
use super::{add, segments, sweep};
use crate::kernels::Element;
use crate::moments::Moments;
use crate::shape::{Cells, Sets};

/// From the moments of a set to what its cells are mapped with, and its statistics.
pub type ForwardTable<'a> = dyn Fn(usize, &[Moments], &mut [Affine]) -> (f64, f64) + Sync + 'a;

/// From the sums of a set's cells to the coefficients of their dx.
pub type BackwardTable<'a> = dyn Fn(usize, &[Sums], &mut [Gradient]) + Sync + 'a;

/// The passes over tensors of this type; each is described at the function of its name in
/// [`passes`](super).
#[allow(missing_docs, reason = "not to be named from outside")]
pub trait Compiled: Sized {
    fn moments(x: &[Self], cells: &Cells) -> Vec<Moments>;
    fn affine(x_y: Buffers<'_, Self>, cells: &Cells, affines: &[Affine], activation: Activation);
    fn add(x_y: Buffers<'_, Self>, other: &[Self]);
    fn sums(x: &[Self], dy: &[Self], cells: &Cells, centers: &[f64]) -> Vec<Sums>;
    fn gradient(
        x: &[Self],
        dy_dx: Buffers<'_, Self>,
        cells: &Cells,
        centers: &[f64],
        gradients: &[Gradient],
    );
    fn forward(
        x_y: Buffers<'_, Self>,
        cells: &Cells,
        sets: &Sets,
        activation: Activation,
        table: &ForwardTable<'_>,
    ) -> Vec<(f64, f64)>;
    fn backward(
        x: &[Self],
        dy_dx: Buffers<'_, Self>,
        cells: &Cells,
        sets: &Sets,
        centers: &[f64],
        pre_activations: PreActivations<'_>,
        table: &BackwardTable<'_>,
    ) -> Vec<Sums>;
    fn rows_forward(
        x_y: Buffers<'_, Self>,
        width: usize,
        parameters: Parameters<'_, <Self as Element>::Acc>,
        table: &(dyn Fn(usize, Moments) -> (Affine, (f64, f64)) + Sync),
    ) -> Vec<(f64, f64)>
    where
        Self: Element;
    fn rows_forward_add(
        x_residual: [&[Self]; 2],
        h_y: [&mut [Self]; 2],
        width: usize,
        parameters: Parameters<'_, <Self as Element>::Acc>,
        table: &(dyn Fn(usize, Moments) -> (Affine, (f64, f64)) + Sync),
    ) -> Vec<(f64, f64)>
    where
        Self: Element;
    fn rows_backward(
        x: &[Self],
        dy_dx: Buffers<'_, Self>,
        plus: Option<&[Self]>,
        width: usize,
        parameters: Parameters<'_>,
        affines: &[Affine],
        table: &(dyn Fn(usize, Sums) -> Gradient + Sync),
    ) -> ParameterGradients;
}

macro_rules! compiled {
    ($($t:ty),*) => {$(
        impl Compiled for $t {
            fn moments(x: &[Self], cells: &Cells) -> Vec<Moments> {
                check(x.len(), cells);
                segments::reduce_all(&MomentsPass(Source::new(x)), cells)
            }

            fn affine(
                x_y: Buffers<'_, Self>,
                cells: &Cells,
                affines: &[Affine],
                activation: Activation,
            ) {
                let shared = Shared::new(x_y, 0);
                check(shared.len(), cells);
                assert_eq!(affines.len(), cells.count(), "one affine map for each cell");
                segments::apply_all(&AffinePass { x_y: &shared, activation }, cells, affines);
                // SAFETY: the pass covered the cells, and their length is the buffers' (checked).
                unsafe { shared.finish() }
            }

            fn add(x_y: Buffers<'_, Self>, other: &[Self]) {
                let shared = Shared::new(x_y, 1);
                add::run(&shared, other);
                // SAFETY: the pass covered the buffers.
                unsafe { shared.finish() }
            }

            fn sums(x: &[Self], dy: &[Self], cells: &Cells, centers: &[f64]) -> Vec<Sums> {
                check(x.len(), cells);
                check(dy.len(), cells);
                assert_eq!(centers.len(), cells.count(), "one center for each cell");
                let (dy, pre_activations) = (Source::new(dy), PreActivations::NONE);
                segments::reduce_all(&SumsPass { x, dy, centers, pre_activations }, cells)
            }

            fn gradient(
                x: &[Self],
                dy_dx: Buffers<'_, Self>,
                cells: &Cells,
                centers: &[f64],
                gradients: &[Gradient],
            ) {
                let shared = Shared::new(dy_dx, 1);
                check(x.len(), cells);
                check(shared.len(), cells);
                assert_eq!(centers.len(), cells.count(), "one center for each cell");
                assert_eq!(gradients.len(), cells.count(), "one gradient map for each cell");
                let (dy_dx, pre_activations) = (&shared, PreActivations::NONE);
                let pass = GradientPass { x, dy_dx, centers, pre_activations };
                segments::apply_all(&pass, cells, gradients);
                // SAFETY: as in `affine`.
                unsafe { shared.finish() }
            }

            fn forward(
                x_y: Buffers<'_, Self>,
                cells: &Cells,
                sets: &Sets,
                activation: Activation,
                table: &ForwardTable<'_>,
            ) -> Vec<(f64, f64)> {
                let shared = Shared::new(x_y, 0);
                check(shared.len(), cells);
                assert_eq!(sets.of_cells().len(), cells.count(), "one set label for each cell");
                let (reduce, apply) =
                    (MomentsPass(shared.source()), AffinePass { x_y: &shared, activation });
                let results = sweep::sweep(&reduce, &apply, cells, sets, table).results;
                // SAFETY: every cell belongs to a set, so the sweep covered the cells, and their
                // length is the buffers' (checked).
                unsafe { shared.finish() };
                results
            }

            fn backward(
                x: &[Self],
                dy_dx: Buffers<'_, Self>,
                cells: &Cells,
                sets: &Sets,
                centers: &[f64],
                pre_activations: PreActivations<'_>,
                table: &BackwardTable<'_>,
            ) -> Vec<Sums> {
                let shared = Shared::new(dy_dx, 1);
                check(x.len(), cells);
                check(shared.len(), cells);
                assert_eq!(sets.of_cells().len(), cells.count(), "one set label for each cell");
                assert_eq!(centers.len(), cells.count(), "one center for each cell");
                let dy_dx = &shared;
                let reduce = SumsPass { x, dy: dy_dx.source(), centers, pre_activations };
                let apply = GradientPass { x, dy_dx, centers, pre_activations };
                let partials = sweep::sweep(&reduce, &apply, cells, sets, table).partials;
                // SAFETY: as in `forward`.
                unsafe { shared.finish() };
                partials
            }

            fn rows_forward(
                x_y: Buffers<'_, Self>,
                width: usize,
                parameters: Parameters<'_, <Self as Element>::Acc>,
                table: &(dyn Fn(usize, Moments) -> (Affine, (f64, f64)) + Sync),
            ) -> Vec<(f64, f64)> {
                rows::forward::forward(x_y, width, parameters, table)
            }

            fn rows_forward_add(
                x_residual: [&[Self]; 2],
                h_y: [&mut [Self]; 2],
                width: usize,
                parameters: Parameters<'_, <Self as Element>::Acc>,
                table: &(dyn Fn(usize, Moments) -> (Affine, (f64, f64)) + Sync),
            ) -> Vec<(f64, f64)> {
                rows::forward::forward_add(x_residual, h_y, width, parameters, table)
            }

            fn rows_backward(
                x: &[Self],
                dy_dx: Buffers<'_, Self>,
                plus: Option<&[Self]>,
                width: usize,
                parameters: Parameters<'_>,
                affines: &[Affine],
                table: &(dyn Fn(usize, Sums) -> Gradient + Sync),
            ) -> ParameterGradients {
                rows::backward::backward(x, dy_dx, plus, width, parameters, affines, table)
            }
        }
    )*};
}
compiled!(f32, f64, half::f16, half::bf16);

fn check(len: usize, cells: &Cells) {
    // a product that wraps around could be the right length by chance
    let cells =
        cells.outer.checked_mul(cells.positions).and_then(|len| len.checked_mul(cells.inner));
    assert_eq!(Some(len), cells, "the buffer's length is not that of the cells");
}
