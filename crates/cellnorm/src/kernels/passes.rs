//! The passes, compiled in this crate for each type of elements.
//!
//! Generic functions are compiled wherever they are used, and a pass is a lot of code: several
//! instruction sets, two layouts, whole vectors and their rests. So the generic functions of the
//! other files end here, in a table of functions for each type.

use super::activation::{Activation, Parameters};
use super::affine::{Affine, AffinePass};
use super::buffers::{Buffers, Shared, Source};
use super::gradient::{Gradient, GradientPass};
use super::moments::MomentsPass;
use super::pre_activation::PreActivations;
use super::rows::{self, ParameterGradients};
use super::sums::{Sums, SumsPass};
use super::{add as addition, segments, sweep};
use crate::kernels::Element;
use crate::moments::Moments;
use crate::shape::{Cells, Sets};

/// From a set's number and the moments of its parts to the maps of its cells, and its statistics.
pub type ForwardTable<'a> = dyn Fn(usize, &[Moments], &mut [Affine]) -> (f64, f64) + Sync + 'a;

/// From a set's number and the sums of its cells to the coefficients of their dx.
pub type BackwardTable<'a> = dyn Fn(usize, &[Sums], &mut [Gradient]) + Sync + 'a;

/// From a row's number and its moments to its map, and its statistics.
pub type RowForwardTable<'a> = dyn Fn(usize, Moments) -> (Affine, (f64, f64)) + Sync + 'a;

/// From a row's number and its sums to the coefficients of its dx.
pub type RowBackwardTable<'a> = dyn Fn(usize, Sums) -> Gradient + Sync + 'a;

/// A type of elements with its passes.
pub trait Compiled: Sized {
    /// The passes over tensors of this type.
    fn passes() -> &'static Passes<Self>
    where
        Self: Element;
}

macro_rules! compiled {
    ($($t:ty),*) => {$(
        impl Compiled for $t {
            fn passes() -> &'static Passes<Self> {
                static PASSES: Passes<$t> = Passes::new();
                &PASSES
            }
        }
    )*};
}
compiled!(f32, f64, half::f16, half::bf16);

/// Each pass as a generic function in `generic`, as an entry of [`Passes`], and as the public
/// function that calls the entry of its type.
macro_rules! passes {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? $body:block
    )*) => {
        /// The passes over tensors of one type.
        pub struct Passes<T: Element> {
            $($name: fn($($type),*) $(-> $output)?,)*
        }

        impl<T: Element> Passes<T> {
            const fn new() -> Self {
                Self { $($name: generic::$name,)* }
            }
        }

        mod generic {
            use super::*;

            $(pub(super) fn $name<T: Element>($($argument: $type),*) $(-> $output)? $body)*
        }

        $(
            $(#[$doc])*
            pub fn $name<T: Element>($($argument: $type),*) $(-> $output)? {
                (T::passes().$name)($($argument),*)
            }
        )*
    };
}

passes! {
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
    fn moments(x: &[T], cells: &Cells) -> Vec<Moments> {
        check(x.len(), cells);
        segments::reduce_all(&MomentsPass(Source::new(x)), cells)
    }

    /// y = act((x − center) · scale + offset) with the coefficients of each cell.
    ///
    /// # Panics
    /// If the buffers are not as long as the cells, or there are not as many coefficients as cells.
    fn affine(
        x_y: Buffers<'_, T>,
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

    /// y = x + other.
    ///
    /// # Panics
    /// If they differ in length.
    fn add(x_y: Buffers<'_, T>, other: &[T]) {
        let shared = Shared::new(x_y, 1);
        addition::run(&shared, other);
        // SAFETY: the pass covered the buffers.
        unsafe { shared.finish() }
    }

    /// Σ dy and Σ dy · (x − center) of each cell.
    ///
    /// # Panics
    /// If `x` or `dy` is not as long as the cells, or there are not as many centers as cells.
    fn sums(x: &[T], dy: &[T], cells: &Cells, centers: &[f64]) -> Vec<Sums> {
        check(x.len(), cells);
        check(dy.len(), cells);
        assert_eq!(centers.len(), cells.count(), "one center for each cell");
        let (dy, pre_activations) = (Source::new(dy), PreActivations::NONE);
        segments::reduce_all(&SumsPass { x, dy, centers, pre_activations }, cells)
    }

    /// dx = a · dy + b · (x − center) + k with the coefficients of each cell.
    ///
    /// # Panics
    /// If `x` or the buffers are not as long as the cells, or there are not as many centers or
    /// coefficients as cells.
    fn gradient(
        x: &[T],
        dy_dx: Buffers<'_, T>,
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

    /// Forward: for each set, the moments of its parts (its cells, or all of them at once where
    /// they lie side by side), `table(set, moments, affines)`, and the affine pass. Returns the
    /// results of the tables, a set's mean and variance for example.
    ///
    /// # Panics
    /// If the buffers are not as long as the cells, or the sets are not of these cells.
    ///
    /// ```
    /// use cellnorm::{
    ///     Activation, Moments,
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
    ///     Activation::Identity,
    ///     &|_set, moments, affines| {
    ///         let all = Moments::merge_all(moments);
    ///         let rstd = 1.0 / (all.variance() + 1e-5).sqrt();
    ///         affines.fill(Affine { center: all.mean, scale: rstd, offset: 0.0 });
    ///         (all.mean, all.variance())
    ///     },
    /// );
    /// assert_eq!(statistics, [(2.5, 1.25), (5.0, 0.0)]);
    /// assert_eq!(y[4..], [0.0; 4]);
    /// ```
    fn forward(
        x_y: Buffers<'_, T>,
        cells: &Cells,
        sets: &Sets,
        activation: Activation,
        table: &ForwardTable<'_>,
    ) -> Vec<(f64, f64)> {
        let shared = Shared::new(x_y, 0);
        check(shared.len(), cells);
        assert_eq!(sets.of_cells().len(), cells.count(), "one set label for each cell");
        let reduce = MomentsPass(shared.source());
        let apply = AffinePass { x_y: &shared, activation };
        let results = sweep::sweep(&reduce, &apply, cells, sets, table).results;
        // SAFETY: every cell belongs to a set, so the sweep covered the cells, and their length is
        // the buffers' (checked).
        unsafe { shared.finish() };
        results
    }

    /// Backward: for each set, the sums of its cells, `table(set, sums, gradients)`, and the
    /// gradient pass. Returns the sums of each cell.
    ///
    /// # Panics
    /// If `x` or the buffers are not as long as the cells, the sets are not of these cells, or
    /// there are not as many centers as cells.
    fn backward(
        x: &[T],
        dy_dx: Buffers<'_, T>,
        cells: &Cells,
        sets: &Sets,
        centers: &[f64],
        table: &BackwardTable<'_>,
    ) -> Vec<Sums> {
        sweep_backward(x, dy_dx, (cells, sets), centers, PreActivations::NONE, table)
    }

    /// [`backward`] of a forward pass with these maps and an activation: dy is the gradient after
    /// the activation.
    ///
    /// # Panics
    /// Same as [`backward`], with maps in place of the centers.
    fn backward_activated(
        x: &[T],
        dy_dx: Buffers<'_, T>,
        cells: &Cells,
        sets: &Sets,
        affines: &[Affine],
        activation: Activation,
        table: &BackwardTable<'_>,
    ) -> Vec<Sums> {
        let centers: Vec<f64> = affines.iter().map(|affine| affine.center).collect();
        let pre_activations = PreActivations { activation, affines };
        sweep_backward(x, dy_dx, (cells, sets), &centers, pre_activations, table)
    }

    /// For each row: moments, `table(row, moments)`, and y = act(x̂ · γ + β), with γ and β in
    /// the type that is computed in. Returns the rows' statistics from the tables.
    ///
    /// # Panics
    /// If the buffer is not a whole number of rows of `width` > 0, or a parameter is not as long as
    /// a row.
    fn rows_forward(
        x_y: Buffers<'_, T>,
        width: usize,
        parameters: Parameters<'_, T::Acc>,
        table: &RowForwardTable<'_>,
    ) -> Vec<(f64, f64)> {
        let shared = Shared::new(x_y, 0);
        let results = rows::forward::run(&shared, None, width, parameters, table);
        // SAFETY: the tasks covered all rows, which are the buffer.
        unsafe { shared.finish() };
        results
    }

    /// [`forward`](rows_forward) of h = x + residual, which is written too.
    ///
    /// # Panics
    /// Same as [`forward`](rows_forward); also if the buffers differ in length.
    fn rows_forward_add(
        x_residual: [&[T]; 2],
        h_y: [&mut [T]; 2],
        width: usize,
        parameters: Parameters<'_, T::Acc>,
        table: &RowForwardTable<'_>,
    ) -> Vec<(f64, f64)> {
        let ([x, residual], [h, y]) = (x_residual, h_y);
        assert_eq!(residual.len(), x.len(), "x and the residual differ in length");
        // h is read again at once: it is not streamed
        let x_h = Shared::new(Buffers::Apart(x, h), 2).cached();
        rows::forward::run(&x_h.then(y), Some((&x_h, residual)), width, parameters, table)
    }

    /// For each row: Σ γ g and Σ γ g · (x − center), `table(row, sums)`, and dx; and the
    /// gradients of the parameters over all rows, zero where there is no γ or no β. `affines` are
    /// the maps of the forward pass; `plus` is added to dx.
    ///
    /// # Panics
    /// If the buffers are not a whole number of rows of `width` > 0, a parameter is not as long as
    /// a row, or there are not as many maps as rows.
    fn rows_backward(
        x: &[T],
        dy_dx: Buffers<'_, T>,
        plus: Option<&[T]>,
        width: usize,
        parameters: Parameters<'_>,
        affines: &[Affine],
        table: &RowBackwardTable<'_>,
    ) -> ParameterGradients {
        let shared = Shared::new(dy_dx, 1 + usize::from(plus.is_some()));
        let gradients = rows::backward::run(x, &shared, plus, width, parameters, affines, table);
        // SAFETY: the tasks covered all rows, which are the buffer.
        unsafe { shared.finish() };
        gradients
    }
}

fn sweep_backward<T: Element>(
    x: &[T],
    dy_dx: Buffers<'_, T>,
    (cells, sets): (&Cells, &Sets),
    centers: &[f64],
    pre_activations: PreActivations<'_>,
    table: &BackwardTable<'_>,
) -> Vec<Sums> {
    let shared = Shared::new(dy_dx, 1);
    check(x.len(), cells);
    check(shared.len(), cells);
    assert_eq!(sets.of_cells().len(), cells.count(), "one set label for each cell");
    assert_eq!(centers.len(), cells.count(), "one center or map for each cell");
    let dy_dx = &shared;
    let reduce = SumsPass { x, dy: dy_dx.source(), centers, pre_activations };
    let apply = GradientPass { x, dy_dx, centers, pre_activations };
    let partials = sweep::sweep(&reduce, &apply, cells, sets, table).partials;
    // SAFETY: as in `forward`.
    unsafe { shared.finish() };
    partials
}

fn check(len: usize, cells: &Cells) {
    // a product that wraps around could be the right length by chance
    let cells =
        cells.outer.checked_mul(cells.positions).and_then(|len| len.checked_mul(cells.inner));
    assert_eq!(Some(len), cells, "the buffer's length is not that of the cells");
}
