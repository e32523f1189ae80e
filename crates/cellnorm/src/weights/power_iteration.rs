//! Power iteration: the singular vectors u and v of a matrix W that belong to its largest singular
//! value σ = uᵀ W v.
//!
//! u ← W v / ‖W v‖ and v ← Wᵀ u / ‖Wᵀ u‖ in turn. Every round takes what u and v have of the other
//! singular vectors down by (σ₂ / σ)² at least, with σ₂ the second largest singular value.
//!
//! Source: G. H. Golub, C. F. Van Loan, *Matrix Computations*, 4th edition 2013, 8.2.1, for Wᵀ W.

use ndarray::{Array1, ArrayView2};

use crate::{error::Error, norms::LpNorm};

/// Which singular vector a power iteration renews first, and so what is remembered between steps.
///
/// | | an iteration | σ after it | remembered | inference | frameworks |
/// |---|---|---|---|---|---|
/// | `LeftFirst` | u ← W v / ‖W v‖, v ← Wᵀ u / ‖Wᵀ u‖ | ‖Wᵀ u‖ | u and v | takes u and v as they are | PyTorch |
/// | `RightFirst` | v ← Wᵀ u / ‖Wᵀ u‖, u ← W v / ‖W v‖ | ‖W v‖ | u | iterates as training does, but keeps nothing | Flax; Keras 3, tf.keras 2 and TensorFlow Addons in training |
///
/// Both find the same σ. Where they have not found it yet their numbers differ, so to go on with a
/// checkpoint take the order that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Iteration {
    /// u, then v, which both start the next iteration or inference.
    #[default]
    LeftFirst,
    /// v, then u. v is made of u anew, so u alone is remembered.
    RightFirst,
}

impl Iteration {
    /// u and v after `rounds` iterations. `unit` divides vectors by their length; one without a
    /// length keeps what was there.
    pub(super) fn run(
        self,
        rounds: usize,
        matrix: ArrayView2<'_, f64>,
        (mut u, mut v): (Array1<f64>, Array1<f64>),
        unit: &LpNorm,
    ) -> Result<(Array1<f64>, Array1<f64>), Error> {
        for _ in 0..rounds {
            match self {
                Self::LeftFirst => {
                    u = renewed(matrix.dot(&v), u, unit)?;
                    v = renewed(matrix.t().dot(&u), v, unit)?;
                }
                Self::RightFirst => {
                    v = renewed(matrix.t().dot(&u), v, unit)?;
                    u = renewed(matrix.dot(&v), u, unit)?;
                }
            }
        }
        Ok((u, v))
    }
}

/// The vector divided by its length, or the old vector.
pub(super) fn renewed(
    vector: Array1<f64>,
    before: Array1<f64>,
    unit: &LpNorm,
) -> Result<Array1<f64>, Error> {
    Ok(unit.divided(&vector.to_vec())?.map_or(before, Array1::from_vec))
}
