//! The second shape: rows whose affine parameters vary inside the set.
//!
//! Layer and RMS normalization with a parameter for each element see a tensor as rows × width, each
//! row a set of its own. A row fits the cache, so forward and backward are each one trip through
//! memory. With the normalized value x̂ = (x − center) · scale + offset, z = γ x̂ + β and g = dy ·
//! act′(z):
//!
//! y = act(z),   dx = a · γ g + b · (x − center) + k,   dγ = Σ_rows g · x̂,   dβ = Σ_rows g.
//!
//! The tables are those of the cell passes for a cell with γ = 1 and β = 0: they get the row's
//! moments forward, and Σ γ g and Σ γ g · (x − center) backward.
//!
//! A residual that is added before costs a read and a write more, and no trip of its own: forward,
//! h = x + r is written on the way, and x above is h; backward, the gradient that reaches h from
//! elsewhere is added to dx.

pub(super) mod backward;
pub(super) mod forward;
mod parameter_sums;

use std::ops::Deref;

use super::lanes::LANES;
use super::lines::Aligned;
use super::lines::LINE;
use super::{Activation, Parameters, vectorized};
use crate::kernels::Real;

pub use super::passes::{
    RowBackwardTable as BackwardTable, RowForwardTable as ForwardTable, rows_backward as backward,
    rows_forward as forward, rows_forward_add as forward_add,
};

/// The gradients of the parameters, each as long as a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParameterGradients {
    /// Σ_rows g · x̂.
    pub gamma: Vec<f64>,
    /// Σ_rows g.
    pub beta: Vec<f64>,
}

impl ParameterGradients {
    fn zeros(width: usize) -> Self {
        Self { gamma: vec![0.0; width], beta: vec![0.0; width] }
    }

    fn add(&mut self, part: &Self) {
        for (all, part) in [(&mut self.gamma, &part.gamma), (&mut self.beta, &part.beta)] {
            for (all, part) in all.iter_mut().zip(part) {
                *all += part;
            }
        }
    }
}

/// γ and β in the computing type.
pub(crate) struct Narrowed<A> {
    gamma: Option<Aligned<A>>,
    beta: Option<Aligned<A>>,
    activation: Activation,
}

impl<A: Real> Narrowed<A> {
    pub(crate) fn new(Parameters { gamma, beta, activation }: Parameters<'_>) -> Self {
        let narrow = |of: Option<&[f64]>| {
            let of = of?;
            let mut narrow = Aligned::new(of.len(), A::default());
            let (to, from) = (&mut *narrow, of);
            vectorized(
                #[inline(always)]
                || {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = A::from_f64(*from);
                    }
                },
            );
            Some(narrow)
        };
        Self { gamma: narrow(gamma), beta: narrow(beta), activation }
    }

    pub(crate) fn parameters(&self) -> Parameters<'_, A> {
        Parameters {
            gamma: self.gamma.as_deref(),
            beta: self.beta.as_deref(),
            activation: self.activation,
        }
    }
}

/// A parameter that begins at a line of memory, with room for a vector where a row is shorter than
/// one; an absent one is `absent`.
fn aligned_row<A: Real>(width: usize, values: Option<&[A]>, absent: f64) -> Row<'_, A> {
    let own = || Aligned::new(width.max(LANES), A::from_f64(absent));
    let Some(values) = values else { return Row::Owned(own()) };
    assert_eq!(values.len(), width, "a parameter is not as long as a row");
    if width >= LANES && values.as_ptr().align_offset(LINE) == 0 {
        return Row::Borrowed(values);
    }
    let mut row = own();
    row[..width].copy_from_slice(values);
    Row::Owned(row)
}

/// A parameter of the caller, or a copy.
enum Row<'a, A> {
    Borrowed(&'a [A]),
    Owned(Aligned<A>),
}

impl<A: Copy> Deref for Row<'_, A> {
    type Target = [A];

    fn deref(&self) -> &[A] {
        match self {
            Self::Borrowed(values) => values,
            Self::Owned(values) => values,
        }
    }
}

fn count(len: usize, width: usize) -> usize {
    assert!(width > 0 && len.is_multiple_of(width), "{len} elements are not rows of {width}");
    len / width
}
