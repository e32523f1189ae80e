//! The second shape: rows whose affine parameters vary inside the set.
//!
//! Layer and RMS normalization with a parameter for each element see a tensor as rows × width, each row a set of its own. A row
//! fits the cache, so forward and backward are each one trip through memory. With the normalized value
//! x̂ = (x − center) · scale + offset, z = γ x̂ + β and g = dy · act′(z):
//!
//! y = act(z),   dx = a · γ g + b · (x − center) + k,   dγ = Σ_rows g · x̂,   dβ = Σ_rows g.
//!
//! The tables are those of the cell passes for a cell with γ = 1 and β = 0: they get the row's moments forward, and Σ γ g and
//! Σ γ g · (x − center) backward.
//!
//! A residual that is added before costs a read and a write more, and no trip of its own: forward, h = x + r is written on the
//! way, and x above is h; backward, the gradient that reaches h from elsewhere is added to dx.

mod backward;
mod forward;
mod near;
mod through;

pub use backward::backward;
pub use forward::{forward, forward_add};

use super::lanes::LANES;
use crate::element::Real;
use through::Through;

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

/// A parameter in the computing type, with room for a vector where a row is shorter than one; an absent one is `absent`.
fn parameter<A: Real>(width: usize, values: Option<&[f64]>, absent: f64) -> Vec<A> {
    let mut row = vec![A::from_f64(absent); width.max(LANES)];
    if let Some(values) = values {
        assert_eq!(values.len(), width, "a parameter is not as long as a row");
        for (row, value) in row.iter_mut().zip(values) {
            *row = A::from_f64(*value);
        }
    }
    row
}

fn count(len: usize, width: usize) -> usize {
    assert!(width > 0 && len.is_multiple_of(width), "{len} elements are not rows of {width}");
    len / width
}
