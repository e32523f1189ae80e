//! The second shape: rows whose affine parameters vary inside the set.
//!
//! Layer and RMS normalization with a parameter for each element see a tensor as rows × width, each row a set of its own. A row
//! fits the cache, so forward and backward are each one trip through memory. With the normalized value
//! x̂ = (x − center) · scale + offset and g = γ · dy:
//!
//! y = x̂ · γ + β,   dx = a · g + b · (x − center) + k,   dγ = Σ_rows dy · x̂,   dβ = Σ_rows dy.
//!
//! The tables are those of the cell passes for a cell with γ = 1 and β = 0: they get the row's moments forward, and Σ g and
//! Σ g · (x − center) backward.

use std::ops::Range;

use super::buffers::Shared;
use super::dispatch::{Kernel, dispatch};
use super::lanes::{LANES, Lanes};
use super::moments;
use super::{Affine, BLOCK, Buffers, Gradient, Sums, threads};
use crate::element::{Element, Real};
use crate::moments::Moments;

/// The gradients of the parameters, each as long as a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParameterGradients {
    /// Σ_rows dy · x̂.
    pub gamma: Vec<f64>,
    /// Σ_rows dy.
    pub beta: Vec<f64>,
}

impl ParameterGradients {
    fn zeros(width: usize) -> Self {
        Self { gamma: vec![0.0; width], beta: vec![0.0; width] }
    }
}

/// A parameter in the computing type, with room for a vector where a row is shorter than one; an absent one is `absent`.
fn parameter<A: Real>(width: usize, values: Option<&[f64]>, absent: f64) -> Vec<A> {
    let mut row = vec![A::from_f64(absent); width.max(LANES)];
    if let Some(values) = values {
        assert_eq!(values.len(), width, "a parameter is not as long as a row");
        for (row, value) in row.iter_mut().zip(values) {
            *row = A::from_f64(*value);
        }
    }
    row
}

/// How many rows one task takes: by the shape alone, since the parameters' gradients are added up task by task.
fn rows_per_task(rows: usize, width: usize) -> usize {
    let tasks = ((1 << 20) / width).clamp(4, 64);
    ((1 << 15) / width).max(1).max(rows.div_ceil(tasks))
}

/// For each row: moments, `table(row, moments)`, and y = x̂ · γ + β. Returns what the tables returned.
///
/// # Panics
/// If the buffer is not a whole number of rows of `width` > 0, or a parameter is not as long as a row.
pub fn forward<T: Element, S: Send + Default>(
    x_y: Buffers<'_, T>,
    width: usize,
    gamma: Option<&[f64]>,
    beta: Option<&[f64]>,
    table: impl Fn(usize, Moments) -> (Affine, S) + Sync,
) -> Vec<S> {
    let shared = Shared::new(x_y);
    let rows = count(shared.len(), width);
    let (gamma, beta) = (&parameter(width, gamma, 1.0), &parameter(width, beta, 0.0));
    let table = &table;
    let results = threads::map(rows, width, |rows| dispatch(Forward { shared: &shared, width, gamma, beta, table, rows }));
    // SAFETY: the tasks covered all rows, which are the whole buffer.
    unsafe { shared.finish() };
    results.into_iter().flatten().collect()
}

/// For each row: Σ g and Σ g · (x − center), `table(row, sums)`, and dx; and the parameters' gradients over all rows, zero where
/// there is no γ or no β.
/// `affines` are the maps that the forward pass used.
///
/// # Panics
/// If the buffers are not a whole number of rows of `width` > 0, a parameter is not as long as a row, or there are not as many
/// maps as rows.
pub fn backward<T: Element>(
    x: &[T],
    dy_dx: Buffers<'_, T>,
    width: usize,
    gamma: Option<&[f64]>,
    with_beta: bool,
    affines: &[Affine],
    table: impl Fn(usize, Sums) -> Gradient + Sync,
) -> ParameterGradients {
    let shared = Shared::new(dy_dx);
    let rows = count(shared.len(), width);
    assert_eq!(x.len(), shared.len(), "x and dy differ in length");
    assert_eq!(affines.len(), rows, "one map for each row");
    let step = rows_per_task(rows, width);
    let backward = Backward {
        x,
        shared: &shared,
        width,
        gamma: &parameter(width, gamma, 1.0),
        with_gamma: gamma.is_some(),
        with_beta,
        affines,
        table: &table,
    };
    let parts = threads::map(rows.div_ceil(step), step * width, |tasks| {
        let of_task = |task: usize| {
            let rows = task * step..((task + 1) * step).min(rows);
            dispatch(BackwardRows { backward: &backward, rows })
        };
        tasks.map(of_task).collect::<Vec<ParameterGradients>>()
    });
    // SAFETY: the tasks covered all rows, which are the whole buffer.
    unsafe { shared.finish() };
    let add = |mut all: ParameterGradients, part: ParameterGradients| {
        add(&mut all.gamma, &part.gamma);
        add(&mut all.beta, &part.beta);
        all
    };
    parts.into_iter().flatten().reduce(add).unwrap_or_else(|| ParameterGradients::zeros(width))
}

fn count(len: usize, width: usize) -> usize {
    assert!(width > 0 && len.is_multiple_of(width), "{len} elements are not rows of {width}");
    len / width
}

fn add(all: &mut [f64], part: &[f64]) {
    for (all, part) in all.iter_mut().zip(part) {
        *all += part;
    }
}

struct Forward<'a, 'b, T: Element, F> {
    shared: &'a Shared<'b, T>,
    width: usize,
    gamma: &'a [T::Acc],
    beta: &'a [T::Acc],
    table: &'a F,
    rows: Range<usize>,
}

impl<T: Element, S, F: Fn(usize, Moments) -> (Affine, S)> Kernel for Forward<'_, '_, T, F> {
    type Output = Vec<S>;

    #[inline(always)]
    fn run(self) -> Vec<S> {
        let Self { shared, width, gamma, beta, table, rows } = self;
        let mut results = Vec::with_capacity(rows.len());
        for row in rows {
            let range = row * width..(row + 1) * width;
            // SAFETY: a row belongs to one task, and the slice is gone when the span is made.
            let moments = moments::of_run(unsafe { shared.source().read(range.clone()) });
            let (affine, result) = table(row, moments);
            let [center, scale, offset] = affine.rounded::<T::Acc>().map(Lanes::splat);
            // SAFETY: as above.
            unsafe { shared.span(range) }.fetching(width).map(
                #[inline(always)]
                |at, x| ((x - center) * scale + offset) * Lanes::load(gamma, at) + Lanes::load(beta, at),
            );
            results.push(result);
        }
        shared.written();
        results
    }
}

/// What all rows of a backward pass share.
struct Backward<'a, 'b, T: Element, F> {
    x: &'a [T],
    shared: &'a Shared<'b, T>,
    width: usize,
    gamma: &'a [T::Acc],
    with_gamma: bool,
    with_beta: bool,
    affines: &'a [Affine],
    table: &'a F,
}

struct BackwardRows<'a, 'b, 'c, T: Element, F> {
    backward: &'a Backward<'b, 'c, T, F>,
    rows: Range<usize>,
}

impl<T: Element, F: Fn(usize, Sums) -> Gradient> Kernel for BackwardRows<'_, '_, '_, T, F> {
    type Output = ParameterGradients;

    #[inline(always)]
    fn run(self) -> ParameterGradients {
        let Backward { x, shared, width, gamma, with_gamma, with_beta, affines, table } = *self.backward;
        let mut totals = ParameterGradients::zeros(width);
        let mut near = Near::<T::Acc>::new(width, with_gamma, with_beta);
        let end = self.rows.end;
        for (i, row) in self.rows.enumerate() {
            let range = row * width..(row + 1) * width;
            let x = &x[range.clone()];
            // SAFETY: a row belongs to one task, and the slice is gone when the span is made.
            let dy = unsafe { shared.source().read(range.clone()) };
            let affine = &affines[row];
            let sums = near.add(x, dy, gamma, affine.rounded()).about::<T::Acc>(affine.center);
            let [a, b, p, k, center] = table(row, sums).rounded(affine.center).map(Lanes::splat);
            // SAFETY: as above.
            unsafe { shared.span(range) }.fetching(width).map_with(
                x,
                #[inline(always)]
                |at, dy, x| a * (dy * Lanes::load(gamma, at)) + b * ((x - center) * p) + k,
            );
            if i % ROWS == ROWS - 1 || row + 1 == end {
                near.flush(&mut totals);
            }
        }
        shared.written();
        totals
    }
}

/// How many rows the parameters' gradients are added over in the computing type before they go to f64.
const ROWS: usize = 64;

/// Σ dy · x̂ and Σ dy over a few rows; empty where not asked for.
struct Near<A> {
    gamma: Vec<A>,
    beta: Vec<A>,
}

impl<A: Real> Near<A> {
    fn new(width: usize, gamma: bool, beta: bool) -> Self {
        let zeros = |wanted: bool| if wanted { vec![A::default(); width.max(LANES)] } else { vec![] };
        Self { gamma: zeros(gamma), beta: zeros(beta) }
    }

    /// Adds a row, and returns its Σ g and Σ g · (x − center) with g = γ · dy.
    #[inline(always)]
    fn add<T: Element<Acc = A>>(&mut self, x: &[T], dy: &[T], gamma: &[A], affine: [A; 3]) -> Sums {
        match (self.gamma.is_empty(), self.beta.is_empty()) {
            (false, false) => self.add_row::<T, true, true>(x, dy, gamma, affine),
            (false, true) => self.add_row::<T, true, false>(x, dy, gamma, affine),
            (true, false) => self.add_row::<T, false, true>(x, dy, gamma, affine),
            (true, true) => self.add_row::<T, false, false>(x, dy, gamma, affine),
        }
    }

    #[inline(always)]
    fn add_row<T: Element<Acc = A>, const GAMMA: bool, const BETA: bool>(
        &mut self,
        x: &[T],
        dy: &[T],
        gamma: &[A],
        affine: [A; 3],
    ) -> Sums {
        let zero = Lanes::splat(A::default());
        let [center, scale, offset] = affine.map(Lanes::splat);
        let mut sums = Sums::default();
        let whole = x.len() / LANES * LANES;
        let mut start = 0;
        while start < whole {
            let end = (start + BLOCK).min(whole);
            let (mut s1, mut s2) = (zero, zero);
            let mut at = start;
            while at < end {
                let (dy, centered) = (Lanes::load(dy, at), Lanes::load(x, at) - center);
                let g = dy * Lanes::load(gamma, at);
                s1 = s1 + g;
                s2 = s2 + g * centered;
                if GAMMA {
                    (Lanes::load(&self.gamma, at) + dy * (centered * scale + offset)).store(&mut self.gamma, at);
                }
                if BETA {
                    (Lanes::load(&self.beta, at) + dy).store(&mut self.beta, at);
                }
                at += LANES;
            }
            sums = sums.plus(Sums { dy: s1.sum(), dy_x: s2.sum() });
            start = end;
        }
        for at in whole..x.len() {
            let (dy, centered) = (dy[at].widen(), x[at].widen() - affine[0]);
            let g = dy * gamma[at];
            sums = sums.plus(Sums { dy: g.to_f64(), dy_x: (g * centered).to_f64() });
            if GAMMA {
                self.gamma[at] = self.gamma[at] + dy * (centered * affine[1] + affine[2]);
            }
            if BETA {
                self.beta[at] = self.beta[at] + dy;
            }
        }
        sums
    }

    fn flush(&mut self, totals: &mut ParameterGradients) {
        for (total, near) in [(&mut totals.gamma, &mut self.gamma), (&mut totals.beta, &mut self.beta)] {
            for (total, near) in total.iter_mut().zip(near) {
                *total += near.to_f64();
                *near = A::default();
            }
        }
    }
}
