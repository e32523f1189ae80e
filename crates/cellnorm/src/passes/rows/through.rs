//! The gradient behind a row's activation: g = dy · act′(z), z = γ x̂ + β.

use crate::element::Real;
use crate::passes::Activation;
use crate::passes::lanes::Lanes;

/// What leads from x to z in one row.
pub(super) struct Through<'a, A> {
    pub(super) activation: Activation,
    /// The row's center, scale and offset: x̂.
    pub(super) affine: [A; 3],
    pub(super) gamma: &'a [A],
    pub(super) beta: &'a [A],
}

impl<A: Real> Through<'_, A> {
    /// g of the elements from `at`, given x̂.
    #[inline(always)]
    pub(super) fn g(&self, at: usize, normalized: Lanes<A>, dy: Lanes<A>) -> Lanes<A> {
        if self.activation == Activation::Identity {
            return dy;
        }
        dy * self.activation.slope(normalized * Lanes::load(self.gamma, at) + Lanes::load(self.beta, at))
    }

    /// g of one element.
    #[inline(always)]
    pub(super) fn g_of_one(&self, at: usize, normalized: A, dy: A) -> A {
        if self.activation == Activation::Identity {
            return dy;
        }
        dy * self.activation.slope(Lanes::splat(normalized * self.gamma[at] + self.beta[at])).0[0]
    }
}
