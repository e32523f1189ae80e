//! The layer of a rule as one operation on tensors.
//!
//! On the CPU the operation is [fused]: the library's passes forward and backward, one node in
//! Candle's graph. On other devices the same layer is [composed] of Candle's own
//! operations, which Candle differentiates. Rows that no gradient is wanted of need [no
//! operation](rows).

mod composed;
mod fused;
mod rows;

#[cfg(test)]
pub(crate) use composed::normalize as composed_normalize;
pub(crate) use rows::infer_rows;

use candle_core::{DType, Result, Tensor};
use cellnorm::Mask;
use cellnorm::rule::{Norm, Rule};

/// A parameter by the library's name for it; None where the layer does not have it.
pub(crate) type NamedTensor = (&'static str, Option<Tensor>);

/// The parameter of this name.
pub(crate) fn parameter<'a>(parameters: &'a [NamedTensor], name: &str) -> Option<&'a Tensor> {
    parameters.iter().find(|(own, _)| *own == name)?.1.as_ref()
}

/// Whether a gradient is wanted of a parameter.
pub(crate) fn tracks(parameters: &[NamedTensor]) -> bool {
    parameters.iter().filter_map(|(_, tensor)| tensor.as_ref()).any(Tensor::track_op)
}

/// y of a layer with these parameters, over the values alone that a mask says are valid. `then`
/// sees the layer after the pass, whose running averages have moved as its mode says.
pub(crate) fn apply<R: Rule + 'static>(
    mut norm: Norm<R>,
    x: &Tensor,
    parameters: &[NamedTensor],
    mask: Option<&Mask>,
    then: impl FnOnce(&Norm<R>) -> Result<()>,
) -> Result<Tensor> {
    if x.device().is_cpu() {
        return fused::apply(norm, x, parameters, mask, then);
    }
    let y = composed::normalize(&mut norm, x, parameters, mask)?;
    then(&norm)?;
    Ok(y)
}

/// The type that composed operations compute in: f32 where x has fewer digits.
pub(crate) fn accumulator(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
