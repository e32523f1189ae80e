//! Rows in inference, as in a language model that answers token by token: an operation of the graph
//! would take longer than the row.

use std::ops::Deref;

use candle_core::{Layout, Storage, Tensor};
use cellnorm::kernels::Buffers;
use cellnorm::rule::{Norm, Rule};
use cellnorm::{
    kernels::{Parameters, Real},
    rule::check_epsilon,
};

use super::{NamedTensor, parameter, tracks};
use crate::numbers::{Number, finite, untracked};

/// y of rows along the last axes of x, those of γ, where no gradient is wanted, everything is
/// row-major and of one type, f32 or f64, and nothing is wrong; else None, and the operation finds
/// the reason.
pub(crate) fn infer_rows<R: Rule>(
    norm: &Norm<R>,
    x: &Tensor,
    parameters: &[NamedTensor],
) -> Option<Tensor> {
    let (gamma, beta) = (parameter(parameters, "gamma")?, parameter(parameters, "beta"));
    let fits =
        x.dims().ends_with(gamma.dims()) && beta.is_none_or(|beta| beta.dims() == gamma.dims());
    if !fits || x.track_op() || tracks(parameters) || check_epsilon(norm.epsilon).is_err() {
        return None;
    }
    infer::<f32, R>(norm, x, gamma, beta).or_else(|| infer::<f64, R>(norm, x, gamma, beta))
}

fn infer<T: Number + Real, R: Rule>(
    norm: &Norm<R>,
    x: &Tensor,
    gamma: &Tensor,
    beta: Option<&Tensor>,
) -> Option<Tensor> {
    let (locked, locked_gamma) = (x.storage_and_layout(), gamma.storage_and_layout());
    let locked_beta = beta.map(Tensor::storage_and_layout);
    let (elements, gamma) = (row_major::<T>(&locked)?, row_major::<T>(&locked_gamma)?);
    let beta = match &locked_beta {
        Some(locked) => Some(row_major::<T>(locked)?),
        None => None,
    };
    if gamma.len() < 2 || elements.is_empty() {
        return None;
    }
    let parameters = Parameters { gamma: Some(gamma), beta, activation: norm.activation };
    let mut y = vec![];
    let x_y = Buffers::Into(elements, &mut y);
    let statistics = R::CENTERING.rows(x_y, gamma.len(), norm.epsilon, parameters);
    // NaN and infinity in x show in the statistics of their row
    let sound = finite(&statistics.mean) && finite(&statistics.variance);
    (sound && finite(gamma) && beta.is_none_or(finite))
        .then(|| untracked(T::to_cpu_storage_owned(y), x.shape()))
}

/// The elements of a tensor on the CPU, where they are of this type and row-major.
fn row_major<'a, T: Number>(
    (storage, layout): &'a (impl Deref<Target = Storage>, &Layout),
) -> Option<&'a [T]> {
    let Storage::Cpu(storage) = &**storage else { return None };
    let (start, end) = layout.contiguous_offsets()?;
    storage.as_slice::<T>().ok()?.get(start..end)
}
