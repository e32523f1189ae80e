//! Rows in inference, as in a language model that answers token by token: an operation of the graph
//! would take longer than the row.

use candle_core::{Storage, Tensor};
use cellnorm::norms::Features;
use cellnorm::passes::Buffers;
use cellnorm::{About, Parameters, Real, check_epsilon};

use crate::numbers::{Number, elements, finite, of_storage};

/// y of the rows that the last axes of x are, where no gradient is wanted, everything lies in
/// row-major order and is of the one type, f32 or f64, and nothing is wrong with it; else None, and
/// the operation sees what it is.
pub(crate) fn inferred(
    about: About,
    features: &Features,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    epsilon: f64,
) -> Option<Tensor> {
    let Features::Last(last) = features else { return None };
    let given = || [Some(x), Some(weight), bias].into_iter().flatten();
    if given().any(Tensor::track_op) || !x.dims().ends_with(last) || check_epsilon(epsilon).is_err()
    {
        return None;
    }
    given().skip(1).all(|parameter| parameter.dims() == last).then_some(())?;
    rows::<f32>(about, x, weight, bias, epsilon)
        .or_else(|| rows::<f64>(about, x, weight, bias, epsilon))
}

fn rows<T: Number + Real>(
    about: About,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    epsilon: f64,
) -> Option<Tensor> {
    with_rows::<T, _>(weight, |gamma| {
        let run = |beta: Option<&[T]>| {
            with_rows::<T, _>(x, |elements| {
                if gamma.len() < 2 || elements.is_empty() {
                    return None;
                }
                let mut y = vec![];
                let parameters = Parameters { gamma: Some(gamma), beta, ..Parameters::default() };
                let statistics =
                    about.rows(Buffers::Into(elements, &mut y), gamma.len(), epsilon, parameters);
                // NaN and infinity in x show in the statistics of their row
                let sound =
                    finite(&statistics.mean) && finite(&statistics.variance) && finite(gamma);
                (sound && beta.is_none_or(finite))
                    .then(|| of_storage(T::to_cpu_storage_owned(y), x.shape()))
            })
        };
        match bias {
            Some(bias) => with_rows(bias, |beta| run(Some(beta))),
            None => run(None),
        }
    })
}

/// The elements of a tensor on the CPU, where they are of this type and in row-major order.
fn with_rows<T: Number, R>(tensor: &Tensor, then: impl FnOnce(&[T]) -> Option<R>) -> Option<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else { return None };
    let (start, end) = layout.contiguous_offsets()?;
    then(&elements::<T>(storage).ok()?[start..end])
}
