//! The gradient before an activation: g = dy · act′(z), z = (x − center) · scale + offset.
//!
//! Where the forward pass ended with an activation, the dy of a backward pass is g. It is
//! computed from x, dy and the coefficients of the forward pass, and never written.

use super::activation::{Activation, Epilogue};
use super::affine::Affine;
use super::columns::{Columns, apart};
use super::lanes::Lanes;
use super::lines::Aligned;
use super::vectors::{Portable, Vectors};
use crate::kernels::{Element, Real};

/// The affine maps that led to each cell's pre-activations z, and the activation.
#[derive(Clone, Copy, Debug)]
pub struct PreActivations<'a> {
    pub(super) activation: Activation,
    /// The affine map of each cell in the forward pass; ignored where there is no activation.
    pub(super) affines: &'a [Affine],
}

impl PreActivations<'static> {
    /// g = dy.
    pub(super) const NONE: Self = Self { activation: Activation::Identity, affines: &[] };
}

impl PreActivations<'_> {
    /// g of elements whose maps need f64, given the cell of each lane.
    pub(super) fn g_in_f64<A: Real, S: Vectors>(
        &self,
        cell: impl Fn(usize) -> usize,
        x: Lanes<A, S>,
        dy: Lanes<A, S>,
    ) -> Lanes<A, S> {
        if self.activation == Activation::Identity {
            return dy;
        }
        dy * self
            .activation
            .slope(Lanes::map_in_f64([x], |lane, [x]| self.affines[cell(lane)].apply(x)))
    }

    /// That of one cell.
    #[inline(always)]
    pub(super) fn cell<A: Real, S: Vectors, E: Epilogue>(
        &self,
        epilogue: E,
        cell: usize,
    ) -> CellPreActivation<A, S, E> {
        let affine = if E::NONE { Affine::default() } else { self.affines[cell] };
        CellPreActivation { epilogue, affine: affine.rounded().map(Lanes::splat) }
    }

    /// The coefficients of the columns of rows whose first cell is `first_cell`.
    #[inline(always)]
    pub(super) fn columns<A: Real, E: Epilogue>(
        &self,
        epilogue: E,
        columns: &Columns,
        first_cell: usize,
    ) -> ColumnPreActivations<A, E> {
        let affine = if E::NONE {
            [const { Aligned::NONE }; 3]
        } else {
            columns.spread(
                #[inline(always)]
                |cell| self.affines[first_cell + cell].rounded(),
            )
        };
        ColumnPreActivations { epilogue, affine }
    }
}

/// The way through one cell's activation.
#[derive(Clone, Copy)]
pub(super) struct CellPreActivation<A: Real, S: Vectors, E> {
    epilogue: E,
    affine: [Lanes<A, S>; 3],
}

impl<A: Real, S: Vectors, E: Epilogue> CellPreActivation<A, S, E> {
    #[inline(always)]
    pub(super) fn g(&self, x: Lanes<A, S>, dy: Lanes<A, S>) -> Lanes<A, S> {
        if E::NONE {
            return dy;
        }
        let [center, scale, offset] = self.affine;
        dy * self.epilogue.slope((x - center) * scale + offset)
    }

    /// Of one element.
    #[inline(always)]
    pub(super) fn g_of_one(&self, x: A, dy: A) -> A {
        self.g(Lanes::splat(x), Lanes::splat(dy)).to_array()[0]
    }
}

/// The way through the activations of columns.
pub(super) struct ColumnPreActivations<A, E> {
    epilogue: E,
    affine: [Aligned<A>; 3],
}

impl<A: Real, E: Epilogue> ColumnPreActivations<A, E> {
    /// Of the columns from column j.
    #[inline(always)]
    pub(super) fn g<S: Vectors>(&self, j: usize, x: Lanes<A, S>, dy: Lanes<A, S>) -> Lanes<A, S> {
        if E::NONE {
            return dy;
        }
        let [center, scale, offset] = &self.affine;
        dy * self
            .epilogue
            .slope((x - Lanes::load(center, j)) * Lanes::load(scale, j) + Lanes::load(offset, j))
    }

    /// Center, scale and offset of K vectors of columns from column j, for
    /// [`g_of_columns`](Self::g_of_columns).
    #[inline(always)]
    pub(super) fn affine_of_columns<S: Vectors, T: Element<Acc = A>, const K: usize>(
        &self,
        j: usize,
    ) -> [[Lanes<A, S>; K]; 3] {
        let mut affine = [[Lanes::zero(); K]; 3];
        if !E::NONE {
            for (lanes, of_column) in affine.iter_mut().zip(&self.affine) {
                *lanes = apart::<S, T, K>(of_column, j);
            }
        }
        affine
    }

    /// Of K vectors of columns, as [`load_columns`](super::columns::load_columns) has them.
    #[inline(always)]
    pub(super) fn g_of_columns<S: Vectors, const K: usize>(
        &self,
        [center, scale, offset]: &[[Lanes<A, S>; K]; 3],
        x: [Lanes<A, S>; K],
        mut dy: [Lanes<A, S>; K],
    ) -> [Lanes<A, S>; K] {
        if E::NONE {
            return dy;
        }
        for k in 0..K {
            dy[k] = dy[k] * self.epilogue.slope((x[k] - center[k]) * scale[k] + offset[k]);
        }
        dy
    }

    /// Of one element in column j.
    #[inline(always)]
    pub(super) fn g_of_one(&self, j: usize, x: A, dy: A) -> A {
        if E::NONE {
            return dy;
        }
        let [center, scale, offset] = &self.affine;
        let z = (x - center[j]) * scale[j] + offset[j];
        dy * self.epilogue.slope(Lanes::<A, Portable>::splat(z)).to_array()[0]
    }
}

/// The maps that lead from x to z in one row, z = γ x̂ + β.
pub(super) struct RowPreActivation<'a, A, E> {
    pub(super) epilogue: E,
    /// The row's center, scale and offset: x̂.
    pub(super) affine: [A; 3],
    pub(super) gamma: &'a [A],
    pub(super) beta: &'a [A],
}

impl<A: Real, E: Epilogue> RowPreActivation<'_, A, E> {
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
