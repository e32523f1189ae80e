//! The fused operations behind the layers: backend extensions with an implementation for Flex and
//! one autodiff node each.
//!
//! Burn dispatches them by the device of their tensors. On a device without an implementation,
//! [`crate::functions`] composes the same operations of Burn's own.

#[cfg(feature = "flex")]
mod arranged;
mod autodiff;
#[cfg(feature = "flex")]
mod flex;
mod lines;
#[cfg(feature = "flex")]
mod lines_flex;
#[cfg(feature = "flex")]
mod pool;
mod rules;
#[cfg(feature = "flex")]
mod rules_flex;
mod spec;

pub use lines::{LineOps, LineSpec};
#[cfg(feature = "flex")]
pub use pool::keep_buffers;
pub(crate) use rules::AnyFormula;
pub use rules::{RuleOps, RuleSpec};
pub use spec::Spec;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchDevice, backend_extension};
use cellnorm::Cells;

/// The operations that a backend implements for the layers to run fused.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub trait NormOps: Backend {
    /// (y, mean, variance) with the statistics of x; statistics are f64, one for each set, detached
    /// from the graph.
    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        spec: Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// y with given statistics, which get no gradient.
    fn normalize_fixed(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        spec: Spec,
    ) -> FloatTensor<Self>;

    /// (dx, dγ, dβ); β is looked at where there is an activation; the spec says whether the
    /// statistics came from x.
    fn normalize_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        spec: Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// \[2, cells\], f64: the mean and the biased variance of each cell.
    fn cell_moments(x: FloatTensor<Self>, cells: Cells) -> FloatTensor<Self>;

    /// dx from the gradients of [`cell_moments`](Self::cell_moments).
    fn cell_moments_backward(
        x: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        dmoments: FloatTensor<Self>,
        cells: Cells,
    ) -> FloatTensor<Self>;

    /// y = (x − center) · scale + offset for each cell.
    fn cell_affine(
        x: FloatTensor<Self>,
        center: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        offset: FloatTensor<Self>,
        cells: Cells,
    ) -> FloatTensor<Self>;

    /// (dx, dcenter, dscale, doffset) of [`cell_affine`](Self::cell_affine).
    fn cell_affine_backward(
        x: FloatTensor<Self>,
        center: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        cells: Cells,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Whether a device has an implementation of [`NormOps`], [`RuleOps`] and [`LineOps`].
pub(crate) fn is_fused(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Autodiff(inner) => is_fused(inner),
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[allow(
            unreachable_patterns,
            reason = "which devices there are depends on Burn's features"
        )]
        _ => false,
    }
}
