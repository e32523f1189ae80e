//! The layer of a rule on arrays.
//!
//! Plain rules without running averages are called on single rows, too, where arranging an array
//! takes longer than normalizing it: a row-major x goes to the plan as it lies, unless something is
//! wrong with it or with the layer.

use cellnorm::kernels::Buffers;
use cellnorm::rule::{ClosedForm, Norm, ParameterSpec, Rule};
use cellnorm::{
    Element, Error, Mask,
    kernels::Parameters,
    rule::{Statistics, check_epsilon},
    shape::Plan,
};
use ndarray::{ArrayD, ArrayViewD};

use crate::numbers::{finite, row_major};

/// The numbers of a forward pass that the backward pass needs.
pub(super) enum Saved {
    /// Of a row-major tensor: how it lies, and the statistics.
    RowMajor(Plan, Statistics),
    /// Of any other.
    Arranged(cellnorm::rule::Saved),
}

/// The gradients of the parameters, flat.
pub(super) type NamedGradients = Vec<(&'static str, Vec<f64>)>;

/// y and the numbers for [`backward`].
pub(super) fn forward<R: Rule, T: Element>(
    norm: &mut Norm<R>,
    x: ArrayViewD<'_, T>,
    mask: Option<&Mask>,
) -> Result<(ArrayD<T>, Saved), Error> {
    if let Some(mask) = mask {
        let (y, saved) = norm.forward_masked(x, mask)?;
        return Ok((y, Saved::Arranged(saved)));
    }
    if let (Some(elements), Some(plan)) = (x.as_slice(), plan(norm, &x)?) {
        let mut y = vec![];
        let statistics = plan.forward(Buffers::Into(elements, &mut y), closed_form(norm));
        // NaN and infinity in x show in the statistics of their set
        if finite(&statistics.mean) && finite(&statistics.variance) {
            return Ok((shaped(y, &x), Saved::RowMajor(plan, statistics)));
        }
    }
    let (y, saved) = norm.forward(x)?;
    Ok((y, Saved::Arranged(saved)))
}

/// The gradients of x and of the parameters.
pub(super) fn backward<R: Rule, T: Element>(
    norm: &Norm<R>,
    saved: &Saved,
    x: ArrayViewD<'_, T>,
    dy: ArrayViewD<'_, T>,
) -> Result<(ArrayD<T>, NamedGradients), Error> {
    let (plan, statistics) = match saved {
        Saved::RowMajor(plan, statistics) => (plan, statistics),
        Saved::Arranged(saved) => {
            let gradients = norm.backward(saved, x, dy)?;
            let values = |name| Some((name, gradients.parameter(name)?.iter().copied().collect()));
            let named = norm.names().filter_map(values).collect();
            return Ok((gradients.dx, named));
        }
    };
    let elements = x.as_slice().expect("it was row-major");
    // dβ is computed even without β: it shows NaN in dy
    let zeros = vec![0.0; plan.channels()];
    let mut form = closed_form(norm);
    form.parameters.beta = form.parameters.beta.or(Some(&zeros));
    let run = |buffers| plan.backward(elements, buffers, statistics, form, false);
    let mut dx = vec![];
    let gradients = match dy.as_slice() {
        Some(dy) => run(Buffers::Into(dy, &mut dx)),
        None => {
            dx = row_major(dy.to_owned());
            run(Buffers::Over(&mut dx))
        }
    };
    // with a finite dy, the rest is x
    for (name, table) in [("dy", &gradients.beta), ("x", &gradients.gamma)] {
        if let Some(set) = table.iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite { name, set, sets: table.len() });
        }
    }
    Ok((shaped(dx, &x), vec![("gamma", gradients.gamma), ("beta", gradients.beta)]))
}

/// The plan of a row-major x, where the rule is plain and stores γ itself, the layer keeps no
/// running averages, and nothing is wrong.
fn plan<R: Rule, T>(norm: &Norm<R>, x: &ArrayViewD<'_, T>) -> Result<Option<Plan>, Error> {
    if x.is_empty() || norm.running.is_some() || R::GAMMA_OFFSET != 0.0 {
        return Ok(None);
    }
    check_epsilon(norm.epsilon)?;
    norm.rule().check()?;
    let affine = norm.gamma.is_some() || norm.beta.is_some();
    let Some(roles) = norm.rule().roles(x.shape(), affine)? else { return Ok(None) };
    let sound = |spec: &ParameterSpec| {
        norm.parameter(spec.name).is_none_or(|values| {
            values.shape() == spec.shape && values.as_slice().is_some_and(finite)
        })
    };
    let plan = Plan::new(&roles.axes(x.shape(), x.strides()));
    Ok(plan
        .filter(|plan| plan.values_per_set() > 1.0 && norm.rule().parameters().iter().all(sound)))
}

fn closed_form<R: Rule>(norm: &Norm<R>) -> ClosedForm<'_> {
    let [gamma, beta] = [&norm.gamma, &norm.beta]
        .map(|values| values.as_ref().and_then(|values| values.as_slice()));
    let parameters = Parameters { gamma, beta, activation: norm.activation };
    ClosedForm { centering: R::CENTERING, epsilon: norm.epsilon, parameters }
}

fn shaped<T: Element>(elements: Vec<T>, x: &ArrayViewD<'_, T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(x.raw_dim(), elements).expect("as many as x has")
}
