//! A layer of the library as one operation on tensors.
//!
//! On the CPU the operation is [fused]: the library's passes forward and backward, one node in
//! Candle's graph. On other devices the same layer is [composed](crate::composed) of Candle's own
//! operations, which Candle differentiates. Rows that no gradient is wanted of need [no
//! operation](rows).

mod fused;
mod impls;
mod kinds;
mod rows;

pub(crate) use impls::BatchLayer;
pub(crate) use rows::inferred;

use candle_core::{DType, Tensor};
use cellnorm::tables::Mask;
use cellnorm::{Element, Error};
use ndarray::{ArrayD, ArrayViewD};

/// A layer on arrays, as an operation runs it. Its parameters are numbered: their slots.
pub(crate) trait Layer: Clone + Send + Sync + 'static {
    /// Its name in messages.
    const NAME: &'static str;

    /// What backward needs besides x and the layer.
    type Saved: Send + Sync + 'static;

    /// Sets the parameter of a slot.
    fn set(&mut self, slot: usize, values: ArrayD<f64>);

    /// y, over the values alone that a mask says are valid; running averages move as the layer's
    /// mode says.
    fn forward<T: Element>(
        &mut self,
        x: ArrayViewD<'_, T>,
        mask: Option<&Mask>,
    ) -> Result<(ArrayD<T>, Self::Saved), Error>;

    /// The gradients of x and of each slot's parameter, where the layer has it.
    fn backward<T: Element>(
        &self,
        saved: &Self::Saved,
        x: ArrayViewD<'_, T>,
        dy: ArrayViewD<'_, T>,
    ) -> Result<(ArrayD<T>, Slots), Error>;

    /// As [`forward`](Self::forward), of Candle's own operations.
    fn composed(
        &mut self,
        x: &Tensor,
        parameters: &[Option<Tensor>],
        mask: Option<&Mask>,
    ) -> candle_core::Result<Tensor>;
}

/// The gradient of each slot's parameter.
pub(crate) type Slots = Vec<Option<ArrayD<f64>>>;

/// y of a layer with these parameters, one for each slot. `then` sees the layer after the pass,
/// with its averages moved.
pub(crate) fn apply<L: Layer>(
    mut layer: L,
    x: &Tensor,
    parameters: &[Option<Tensor>],
    mask: Option<&Mask>,
    then: impl FnOnce(&L) -> candle_core::Result<()>,
) -> candle_core::Result<Tensor> {
    if x.device().is_cpu() {
        return fused::apply(layer, x, parameters, mask, then);
    }
    let y = layer.composed(x, parameters, mask)?;
    then(&layer)?;
    Ok(y)
}

/// The type that composed operations compute in: f32 where x has fewer digits.
pub(crate) fn computing(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
