//! The gradient behind an activation: g = dy · act′(z), z = (x − center) · scale + offset.
//!
//! What a backward pass calls dy is g where the forward pass ended with an activation. It is computed from x, dy and the
//! coefficients of the forward pass, and never written.

use super::activation::Activation;
use super::affine::Affine;
use super::columns::Columns;
use super::lanes::Lanes;
use crate::element::Real;

/// The way of a gradient through the activation of each cell.
#[derive(Clone, Copy, Default)]
pub(super) struct Through<'a> {
    pub(super) activation: Activation,
    /// What the forward pass did to each cell; not looked at where the activation is the identity.
    pub(super) affines: &'a [Affine],
}

impl Through<'_> {
    /// That of one cell.
    #[inline(always)]
    pub(super) fn cell<A: Real>(&self, cell: usize) -> ThroughCell<A> {
        let identity = self.activation == Activation::Identity;
        let affine = if identity { Affine::default() } else { self.affines[cell] };
        ThroughCell { activation: self.activation, affine: affine.rounded().map(Lanes::splat) }
    }

    /// Those of the columns of rows whose first cell is `first_cell`.
    #[inline(always)]
    pub(super) fn columns<A: Real>(&self, columns: &Columns, first_cell: usize) -> ThroughColumns<A> {
        let identity = self.activation == Activation::Identity;
        let affine = if identity {
            [const { Vec::new() }; 3]
        } else {
            columns.spread(
                #[inline(always)]
                |cell| self.affines[first_cell + cell].rounded(),
            )
        };
        ThroughColumns { activation: self.activation, affine }
    }
}

/// The way through one cell's activation.
#[derive(Clone, Copy)]
pub(super) struct ThroughCell<A> {
    activation: Activation,
    affine: [Lanes<A>; 3],
}

impl<A: Real> ThroughCell<A> {
    #[inline(always)]
    pub(super) fn g(&self, x: Lanes<A>, dy: Lanes<A>) -> Lanes<A> {
        if self.activation == Activation::Identity {
            return dy;
        }
        let [center, scale, offset] = self.affine;
        dy * self.activation.slope((x - center) * scale + offset)
    }

    /// Of one element.
    #[inline(always)]
    pub(super) fn g_of_one(&self, x: A, dy: A) -> A {
        self.g(Lanes::splat(x), Lanes::splat(dy)).0[0]
    }
}

/// The way through the activations of columns.
pub(super) struct ThroughColumns<A> {
    activation: Activation,
    affine: [Vec<A>; 3],
}

impl<A: Real> ThroughColumns<A> {
    /// Of the columns from column j.
    #[inline(always)]
    pub(super) fn g(&self, j: usize, x: Lanes<A>, dy: Lanes<A>) -> Lanes<A> {
        if self.activation == Activation::Identity {
            return dy;
        }
        let [center, scale, offset] = &self.affine;
        dy * self.activation.slope((x - Lanes::load(center, j)) * Lanes::load(scale, j) + Lanes::load(offset, j))
    }

    /// Of one element in column j.
    #[inline(always)]
    pub(super) fn g_of_one(&self, j: usize, x: A, dy: A) -> A {
        if self.activation == Activation::Identity {
            return dy;
        }
        let [center, scale, offset] = &self.affine;
        let z = (x - center[j]) * scale[j] + offset[j];
        dy * self.activation.slope(Lanes::splat(z)).0[0]
    }
}
