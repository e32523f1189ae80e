//! The operation on the CPU: the library's passes over Candle's memory.
//!
//! Plain rules without running averages are called on single rows, too, where arranging an array
//! takes longer than normalizing it: a row-major x goes to the plan as it lies, unless something is
//! wrong with it or with the layer.
//!
//! Candle's operations take three tensors at most and return one. So the statistics stay in the
//! operation, which the graph keeps until the backward pass; x stands in for a parameter that a
//! layer does not have; and the parameters of a layer with more than two come as one tensor, one
//! after another.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use cellnorm::kernels::{Buffers, Parameters};
use cellnorm::rule::{self, ClosedForm, Norm, ParameterSpec, Rule, Statistics, check_epsilon};
use cellnorm::{Element, Error, Mask, shape::Plan};
use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::NamedTensor;
use crate::numbers::{
    self, check_finite, finite, row_major, to_storage, view, with_elements, with_gradient, wrong,
};

/// How many parameters fit beside x.
const BESIDE_X: usize = 2;

struct Operation<R> {
    /// Taken by the forward pass.
    norm: Mutex<Option<Norm<R>>>,
    mask: Option<Mask>,
    /// The names and the shapes of the parameters that are there.
    parameters: Vec<(&'static str, Shape)>,
    /// The layer after the forward pass, and the numbers for backward.
    finished: Arc<OnceLock<(Norm<R>, Saved)>>,
}

/// Same as [`apply`](super::apply).
pub(super) fn apply<R: Rule + 'static>(
    norm: Norm<R>,
    x: &Tensor,
    parameters: &[NamedTensor],
    mask: Option<&Mask>,
    then: impl FnOnce(&Norm<R>) -> Result<()>,
) -> Result<Tensor> {
    let present = || parameters.iter().filter_map(|(name, tensor)| Some((*name, tensor.as_ref()?)));
    let shapes: Vec<_> = present().map(|(name, tensor)| (name, tensor.shape().clone())).collect();
    let joined;
    let mut beside = [x; BESIDE_X];
    if shapes.len() <= BESIDE_X {
        beside.iter_mut().zip(present()).for_each(|(beside, (_, tensor))| *beside = tensor);
    } else {
        let dtype = present().next().map_or(x, |(_, first)| first).dtype();
        let flat = present().map(|(_, tensor)| tensor.flatten_all()?.to_dtype(dtype));
        joined = Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 0)?;
        beside[0] = &joined;
    }
    let (norm, finished) = (Mutex::new(Some(norm)), Arc::new(OnceLock::new()));
    let mask = mask.cloned();
    let operation = Operation { norm, mask, parameters: shapes, finished: finished.clone() };
    let y = x.apply_op3_arc(beside[0], beside[1], Arc::new(Box::new(operation)))?;
    if let Some((norm, _)) = finished.get() {
        then(norm)?;
    }
    Ok(y)
}

impl<R: Rule> Operation<R> {
    /// The parameters that a tensor beside x holds.
    fn held(&self, beside: usize) -> &[(&'static str, Shape)] {
        match self.parameters.len() {
            0..=BESIDE_X => self.parameters.get(beside..=beside).unwrap_or_default(),
            _ if beside == 0 => &self.parameters,
            _ => &[],
        }
    }

    /// The gradient of the tensor beside x with this index, where it wants one.
    fn gradient(
        &self,
        beside: usize,
        tensor: &Tensor,
        gradients: &NamedGradients,
    ) -> Result<Option<Tensor>> {
        if !tensor.track_op() {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(tensor.elem_count());
        for (name, _) in self.held(beside) {
            let own = gradients.iter().filter(|(own, _)| own == name);
            own.for_each(|(_, gradient)| values.extend(gradient));
        }
        // a layer that is told not to train its parameters gives no gradients
        if values.is_empty() {
            return Ok(None);
        }
        Ok(Some(numbers::tensor(values, tensor.shape(), tensor.dtype(), tensor.device())?))
    }
}

impl<R: Rule> CustomOp3 for Operation<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let taken = self.norm.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut norm) = taken else {
            candle_core::bail!("{}: an operation runs once", R::NAME)
        };
        let beside = [(first, first_layout), (second, second_layout)];
        for (i, (storage, layout)) in beside.into_iter().enumerate() {
            let held = self.held(i);
            if held.is_empty() {
                break;
            }
            let mut rest = numbers::widened(storage, layout, R::NAME)?;
            for (name, shape) in held {
                let next = rest.split_off(shape.elem_count());
                let values = std::mem::replace(&mut rest, next);
                let values = ArrayD::from_shape_vec(IxDyn(shape.dims()), values).map_err(wrong)?;
                match *name {
                    "gamma" => norm.gamma = Some(values),
                    "beta" => norm.beta = Some(values),
                    name => *norm.parameter_mut(name).expect("a parameter of the rule") = values,
                }
            }
        }
        let y = with_elements!(x, R::NAME, x => {
            let (y, saved) =
                forward(&mut norm, view(x, x_layout)?, self.mask.as_ref()).map_err(wrong)?;
            // nothing was there: the layer was taken once
            let _ = self.finished.set((norm, saved));
            Ok(to_storage(y))
        })?;
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        first: &Tensor,
        second: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some((norm, saved)) = self.finished.get() else {
            candle_core::bail!("{}: backward before forward", R::NAME)
        };
        let (dx, gradients) = with_gradient!(x, dy, R::NAME, (x_view, dy_view) => {
            let (dx, gradients) = backward(norm, saved, x_view, dy_view).map_err(wrong)?;
            Ok((to_storage(dx), gradients))
        })?;
        let dx = x.track_op().then(|| numbers::untracked(dx, x.shape()));
        Ok((dx, self.gradient(0, first, &gradients)?, self.gradient(1, second, &gradients)?))
    }
}

/// The numbers of a forward pass that the backward pass needs.
enum Saved {
    /// Of a row-major tensor: how it lies, and the statistics.
    RowMajor(Plan, Statistics),
    /// Of any other.
    Arranged(rule::Saved),
}

/// The gradients of the parameters, flat.
type NamedGradients = Vec<(&'static str, Vec<f64>)>;

/// y and the numbers for [`backward`].
fn forward<R: Rule, T: Element>(
    norm: &mut Norm<R>,
    x: ArrayViewD<'_, T>,
    mask: Option<&Mask>,
) -> std::result::Result<(ArrayD<T>, Saved), Error> {
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
fn backward<R: Rule, T: Element>(
    norm: &Norm<R>,
    saved: &Saved,
    x: ArrayViewD<'_, T>,
    dy: ArrayViewD<'_, T>,
) -> std::result::Result<(ArrayD<T>, NamedGradients), Error> {
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
    check_finite("dy", &gradients.beta)?;
    check_finite("x", &gradients.gamma)?;
    Ok((shaped(dx, &x), vec![("gamma", gradients.gamma), ("beta", gradients.beta)]))
}

/// The plan of a row-major x, where the rule is plain and stores γ itself, the layer keeps no
/// running averages, and nothing is wrong.
fn plan<R: Rule, T>(
    norm: &Norm<R>,
    x: &ArrayViewD<'_, T>,
) -> std::result::Result<Option<Plan>, Error> {
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
