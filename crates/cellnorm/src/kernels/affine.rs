//! The affine pass: y = (x − center) · scale + offset, with three numbers a cell.
//!
//! The center is subtracted before anything is multiplied, so nothing cancels when |center| is
//! large. A center that the computing type cannot hold is split: the near part is subtracted, the
//! rest goes into the offset.

use std::ops::Range;

use super::activation::{Activation, Epilogue};
use super::buffers::Shared;
use super::coefficients::Constant;
use super::columns::Columns;
use super::lanes::Lanes;
use super::segments::Apply;
use super::span::Prefetch;
use super::vectors::{Portable, Vectors};
use crate::kernels::{Element, Real};

/// The affine map of a cell: y = (x − center) · scale + offset.
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
    /// Whether the map cannot be computed in `A` to all its digits: the center is too far, or the
    /// scale too small for all digits.
    #[inline(always)]
    pub(super) fn needs_f64<A: Real>(&self) -> bool {
        center_needs_f64::<A>(self.center) || self.scale != 0.0 && self.scale.abs() < A::LEAST
    }

    /// y in f64.
    pub(super) fn apply(self, x: f64) -> f64 {
        (x - self.center) * self.scale + self.offset
    }

    /// \[center, scale, offset\] of the same map in the computing type, with a center that `A`
    /// holds exactly.
    #[inline(always)]
    pub(super) fn rounded<A: Real>(self) -> [A; 3] {
        let center = A::from_f64(self.center);
        let offset = self.offset + self.scale * (center.to_f64() - self.center);
        [center, A::from_f64(self.scale), A::from_f64(offset)]
    }
}

/// Whether the center is so far from 0 that x − `center` can leave `A`: the passes go on in f64,
/// one lane at a time.
///
/// The difference of two f32 overflows only where one of them is at least 2¹⁰³, half of the largest
/// number's last place. Such a mean is rare, but it is the mean of bf16 and f32 rows near the
/// largest number.
#[inline(always)]
pub(super) fn center_needs_f64<A: Real>(center: f64) -> bool {
    center.abs() >= A::FAR
}

/// y = act((x − center) · scale + offset).
pub(super) struct AffinePass<'a, 'b, T> {
    pub(super) x_y: &'a Shared<'b, T>,
    pub(super) activation: Activation,
}

impl<T: Element> AffinePass<'_, '_, T> {
    /// `rows` for maps that need f64.
    #[cold]
    #[inline(never)]
    fn in_f64(&self, range: Range<usize>, affines: &[Affine]) {
        // SAFETY: a pass writes each range once, after all reductions that read it.
        unsafe { self.x_y.span(range) }.map::<Portable, _>(Constant::<false>, |at, (), x| {
            let z =
                Lanes::map_in_f64([x], |lane, [x]| affines[(at + lane) % affines.len()].apply(x));
            self.activation.apply(z)
        });
    }
}

impl<T: Element> Apply for AffinePass<'_, '_, T> {
    type Coefficients = Affine;
    const BF16: bool = T::BF16;

    fn activation(&self) -> Activation {
        self.activation
    }

    #[inline(always)]
    fn run<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        _cell: usize,
        affine: &Affine,
        ahead: Prefetch,
    ) {
        if affine.needs_f64::<T::Acc>() {
            return self.in_f64(range, std::slice::from_ref(affine));
        }
        let [center, scale, offset] = affine.rounded::<T::Acc>().map(Lanes::splat);
        // SAFETY: a pass writes each range once, after all reductions that read it.
        unsafe { self.x_y.span(range) }.prefetch(ahead).map::<S, _>(
            Constant::<true>,
            #[inline(always)]
            |_, (), x| epilogue.apply((x - center) * scale + offset),
        );
    }

    #[inline(always)]
    fn rows<S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        range: Range<usize>,
        _first_cell: usize,
        affines: &[Affine],
        ahead: Prefetch,
    ) {
        if affines.iter().any(Affine::needs_f64::<T::Acc>) {
            return self.in_f64(range, affines);
        }
        let columns = Columns::new(affines.len(), range.len() / affines.len());
        let rows = columns.spread(
            #[inline(always)]
            |cell| affines[cell].rounded::<T::Acc>(),
        );
        let pairs = columns.pairs::<T, 3>(&rows);
        let [rows, pairs] = [&rows, &pairs].map(
            #[inline(always)]
            |of| of.each_ref().map(|row| &**row),
        );
        // SAFETY: as above.
        let mut span = unsafe { self.x_y.span(range) };
        for part in columns.spans(span.len()) {
            span.part(part).prefetch(ahead).map::<S, _>(
                columns.repeated(rows, pairs),
                #[inline(always)]
                |_, [center, scale, offset], x| epilogue.apply((x - center) * scale + offset),
            );
        }
    }

    #[inline(always)]
    fn ahead(&self, elements: usize, distance: usize) -> Prefetch {
        Prefetch::new::<T>(elements, distance)
    }

    #[inline(always)]
    fn written(&self) {
        self.x_y.written();
    }
}
