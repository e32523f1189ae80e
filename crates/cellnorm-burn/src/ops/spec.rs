//! What a fused operation needs to know besides its tensors.

use cellnorm::norms::{Kind, Roles};
use cellnorm::{About, Error};

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
}

impl Spec {
    /// The normalization of this kind for tensors of this shape.
    ///
    /// # Errors
    /// If the shape does not suit the kind.
    pub fn new<K: Kind>(kind: &K, shape: &[usize], epsilon: f64, scale: bool, center: bool) -> Result<Self, Error> {
        let roles = kind.roles(shape, scale || center)?;
        Ok(Self { roles, about: K::ABOUT, epsilon, scale, center })
    }
}
