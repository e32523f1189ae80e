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

use super::buffers::{Shared, Span};
use super::dispatch::{Kernel, dispatch};
use super::lanes::{LANES, Lanes};
use super::moments::Run;
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

/// The parameters of a row in the computing type; absent ones are 1 and 0.
struct Parameters<A> {
    gamma: Vec<A>,
    beta: Vec<A>,
}

impl<A: Real> Parameters<A> {
    fn new(width: usize, gamma: Option<&[f64]>, beta: Option<&[f64]>) -> Self {
        let row = |values: Option<&[f64]>, absent: f64| match values {
            Some(values) => {
                assert_eq!(values.len(), width, "a parameter is not as long as a row");
                values.iter().map(|v| A::from_f64(*v)).collect()
            }
            None => vec![A::from_f64(absent); width],
        };
        Self { gamma: row(gamma, 1.0), beta: row(beta, 0.0) }
    }
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
    let parameters = &Parameters::<T::Acc>::new(width, gamma, beta);
    let step = rows_per_task(rows, width);
    let results = threads::map(rows.div_ceil(step), step * width, |task| {
        let of_row = |row: usize| {
            let range = row * width..(row + 1) * width;
            // SAFETY: a row belongs to one task, and the slice is gone when the span is made.
            let moments = dispatch(Run(unsafe { shared.source().read(range.clone()) }));
            let (affine, result) = table(row, moments);
            // SAFETY: as above.
            let span = unsafe { shared.span(range) };
            dispatch(RowForward { span, affine: affine.rounded::<T::Acc>(), parameters });
            result
        };
        (task * step..((task + 1) * step).min(rows)).map(of_row).collect::<Vec<S>>()
    });
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
    let parameters = &Parameters::<T::Acc>::new(width, gamma, None);
    let step = rows_per_task(rows, width);
    let parts = threads::map(rows.div_ceil(step), step * width, |task| {
        let mut totals = ParameterGradients { gamma: vec![0.0; width], beta: vec![0.0; width] };
        let mut near = Near::new(width, gamma.is_some(), with_beta);
        let of_task = task * step..((task + 1) * step).min(rows);
        for row in of_task.clone() {
            let range = row * width..(row + 1) * width;
            let x = &x[range.clone()];
            let affine = affines[row].rounded::<T::Acc>();
            // SAFETY: a row belongs to one task, and the slice is gone when the span is made.
            let dy = unsafe { shared.source().read(range.clone()) };
            let near_center = dispatch(RowSums { x, dy, affine, parameters, near: &mut near });
            let center = affines[row].center;
            let gradient = table(row, near_center.about::<T::Acc>(center)).rounded(center);
            // SAFETY: as above.
            let span = unsafe { shared.span(range) };
            dispatch(RowBackward { x, span, gradient, parameters });
            if (row - of_task.start) % ROWS == ROWS - 1 || row + 1 == of_task.end {
                near.flush(&mut totals);
            }
        }
        totals
    });
    // SAFETY: the tasks covered all rows, which are the whole buffer.
    unsafe { shared.finish() };
    let zero = ParameterGradients { gamma: vec![0.0; width], beta: vec![0.0; width] };
    parts.into_iter().fold(zero, |mut all, part| {
        add(&mut all.gamma, &part.gamma);
        add(&mut all.beta, &part.beta);
        all
    })
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

/// How many rows the parameters' gradients are added over in the computing type before they go to f64.
const ROWS: usize = 64;

/// Σ dy · x̂ and Σ dy over a few rows.
struct Near<A> {
    gamma: Option<Vec<A>>,
    beta: Option<Vec<A>>,
}

impl<A: Real> Near<A> {
    fn new(width: usize, gamma: bool, beta: bool) -> Self {
        let zeros = |wanted: bool| wanted.then(|| vec![A::default(); width.next_multiple_of(LANES)]);
        Self { gamma: zeros(gamma), beta: zeros(beta) }
    }

    fn flush(&mut self, totals: &mut ParameterGradients) {
        for (total, near) in [(&mut totals.gamma, &mut self.gamma), (&mut totals.beta, &mut self.beta)] {
            for (total, near) in total.iter_mut().zip(near.iter_mut().flatten()) {
                *total += near.to_f64();
                *near = A::default();
            }
        }
    }
}

struct RowForward<'a, T: Element> {
    span: Span<'a, T>,
    affine: Affine,
    parameters: &'a Parameters<T::Acc>,
}

impl<T: Element> Kernel for RowForward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let zero = T::Acc::default();
        let Affine { center, scale, offset } = self.affine;
        let [center, scale, offset] = [center, scale, offset].map(|v| Lanes::splat(T::Acc::from_f64(v)));
        let Parameters { gamma, beta } = self.parameters;
        self.span.map(
            #[inline(always)]
            |at, x| ((x - center) * scale + offset) * Lanes::load(gamma, at, zero) + Lanes::load(beta, at, zero),
        );
    }
}

struct RowSums<'a, T: Element> {
    x: &'a [T],
    dy: &'a [T],
    affine: Affine,
    parameters: &'a Parameters<T::Acc>,
    near: &'a mut Near<T::Acc>,
}

impl<T: Element> Kernel for RowSums<'_, T> {
    type Output = Sums;

    #[inline(always)]
    fn run(self) -> Sums {
        let zero = T::Acc::default();
        let Affine { center, scale, offset } = self.affine;
        let [center, scale, offset] = [center, scale, offset].map(|v| Lanes::splat(T::Acc::from_f64(v)));
        let Near { gamma: dgamma, beta: dbeta } = self.near;
        let mut sums = Sums::default();
        for start in (0..self.x.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(self.x.len());
            let (mut s1, mut s2) = (Lanes::splat(zero), Lanes::splat(zero));
            for at in (start..end).step_by(LANES) {
                let dy = Lanes::load(self.dy, at, zero);
                let centered = Lanes::load(self.x, at, zero) - center;
                let g = dy * Lanes::load(&self.parameters.gamma, at, zero);
                s1 = s1 + g;
                s2 = s2 + g * centered;
                if let Some(dgamma) = dgamma {
                    (Lanes::load(dgamma, at, zero) + dy * (centered * scale + offset)).store(dgamma, at);
                }
                if let Some(dbeta) = dbeta {
                    (Lanes::load(dbeta, at, zero) + dy).store(dbeta, at);
                }
            }
            sums = sums.plus(Sums { dy: s1.sum(), dy_x: s2.sum() });
        }
        sums
    }
}

struct RowBackward<'a, T: Element> {
    x: &'a [T],
    span: Span<'a, T>,
    gradient: [T::Acc; 5],
    parameters: &'a Parameters<T::Acc>,
}

impl<T: Element> Kernel for RowBackward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let zero = T::Acc::default();
        let [a, b, p, k, center] = self.gradient.map(Lanes::splat);
        let gamma = &self.parameters.gamma;
        self.span.map(
            #[inline(always)]
            |at, dy| {
                let g = dy * Lanes::load(gamma, at, zero);
                a * g + b * ((Lanes::load(self.x, at, zero) - center) * p) + k
            },
        );
    }
}
