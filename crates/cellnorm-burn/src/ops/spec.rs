//! What a fused operation needs to know besides its tensors.

use cellnorm::norms::{Kind, Roles};
use cellnorm::{About, Activation, Error, check_epsilon};

/// How a tensor of one shape is normalized.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) roles: Roles,
    pub(crate) about: About,
    pub(crate) epsilon: f64,
    /// Whether γ is used; otherwise the tensor in its place is not looked at.
    pub(crate) scale: bool,
    /// Whether β is used.
    pub(crate) center: bool,
    /// What is applied to γ x̂ + β.
    pub(crate) activation: Activation,
    /// Whether the statistics are given rather than those of x; only the backward pass asks.
    pub(crate) fixed: bool,
}

impl Spec {
    /// The normalization of this kind for tensors of this shape.
    ///
    /// # Errors
    /// If the shape does not suit the kind, an axis is empty, or ε is not finite and at least
    /// 1e-36.
    pub fn new<K: Kind>(
        kind: &K,
        shape: &[usize],
        epsilon: f64,
        scale: bool,
        center: bool,
    ) -> Result<Self, Error> {
        check_epsilon(epsilon)?;
        let roles = kind.roles(shape, scale || center)?;
        if shape.contains(&0) {
            return Err(Error::Empty { shape: shape.to_vec() });
        }
        Ok(Self {
            roles,
            about: K::ABOUT,
            epsilon,
            scale,
            center,
            activation: Activation::Identity,
            fixed: false,
        })
    }

    /// The same with an activation behind it.
    pub fn activated(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }
}
