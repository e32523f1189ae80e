//! Forward over rows: y = act(γ x̂ + β).

use std::ops::Range;

use super::{ForwardTable, aligned_row, count};
use crate::kernels::Element;
use crate::kernels::activation::{Epilogue, NoEpilogue};
use crate::kernels::buffers::Shared;
use crate::kernels::coefficients::{Along, Constant, paired};
use crate::kernels::dispatch::{Kernel, dispatch};
use crate::kernels::lanes::Lanes;
use crate::kernels::span::{Prefetch, Span};
use crate::kernels::vectors::{Portable, Vectors};
use crate::kernels::{Activation, Affine, Parameters, moments, threads};

/// x and h, and what is added to x.
type Added<'a, 'b, T> = (&'a Shared<'b, T>, &'a [T]);

pub(in crate::kernels) fn run<T: Element>(
    shared: &Shared<'_, T>,
    added: Option<Added<'_, '_, T>>,
    width: usize,
    parameters: Parameters<'_, T::Acc>,
    table: &ForwardTable<'_>,
) -> Vec<(f64, f64)> {
    let rows = count(shared.len(), width);
    let Parameters { gamma, beta, activation } = parameters;
    let without_beta = beta.is_none();
    let (gamma, beta) = (&*aligned_row(width, gamma, 1.0), &*aligned_row(width, beta, 0.0));
    let pairs = [gamma, beta].map(paired::<T>);
    let pairs = [&pairs[0][..], &pairs[1][..]];
    let forward =
        &Forward { shared, added, width, gamma, beta, without_beta, pairs, activation, table };
    let mut results = threads::map(rows, width, |rows| match activation {
        Activation::Identity => dispatch(ForwardRows { forward, epilogue: NoEpilogue, rows }),
        epilogue => dispatch(ForwardRows { forward, epilogue, rows }),
    });
    if results.len() == 1 {
        return results.pop().unwrap_or_default();
    }
    results.into_iter().flatten().collect()
}

/// The common part of all rows of a forward pass.
struct Forward<'a, 'b, 'c, T: Element> {
    shared: &'a Shared<'b, T>,
    added: Option<Added<'a, 'c, T>>,
    width: usize,
    gamma: &'a [T::Acc],
    beta: &'a [T::Acc],
    /// Whether β is 0 since there is none.
    without_beta: bool,
    /// γ and β [`paired`].
    pairs: [&'a [T::Acc]; 2],
    activation: Activation,
    table: &'a ForwardTable<'a>,
}

impl<T: Element> Forward<'_, '_, '_, T> {
    /// A row whose map needs f64.
    #[cold]
    #[inline(never)]
    fn row_in_f64(&self, span: Span<'_, T>, affine: Affine) {
        span.map::<Portable, _>(
            Along::<_, 2, false> { rows: [self.gamma, self.beta], pairs: [&[]; 2] },
            |_, [gamma, beta], x| {
                self.activation
                    .apply(Lanes::map_in_f64([x], |_, [x]| affine.apply(x)) * gamma + beta)
            },
        );
    }
}

struct ForwardRows<'a, 'b, 'c, 'd, T: Element, E> {
    forward: &'a Forward<'b, 'c, 'd, T>,
    epilogue: E,
    rows: Range<usize>,
}

impl<T: Element, E: Epilogue> Kernel for ForwardRows<'_, '_, '_, '_, T, E> {
    type Output = Vec<(f64, f64)>;
    const BF16: bool = T::BF16;

    #[inline(always)]
    fn run<S: Vectors>(self) -> Vec<(f64, f64)> {
        let Self { forward, epilogue, rows } = self;
        let Forward { shared, added, width, gamma, beta, without_beta, pairs, table, .. } =
            *forward;
        let mut results = Vec::with_capacity(rows.len());
        let ahead = Prefetch::new::<T>(width, width);
        for row in rows {
            let range = row * width..(row + 1) * width;
            if let Some((x_h, residual)) = added {
                // SAFETY: a row belongs to one task.
                unsafe { x_h.span(range.clone()) }.prefetch(ahead).map_with::<S, _>(
                    &residual[range.clone()],
                    Constant::<true>,
                    #[inline(always)]
                    |_, (), x, residual| x + residual,
                );
            }
            // SAFETY: as above, and the slice is gone when the span is made.
            let moments =
                moments::run_moments::<S, _>(unsafe { shared.source().read(range.clone()) });
            let (affine, result) = table(row, moments);
            results.push(result);
            // SAFETY: as above.
            let span = unsafe { shared.span(range) }.prefetch(ahead);
            if affine.needs_f64::<T::Acc>() {
                forward.row_in_f64(span, affine);
                continue;
            }
            let rounded = affine.rounded::<T::Acc>();
            let [center, scale, offset] = rounded.map(Lanes::splat);
            let zero = T::Acc::default();
            if E::NONE && without_beta && rounded[0] == zero && rounded[2] == zero {
                // This is RMS normalization. The bits are those below: adding 0 takes the sign off
                // a 0. An infinite scale makes the offset NaN.
                span.map::<S, _>(
                    Along::<_, 1, true> { rows: [gamma], pairs: [pairs[0]] },
                    #[inline(always)]
                    |_, [gamma], x| x * scale * gamma + Lanes::zero(),
                );
                continue;
            }
            span.map::<S, _>(
                Along::<_, 2, true> { rows: [gamma, beta], pairs },
                #[inline(always)]
                |_, [gamma, beta], x| {
                    epilogue.apply(((x - center) * scale + offset) * gamma + beta)
                },
            );
        }
        shared.written();
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Buffers, rows};

    #[test]
    fn no_beta_is_a_beta_of_zeros() {
        let x: Vec<f32> =
            (0..70).map(|i| if i % 7 == 0 { -0.0 } else { (i as f32 - 30.0) * 1e-3 }).collect();
        let gamma: Vec<f32> = (0..35).map(|i| i as f32 - 20.0).collect();
        for scale in [3.0, -0.5, f64::INFINITY] {
            for center in [0.0, -0.0, 0.25] {
                let y_of = |beta: Option<&[f32]>| {
                    let mut y = Vec::new();
                    let parameters =
                        Parameters { gamma: Some(&gamma), beta, activation: Activation::Identity };
                    rows::forward(Buffers::Into(&x, &mut y), 35, parameters, &|_, _| {
                        (Affine { center, scale, offset: 0.0 }, (0.0, 0.0))
                    });
                    y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                };
                assert_eq!(y_of(None), y_of(Some(&[0.0; 35])), "{scale} {center}");
            }
        }
    }
}
