//! The gradient behind a row's activation: g = dy · act′(z), z = γ x̂ + β.

use crate::element::Real;
use crate::passes::activation::Behind;
use crate::passes::lanes::Lanes;
use crate::passes::vectors::{Portable, Vectors};

/// What leads from x to z in one row.
pub(super) struct Through<'a, A, F> {
    pub(super) behind: F,
    /// The row's center, scale and offset: x̂.
    pub(super) affine: [A; 3],
    pub(super) gamma: &'a [A],
    pub(super) beta: &'a [A],
}

impl<A: Real, F: Behind> Through<'_, A, F> {
    /// g of the elements from `at`, given x̂.
    #[inline(always)]
    pub(super) fn g<S: Vectors>(
        &self,
        at: usize,
        normalized: Lanes<A, S>,
        dy: Lanes<A, S>,
    ) -> Lanes<A, S> {
        if F::NOTHING {
            return dy;
        }
        dy * self
            .behind
            .slope(normalized * Lanes::load(self.gamma, at) + Lanes::load(self.beta, at))
    }

    /// g of one element.
    #[inline(always)]
    pub(super) fn g_of_one(&self, at: usize, normalized: A, dy: A) -> A {
        if F::NOTHING {
            return dy;
        }
        let z = normalized * self.gamma[at] + self.beta[at];
        dy * self.behind.slope(Lanes::<A, Portable>::splat(z)).to_array()[0]
    }
}
