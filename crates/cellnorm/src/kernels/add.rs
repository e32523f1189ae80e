//! y = x + other, for a residual where a normalization is not of rows.

use std::ops::Range;

use super::buffers::Shared;
use super::coefficients::Constant;
use super::dispatch::{Kernel, dispatch};
use super::threads;
use super::vectors::Vectors;
use crate::kernels::Element;

/// # Panics
/// If they differ in length.
pub(super) fn run<T: Element>(x_y: &Shared<'_, T>, other: &[T]) {
    assert_eq!(other.len(), x_y.len(), "what is added differs in length");
    threads::map(x_y.len(), 1, |range| dispatch(Add { x_y, other, range }));
}

struct Add<'a, 'b, T> {
    x_y: &'a Shared<'b, T>,
    other: &'a [T],
    range: Range<usize>,
}

impl<T: Element> Kernel for Add<'_, '_, T> {
    type Output = ();
    const BF16: bool = T::BF16;

    #[inline(always)]
    fn run<S: Vectors>(self) {
        // SAFETY: each range belongs to one task.
        unsafe { self.x_y.span(self.range.clone()) }.map_with::<S, _>(
            &self.other[self.range],
            Constant::<true>,
            #[inline(always)]
            |_, (), x, other| x + other,
        );
        self.x_y.written();
    }
}
