//! The gradient pass: dx = A · dy + B · (x − center) + K, with three numbers a cell.

use std::ops::Range;

use super::buffers::{Shared, Span};
use super::columns::Columns;
use super::dispatch::{Kernel, dispatch};
use super::lanes::Lanes;
use super::sweep::Apply;
use crate::element::{Element, Real};

/// What the gradient pass does to a cell: dx = a · dy + b · (x − center) + k.
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
    /// \[a, b / p, p, k, center\] in the computing type: dx = a · dy + (b / p) · ((x − center) · p) + k.
    ///
    /// b is about 1/σ², which an f32 cannot hold for σ below 1e-19 or above 1e19. p, a power of two near √|b|, takes half of its
    /// magnitude and, being a power of two, changes no digit. The center is the nearest that `A` holds.
    pub(super) fn rounded<A: Real>(self, center: f64) -> [A; 5] {
        let near = A::from_f64(center).to_f64();
        let exponent = (self.b.abs().log2() / 2.0).round();
        let p = if exponent.is_finite() { exponent.exp2() } else { 1.0 };
        [self.a, self.b / p, p, self.k + self.b * (near - center), near].map(A::from_f64)
    }
}

pub(super) struct GradientPass<'a, 'b, T> {
    pub(super) x: &'a [T],
    pub(super) dy_dx: &'a Shared<'b, T>,
    /// The center of each cell.
    pub(super) centers: &'a [f64],
}

impl<T: Element> Apply for GradientPass<'_, '_, T> {
    type Coefficients = Gradient;

    fn run(&self, range: Range<usize>, cell: usize, gradient: &Gradient) {
        let (x, center) = (&self.x[range.clone()], self.centers[cell]);
        // SAFETY: a pass writes each range once, after all reductions that read it.
        let span = unsafe { self.dy_dx.span(range) };
        dispatch(Run { x, span, gradient: gradient.rounded(center) });
    }

    fn rows(&self, range: Range<usize>, first_cell: usize, gradients: &[Gradient]) {
        let centers = &self.centers[first_cell..first_cell + gradients.len()];
        let x = &self.x[range.clone()];
        // SAFETY: as above.
        let span = unsafe { self.dy_dx.span(range) };
        dispatch(Rows { x, span, centers, gradients });
    }
}

struct Run<'a, T: Element> {
    x: &'a [T],
    span: Span<'a, T>,
    gradient: [T::Acc; 5],
}

impl<T: Element> Kernel for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let zero = T::Acc::default();
        let [a, b, p, k, center] = self.gradient.map(Lanes::splat);
        self.span.map(
            #[inline(always)]
            |at, dy| a * dy + b * ((Lanes::load(self.x, at, zero) - center) * p) + k,
        );
    }
}

struct Rows<'a, T> {
    x: &'a [T],
    span: Span<'a, T>,
    centers: &'a [f64],
    gradients: &'a [Gradient],
}

impl<T: Element> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let zero = T::Acc::default();
        let inner = self.gradients.len();
        let columns = Columns::new(inner, self.x.len() / inner);
        let rounded: Vec<[T::Acc; 5]> =
            self.gradients.iter().zip(self.centers).map(|(g, center)| g.rounded(*center)).collect();
        let [a, b, p, k, center] = [0, 1, 2, 3, 4].map(|i| columns.spread::<T::Acc>(|cell| rounded[cell][i].to_f64()));
        for (part, width) in columns.parts(self.x.len()) {
            for row in part.clone().step_by(width) {
                let x = &self.x[row..row + width];
                self.span.part(row..row + width).map(
                    #[inline(always)]
                    |j, dy| {
                        let centered = Lanes::load(x, j, zero) - Lanes::load(&center, j, zero);
                        Lanes::load(&a, j, zero) * dy
                            + Lanes::load(&b, j, zero) * (centered * Lanes::load(&p, j, zero))
                            + Lanes::load(&k, j, zero)
                    },
                );
            }
        }
    }
}
