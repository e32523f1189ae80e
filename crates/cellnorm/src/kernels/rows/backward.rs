//! Backward over rows: dx = a · γ g + b · (x − center) + k, and the gradients of γ and β.

use std::ops::Range;

use super::parameter_sums::{ParameterSums, ROWS};
use super::{BackwardTable, Narrowed, ParameterGradients, aligned_row, count};
use crate::kernels::activation::{Epilogue, NoEpilogue};
use crate::kernels::buffers::Shared;
use crate::kernels::coefficients::{Along, paired};
use crate::kernels::dispatch::{Kernel, dispatch};
use crate::kernels::lanes::Lanes;
use crate::kernels::lines::Aligned;
use crate::kernels::pre_activation::RowPreActivation;
use crate::kernels::span::Prefetch;
use crate::kernels::vectors::{Portable, Vectors};
use crate::kernels::{Activation, Affine, Gradient, Parameters, Sums, threads};
use crate::kernels::{Element, Real};

/// How many rows one task takes: by the shape alone, since the parameters' gradients are added up
/// task by task.
fn rows_per_task(rows: usize, width: usize) -> usize {
    let tasks = ((1 << 20) / width).clamp(4, 64);
    ((1 << 15) / width).max(1).max(rows.div_ceil(tasks))
}

pub(in crate::kernels) fn run<T: Element>(
    x: &[T],
    shared: &Shared<'_, T>,
    plus: Option<&[T]>,
    width: usize,
    parameters: Parameters<'_>,
    affines: &[Affine],
    table: &BackwardTable<'_>,
) -> ParameterGradients {
    let rows = count(shared.len(), width);
    assert_eq!(x.len(), shared.len(), "x and dy differ in length");
    assert_eq!(affines.len(), rows, "one map for each row");
    assert!(
        plus.is_none_or(|plus| plus.len() == x.len()),
        "x and what is added to dx differ in length"
    );
    let step = rows_per_task(rows, width);
    let narrowed = Narrowed::new(parameters);
    let Parameters { gamma, beta, .. } = narrowed.parameters();
    let (gamma, beta) = (&*aligned_row(width, gamma, 1.0), &*aligned_row(width, beta, 0.0));
    let backward = &Backward { x, shared, plus, width, parameters, gamma, beta, affines, table };
    let parts = threads::map(rows.div_ceil(step), step * width, |tasks| {
        let of_task = |task: usize| {
            let rows = task * step..((task + 1) * step).min(rows);
            match parameters.activation {
                Activation::Identity => {
                    dispatch(BackwardRows { backward, epilogue: NoEpilogue, rows })
                }
                epilogue => dispatch(BackwardRows { backward, epilogue, rows }),
            }
        };
        tasks.map(of_task).collect::<Vec<ParameterGradients>>()
    });
    let join = |mut all: ParameterGradients, part: ParameterGradients| {
        all.add(&part);
        all
    };
    parts.into_iter().flatten().reduce(join).unwrap_or_else(|| ParameterGradients::zeros(width))
}

/// The common part of all rows of a backward pass.
struct Backward<'a, 'b, T: Element> {
    x: &'a [T],
    shared: &'a Shared<'b, T>,
    plus: Option<&'a [T]>,
    width: usize,
    parameters: Parameters<'a>,
    gamma: &'a [T::Acc],
    beta: &'a [T::Acc],
    affines: &'a [Affine],
    table: &'a BackwardTable<'a>,
}

impl<T: Element> Backward<'_, '_, T> {
    /// A row whose map needs f64: s = (x − center) · scale is taken in f64 and takes the place of
    /// x, with the map s + offset.
    #[cold]
    #[inline(never)]
    fn row_in_f64(&self, row: usize, parameter_sums: &mut ParameterSums<T::Acc>) {
        let range = row * self.width..(row + 1) * self.width;
        let affine = self.affines[row];
        let Affine { center, scale, offset } = affine;
        let scaled = |x: &T| T::Acc::from_f64((x.widen().to_f64() - center) * scale);
        let s: Vec<T::Acc> = self.x[range.clone()].iter().map(scaled).collect();
        // SAFETY: a row belongs to one task, and the slice is gone when the span is made.
        let dy: Vec<T::Acc> = unsafe { self.shared.source().read(range.clone()) }
            .iter()
            .map(|dy| dy.widen())
            .collect();
        let of_s = Affine { center: 0.0, scale: 1.0, offset };
        let Self { gamma, beta, .. } = *self;
        let epilogue = self.parameters.activation;
        let through = RowPreActivation { epilogue, affine: of_s.rounded(), gamma, beta };
        let Sums { dy: s1, dy_x: s2 } = parameter_sums.add::<Portable, _, _>(&s, &dy, &through);
        let sums = Sums { dy: s1, dy_x: if scale == 0.0 { 0.0 } else { s2 / scale } };
        let Gradient { a, b, k } = (self.table)(row, sums);
        let x = &self.x[range.clone()];
        // SAFETY: as above.
        unsafe { self.shared.span(range.clone()) }.map_with::<Portable, _>(
            x,
            Along::<_, 1, false> { rows: [self.gamma], pairs: [&[]] },
            |at, [gamma], dy, x| {
                let normalized = Lanes::map_in_f64([x], |_, [x]| affine.apply(x));
                let g = through.g(at, normalized, dy) * gamma;
                let dx = Lanes::map_in_f64([g, x], |_, [g, x]| a * g + b * (x - center) + k);
                match self.plus {
                    Some(plus) => dx + Lanes::load_few(&plus[range.clone()], at),
                    None => dx,
                }
            },
        );
    }
}

struct BackwardRows<'a, 'b, 'c, T: Element, E> {
    backward: &'a Backward<'b, 'c, T>,
    epilogue: E,
    rows: Range<usize>,
}

impl<T: Element, E: Epilogue> Kernel for BackwardRows<'_, '_, '_, T, E> {
    type Output = ParameterGradients;
    const BF16: bool = T::BF16;

    #[inline(always)]
    fn run<S: Vectors>(self) -> ParameterGradients {
        let Backward { x, shared, plus, width, parameters, gamma, beta, affines, table } =
            *self.backward;
        let mut totals = ParameterGradients::zeros(width);
        let mut parameter_sums = ParameterSums::<T::Acc>::new(
            width,
            parameters.gamma.is_some(),
            parameters.beta.is_some(),
        );
        let end = self.rows.end;
        let ahead = Prefetch::new::<[T; 2]>(width, width);
        // where the place of an element counts, they are taken in order
        let pairs = if E::NONE && plus.is_none() { paired::<T>(gamma) } else { Aligned::NONE };
        let pairs = &pairs[..];
        for (i, row) in self.rows.enumerate() {
            let range = row * width..(row + 1) * width;
            let x = &x[range.clone()];
            let plus = plus.map(
                #[inline(always)]
                |plus| &plus[range.clone()],
            );
            // SAFETY: a row belongs to one task, and the slice is gone when the span is made.
            let dy = unsafe { shared.source().read(range.clone()) };
            let affine = &affines[row];
            if affine.needs_f64::<T::Acc>() {
                self.backward.row_in_f64(row, &mut parameter_sums);
                parameter_sums.flush(&mut totals);
                continue;
            }
            let through =
                RowPreActivation { epilogue: self.epilogue, affine: affine.rounded(), gamma, beta };
            let sums =
                parameter_sums.add::<S, _, _>(x, dy, &through).about::<T::Acc>(affine.center);
            let [a, b, p, k, center] = table(row, sums).rounded(affine.center).map(Lanes::splat);
            let [_, scale, offset] = through.affine.map(Lanes::splat);
            // SAFETY: as above.
            let span = unsafe { shared.span(range) }.prefetch(ahead);
            let along = Along::<_, 1, true> { rows: [gamma], pairs: [pairs] };
            // two loops: a branch within one would keep its two halves from being one vector
            match plus {
                None => span.map_with::<S, _>(
                    x,
                    along,
                    #[inline(always)]
                    |at, [gamma], dy, x| {
                        let centered = x - center;
                        let g = through.g(at, centered * scale + offset, dy);
                        a * (g * gamma) + b * (centered * p) + k
                    },
                ),
                Some(plus) => span.map_with::<S, _>(
                    x,
                    along,
                    #[inline(always)]
                    |at, [gamma], dy, x| {
                        let centered = x - center;
                        let g = through.g(at, centered * scale + offset, dy);
                        a * (g * gamma) + b * (centered * p) + k + Lanes::load_few(plus, at)
                    },
                ),
            }
            if i % ROWS == ROWS - 1 || row + 1 == end {
                parameter_sums.flush(&mut totals);
            }
        }
        shared.written();
        totals
    }
}
