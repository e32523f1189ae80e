//! The fused operations behind the layers: one backend extension, with an implementation for Flex
//! and one autodiff node for each operation.
//!
//! Burn dispatches them by the device of their tensors. On a device without an implementation, the
//! same normalizations are composed of Burn's own operations.

#[cfg(feature = "flex")]
mod arranged;
mod autodiff;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod pool;
mod spec;

#[cfg(feature = "flex")]
pub use pool::keep_buffers;
pub use spec::Spec;
pub(crate) use spec::{CellSpec, Form, LineLayer, Ranks, RuleFormula, RunningUse};

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, DispatchDevice, backend_extension};
use cellnorm::shape::Cells;

/// The operations that a backend implements for the layers to run fused.
#[backend_extension(Flex: cfg(feature = "flex"), Autodiff)]
pub trait NormOps: Backend {
    /// (y, tables). `others` are β and the rule's other parameters, one after another. The tables
    /// are f64 and detached from the graph:
    ///
    /// * in closed form the mean and the variance of each set, \[2 · sets\];
    /// * of cells, the mean and M2 of each, \[2 · cells\], and after them mean, variance and number
    ///   of values that running averages move toward, \[3 · averages\], where there are any;
    /// * of lines and with given statistics none, \[0\].
    fn normalize(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        others: FloatTensor<Self>,
        spec: Spec,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// (dx, dγ, the gradient of the others) of [`normalize`](Self::normalize).
    fn normalize_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        others: FloatTensor<Self>,
        tables: FloatTensor<Self>,
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

/// Whether a device has an implementation of [`NormOps`].
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
