//! The affine pass: y = (x − center) · scale + offset, with three numbers a cell.
//!
//! The center is subtracted before anything is multiplied, so nothing cancels when |center| is large. A center that the
//! computing type cannot hold is split: the near part is subtracted, the rest goes into the offset.

use std::ops::Range;

use super::buffers::{Shared, Span};
use super::columns::Columns;
use super::dispatch::{Kernel, dispatch};
use super::lanes::Lanes;
use super::sweep::Apply;
use crate::element::{Element, Real};

/// What the affine pass does to a cell: y = (x − center) · scale + offset.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affine {
    /// Subtracted first: usually the mean.
    pub center: f64,
    /// Multiplied second.
    pub scale: f64,
    /// Added last.
    pub offset: f64,
}

impl Affine {
    /// The same map with a center that `A` holds exactly.
    pub(super) fn rounded<A: Real>(self) -> Self {
        let center = A::from_f64(self.center).to_f64();
        Self { center, scale: self.scale, offset: self.offset + self.scale * (center - self.center) }
    }
}

pub(super) struct AffinePass<'a, 'b, T>(pub(super) &'a Shared<'b, T>);

impl<T: Element> Apply for AffinePass<'_, '_, T> {
    type Coefficients = Affine;

    fn run(&self, range: Range<usize>, _cell: usize, affine: &Affine) {
        // SAFETY: a pass writes each range once, after all reductions that read it.
        dispatch(Run(unsafe { self.0.span(range) }, affine.rounded::<T::Acc>()));
    }

    fn rows(&self, range: Range<usize>, _first_cell: usize, affines: &[Affine]) {
        // SAFETY: as above.
        dispatch(Rows(unsafe { self.0.span(range) }, affines));
    }
}

struct Run<'a, T>(Span<'a, T>, Affine);

impl<T: Element> Kernel for Run<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let [center, scale, offset] =
            [self.1.center, self.1.scale, self.1.offset].map(|v| Lanes::splat(T::Acc::from_f64(v)));
        self.0.map(
            #[inline(always)]
            |_, x| (x - center) * scale + offset,
        );
    }
}

struct Rows<'a, 'b, T>(Span<'a, T>, &'b [Affine]);

impl<T: Element> Kernel for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let zero = T::Acc::default();
        let inner = self.1.len();
        let columns = Columns::new(inner, self.0.len() / inner);
        let affines: Vec<Affine> = self.1.iter().map(|affine| affine.rounded::<T::Acc>()).collect();
        let center = columns.spread::<T::Acc>(|cell| affines[cell].center);
        let scale = columns.spread::<T::Acc>(|cell| affines[cell].scale);
        let offset = columns.spread::<T::Acc>(|cell| affines[cell].offset);
        for (part, width) in columns.parts(self.0.len()) {
            for row in part.clone().step_by(width) {
                self.0.part(row..row + width).map(
                    #[inline(always)]
                    |j, x| {
                        (x - Lanes::load(&center, j, zero)) * Lanes::load(&scale, j, zero)
                            + Lanes::load(&offset, j, zero)
                    },
                );
            }
        }
    }
}
