//! The gradient behind a row's activation: g = dy · act′(z), z = γ x̂ + β.

use crate::element::Real;
use crate::passes::activation::Epilogue;
use crate::passes::lanes::Lanes;
use crate::passes::vectors::{Portable, Vectors};

/// What leads from x to z in one row.
pub(super) struct Through<'a, A, E> {
    pub(super) epilogue: E,
    /// The row's center, scale and offset: x̂.
    pub(super) affine: [A; 3],
    pub(super) gamma: &'a [A],
    pub(super) beta: &'a [A],
}

impl<A: Real, E: Epilogue> Through<'_, A, E> {
    /// g of the elements from `at`, given x̂.
    #[inline(always)]
    pub(super) fn g<S: Vectors>(
        &self,
        at: usize,
        normalized: Lanes<A, S>,
        dy: Lanes<A, S>,
    ) -> Lanes<A, S> {
        if E::NONE {
            return dy;
        }
        dy * self
            .epilogue
            .slope(normalized * Lanes::load(self.gamma, at) + Lanes::load(self.beta, at))
    }

    /// g of one element.
    #[inline(always)]
    pub(super) fn g_of_one(&self, at: usize, normalized: A, dy: A) -> A {
        if E::NONE {
            return dy;
        }
        let z = normalized * self.gamma[at] + self.beta[at];
        dy * self.epilogue.slope(Lanes::<A, Portable>::splat(z)).to_array()[0]
    }
}
