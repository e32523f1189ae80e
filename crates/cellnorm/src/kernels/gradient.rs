//! The gradient pass: dx = A · dy + B · (x − center) + K, with three numbers a cell.

use std::ops::Range;

use super::activation::{Activation, Epilogue};
use super::affine::center_needs_f64;
use super::buffers::Shared;
use super::coefficients::Constant;
use super::columns::Columns;
use super::lanes::Lanes;
use super::lines::Aligned;
use super::pre_activation::PreActivations;
use super::segments::Apply;
use super::span::Prefetch;
use super::vectors::{Portable, Vectors};
use crate::kernels::{Element, Real};

/// The gradient map of a cell: dx = a · dy + b · (x − center) + k.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gradient {
    /// How much of dy passes through.
    pub a: f64,
    /// The share of the variance's gradient.
    pub b: f64,
    /// The share of the mean's gradient.
    pub k: f64,
}

impl Gradient {
    /// \[a, b / p, p, k, center\] in the computing type: dx = a · dy + (b / p) · ((x − center) ·
    /// p) + k.
    ///
    /// b is about 1/σ², which an f32 cannot hold for σ below 1e-19 or above 1e19. p, a power of two
    /// near √|b|, takes half of its magnitude and, being a power of two, changes no digit. The
    /// center is the nearest that `A` holds.
    #[inline(always)]
    pub(super) fn rounded<A: Real>(self, center: f64) -> [A; 5] {
        let near = A::from_f64(center).to_f64();
        let p = half_power(self.b);
        [self.a, self.b / p, p, self.k + self.b * (near - center), near].map(A::from_f64)
    }
}

/// A power of two near √|b|, and 1 for 0: half of the exponent, taken from the bits.
#[inline(always)]
fn half_power(b: f64) -> f64 {
    const BIAS: i64 = 1023;
    const MANTISSA: u32 = 52;
    if b == 0.0 {
        return 1.0;
    }
    let exponent = (b.abs().to_bits() >> MANTISSA) as i64 - BIAS;
    f64::from_bits(((exponent / 2 + BIAS) as u64) << MANTISSA)
}

pub(super) struct GradientPass<'a, 'b, T> {
    pub(super) x: &'a [T],
    pub(super) dy_dx: &'a Shared<'b, T>,
    /// The center of each cell.
    pub(super) centers: &'a [f64],
    pub(super) pre_activations: PreActivations<'a>,
}

impl<T: Element> GradientPass<'_, '_, T> {
    /// `rows` for centers that need f64.
    #[cold]
    #[inline(never)]
    fn in_f64(&self, range: Range<usize>, first_cell: usize, gradients: &[Gradient]) {
        let x = &self.x[range.clone()];
        // SAFETY: a pass writes each range once, after all reductions that read it.
        unsafe { self.dy_dx.span(range) }.map_with::<Portable, _>(
            x,
            Constant::<false>,
            |at, (), dy, x| {
                let cell = |lane: usize| (at + lane) % gradients.len();
                let g = self.pre_activations.g_in_f64(|lane| first_cell + cell(lane), x, dy);
                Lanes::map_in_f64([g, x], |lane, [g, x]| {
                    let Gradient { a, b, k } = gradients[cell(lane)];
                    a * g + b * (x - self.centers[first_cell + cell(lane)]) + k
                })
            },
        );
    }
}

impl<T: Element> Apply for GradientPass<'_, '_, T> {
    type Coefficients = Gradient;
    const BF16: bool = T::BF16;

    fn activation(&self) -> Activation {
        self.pre_activations.activation
    }

    #[inline(always)]
    fn run<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        cell: usize,
        gradient: &Gradient,
        ahead: Prefetch,
    ) {
        if center_needs_f64::<T::Acc>(self.centers[cell]) {
            return self.in_f64(range, cell, std::slice::from_ref(gradient));
        }
        let [a, b, p, k, center] = gradient.rounded(self.centers[cell]).map(Lanes::splat);
        let z = self.pre_activations.cell(epilogue, cell);
        let x = &self.x[range.clone()];
        // SAFETY: a pass writes each range once, after all reductions that read it.
        unsafe { self.dy_dx.span(range) }.prefetch(ahead).map_with::<S, _>(
            x,
            Constant::<true>,
            #[inline(always)]
            |_, (), dy, x| a * z.g(x, dy) + b * ((x - center) * p) + k,
        );
    }

    #[inline(always)]
    fn rows<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        first_cell: usize,
        gradients: &[Gradient],
        ahead: Prefetch,
    ) {
        let centers = &self.centers[first_cell..first_cell + gradients.len()];
        if centers.iter().any(|center| center_needs_f64::<T::Acc>(*center)) {
            return self.in_f64(range, first_cell, gradients);
        }
        let columns = Columns::new(gradients.len(), range.len() / gradients.len());
        let rows = columns.spread(
            #[inline(always)]
            |cell| gradients[cell].rounded::<T::Acc>(centers[cell]),
        );
        // before an activation, the place of an element counts
        let pairs =
            if E::NONE { columns.pairs::<T, 5>(&rows) } else { [const { Aligned::NONE }; 5] };
        let [rows, pairs] = [&rows, &pairs].map(
            #[inline(always)]
            |of| of.each_ref().map(|row| &**row),
        );
        let z = self.pre_activations.columns(epilogue, &columns, first_cell);
        let x = &self.x[range.clone()];
        // SAFETY: as above.
        let mut span = unsafe { self.dy_dx.span(range) };
        for part in columns.spans(span.len()) {
            let width = columns.width();
            span.part(part.clone()).prefetch(ahead).map_with::<S, _>(
                &x[part],
                columns.repeated(rows, pairs),
                #[inline(always)]
                |at, [a, b, p, k, center], dy, x| {
                    let g = if E::NONE { dy } else { z.g(at % width, x, dy) };
                    a * g + b * ((x - center) * p) + k
                },
            );
        }
    }

    #[inline(always)]
    fn ahead(&self, elements: usize, distance: usize) -> Prefetch {
        Prefetch::new::<[T; 2]>(elements, distance)
    }

    #[inline(always)]
    fn written(&self) {
        self.dy_dx.written();
    }
}
