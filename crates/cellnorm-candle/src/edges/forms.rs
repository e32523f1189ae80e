//! Each layer as arrays, fused, composed and candle-nn's.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DType, Device, Result, Tensor, Var, WithDType};
use candle_nn::{Module, ModuleT};
use cellnorm::norms::{Batch, Features, Group, Instance, Layer as LayerRule, Rms};
use cellnorm::rule::{Norm, NormConfig, Rule, Running};
use cellnorm::{Element, Mode, semantics::GroupParameters};
use ndarray::{ArrayD, ArrayViewD, Axis};

use super::inputs::{EPSILON, GROUPS, Input, Kind};
use crate::layers as ours;
use crate::ops::composed_normalize;

/// The names of the forms.
pub const FORMS: [&str; 4] = ["arrays", "Candle, CPU", "Candle, other devices", "candle-nn"];

/// y, and the running averages after the pass.
pub type Output = (Vec<f64>, [Vec<f64>; 2]);

/// dx as x lies in memory, and the gradients of γ and β, where there are any.
pub type Gradients = (Option<Vec<f64>>, Vec<Option<Vec<f64>>>);

/// The result of a pass, or the words of its error or panic.
pub type Attempt<T> = std::result::Result<T, String>;

/// The outcome of an input in one form.
pub struct Run {
    pub forward: Attempt<Output>,
    /// Whether a forward pass that failed has moved the running averages.
    pub moved: bool,
    /// None after a forward pass that failed.
    pub backward: Option<Attempt<Gradients>>,
    pub inference: Attempt<Output>,
}

/// y of x, in training or in inference.
type Forward = dyn Fn(&Tensor, bool) -> Result<Tensor>;

/// The running averages.
type Averages = dyn Fn() -> Result<[Vec<f64>; 2]>;

/// A layer on tensors.
struct Tensors {
    forward: Box<Forward>,
    averages: Box<Averages>,
}

/// Makes a layer of γ and β.
type Make<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensors>;

pub fn run(input: &Input) -> [Run; 4] {
    let [_, channels, length] = input.shape;
    match input.layer {
        Kind::Layer => run_forms(
            input,
            LayerRule(Features::Last(vec![length])),
            &|p| Ok(module(ours::LayerNorm::new(p[0].clone(), p[1].clone(), EPSILON))),
            &|p| Ok(module(candle_nn::LayerNorm::new(p[0].clone(), p[1].clone(), EPSILON))),
        ),
        Kind::Rms => run_forms(
            input,
            Rms(Features::Last(vec![length])),
            &|p| Ok(module(ours::RmsNorm::new(p[0].clone(), EPSILON))),
            &|p| Ok(module(candle_nn::RmsNorm::new(p[0].clone(), EPSILON))),
        ),
        Kind::Group => {
            let parameters = GroupParameters::PerChannel;
            let (make, theirs) = (ours::GroupNorm::new, candle_nn::GroupNorm::new);
            run_forms(
                input,
                Group { groups: GROUPS, channels, channel_axis: 1, parameters },
                &|p| make(p[0].clone(), p[1].clone(), channels, GROUPS, EPSILON).map(module),
                &|p| theirs(p[0].clone(), p[1].clone(), channels, GROUPS, EPSILON).map(module),
            )
        }
        Kind::Instance => {
            // candle-nn has a group for each channel
            let (make, theirs) = (ours::InstanceNorm::new, candle_nn::GroupNorm::new);
            run_forms(
                input,
                Instance { channels, channel_axis: 1 },
                &|p| Ok(module(make(p[0].clone(), p[1].clone(), channels, EPSILON))),
                &|p| theirs(p[0].clone(), p[1].clone(), channels, channels, EPSILON).map(module),
            )
        }
        Kind::Batch => {
            let running = || -> Result<_> {
                let [mean, variance] = input.running();
                let running = |values: Vec<f64>| tensor(&values, &[channels], input.dtype);
                Ok((running(mean)?, running(variance)?))
            };
            let (make, theirs) = (ours::BatchNorm::new, candle_nn::BatchNorm::new);
            run_forms(
                input,
                Batch::new(channels, 1),
                &|p| {
                    let (mean, variance) = running()?;
                    let layer = make(channels, mean, variance, p[0].clone(), p[1].clone(), EPSILON);
                    layer.map(|l| batch(l, |l| [l.running_mean(), l.running_var()]))
                },
                &|p| {
                    let (mean, variance) = running()?;
                    let layer =
                        theirs(channels, mean, variance, p[0].clone(), p[1].clone(), EPSILON);
                    layer.map(|l| batch(l, |l| [l.running_mean(), l.running_var()]))
                },
            )
        }
    }
}

fn module(layer: impl Module + 'static) -> Tensors {
    let averages = Box::new(|| Ok([vec![], vec![]]));
    Tensors { forward: Box::new(move |x, _| layer.forward(x)), averages }
}

fn batch<L: ModuleT + 'static>(
    layer: L,
    running: impl Fn(&L) -> [&Tensor; 2] + 'static,
) -> Tensors {
    let layer = std::rc::Rc::new(layer);
    let own = layer.clone();
    let averages = move || {
        let [mean, variance] = running(&own);
        Ok([values(mean)?, values(variance)?])
    };
    let forward = Box::new(move |x: &Tensor, train| layer.forward_t(x, train));
    Tensors { forward, averages: Box::new(averages) }
}

fn run_forms<R: Rule + 'static>(input: &Input, rule: R, ours: Make, theirs: Make) -> [Run; 4] {
    let mut norm = NormConfig::custom(rule).epsilon(EPSILON).init().unwrap();
    for (values, parameter) in input.affine().into_iter().zip([&mut norm.gamma, &mut norm.beta]) {
        if parameter.is_some() {
            *parameter = Some(table(&values));
        }
    }
    if norm.running.is_some() {
        let [mean, variance] = input.running().map(|values| table(&values));
        norm.running = Some(Running { mean, variance });
    }
    let arrays = match input.dtype {
        DType::F16 => run_arrays::<half::f16, R>(&norm, input),
        DType::BF16 => run_arrays::<half::bf16, R>(&norm, input),
        DType::F32 => run_arrays::<f32, R>(&norm, input),
        _ => run_arrays::<f64, R>(&norm, input),
    };
    let composed = |parameters: &[Tensor]| Ok(compose(norm.clone(), parameters));
    [
        arrays,
        run_tensors(input, norm.names().count(), ours),
        run_tensors(input, norm.names().count(), &composed),
        run_tensors(input, norm.names().count(), theirs),
    ]
}

fn table(values: &[f64]) -> ArrayD<f64> {
    ArrayD::from_shape_vec(vec![values.len()], values.to_vec()).unwrap()
}

fn averages<R>(norm: &Norm<R>) -> [Vec<f64>; 2] {
    let numbers = |of: &ArrayD<f64>| of.iter().copied().collect();
    let running = norm.running.as_ref();
    running.map_or_else(Default::default, |of| [numbers(&of.mean), numbers(&of.variance)])
}

/// The composed form, whatever the device.
fn compose<R: Rule + 'static>(norm: Norm<R>, parameters: &[Tensor]) -> Tensors {
    let names = norm.names().collect::<Vec<_>>().into_iter();
    let parameters: Vec<_> = names.zip(parameters.iter().cloned().map(Some)).collect();
    let norm = std::rc::Rc::new(RefCell::new(norm));
    let own = norm.clone();
    let forward = move |x: &Tensor, train| {
        let mut norm = own.borrow_mut();
        norm.mode = if train { Mode::training() } else { Mode::inference() };
        composed_normalize(&mut norm, x, &parameters, None)
    };
    let averages = Box::new(move || Ok(averages(&norm.borrow())));
    Tensors { forward: Box::new(forward), averages }
}

fn attempt<T, E: std::fmt::Display>(
    pass: impl FnOnce() -> std::result::Result<T, E>,
) -> Attempt<T> {
    match catch_unwind(AssertUnwindSafe(pass)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("panic".into()),
    }
}

fn run_arrays<T: Element + WithDType, R: Rule>(norm: &Norm<R>, input: &Input) -> Run {
    let elements = |values: &[f64]| values.iter().map(|value| T::from_f64(*value)).collect();
    let numbers = |array: &ArrayD<T>| array.iter().map(|value| WithDType::to_f64(*value)).collect();
    let array = |shape: [usize; 3], values: &[f64]| -> ArrayD<T> {
        ArrayD::from_shape_vec(shape.to_vec(), elements(values)).unwrap()
    };
    let stored = array(input.stored, &input.values);
    let x: ArrayViewD<'_, T> = stored.broadcast(&input.shape[..]).unwrap();
    let (mut layer, mut saved) = (norm.clone(), None);
    let forward = attempt(|| {
        let (y, own) = layer.forward(x.view())?;
        saved = Some(own);
        Ok::<_, cellnorm::Error>((numbers(&y), averages(&layer)))
    });
    let backward = saved.map(|saved| {
        attempt(|| {
            let gradients = layer.backward(&saved, x.view(), array(input.shape, &input.dy()))?;
            let of = |name| gradients.parameter(name).map(|of| of.iter().copied().collect());
            // a broadcast axis is one number in memory
            let mut dx = gradients.dx.mapv(WithDType::to_f64);
            for axis in (0..3).filter(|axis| input.stored[*axis] < input.shape[*axis]) {
                dx = dx.sum_axis(Axis(axis)).insert_axis(Axis(axis));
            }
            let dx = dx.iter().copied().collect();
            Ok::<_, cellnorm::Error>((Some(dx), layer.names().map(of).collect()))
        })
    });
    let inference = attempt(|| norm.infer(x.view()).map(|y| (numbers(&y), averages(norm))));
    let moved = forward.is_err() && averages(&layer) != averages(norm);
    Run { forward, moved, backward, inference }
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn run_tensors(input: &Input, parameters: usize, make: Make) -> Run {
    let affine = input.affine().into_iter().take(parameters);
    let affine = affine.map(|values| tensor(&values, &[values.len()], input.dtype));
    let vars: Vec<_> = affine.map(|of| Var::from_tensor(&of.unwrap()).unwrap()).collect();
    let stored =
        Var::from_tensor(&tensor(&input.values, &input.stored, input.dtype).unwrap()).unwrap();
    let x = match input.stored == input.shape {
        true => stored.as_tensor().clone(),
        false => stored.broadcast_as(&input.shape).unwrap(),
    };
    let tracked: Vec<_> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let layer = make(&tracked).unwrap();
    let mut made = None;
    let forward = attempt(|| {
        let y = (layer.forward)(&x, true)?;
        made = Some(y.clone());
        Ok::<_, candle_core::Error>((values(&y)?, (layer.averages)()?))
    });
    let start = input.running();
    let changed = |own: [Vec<f64>; 2]| !own[0].is_empty() && own != start;
    let moved = forward.is_err() && (layer.averages)().is_ok_and(changed);
    let backward = made.map(|y| {
        attempt(|| {
            let dy = tensor(&input.dy(), &input.shape, input.dtype)?;
            let gradients = (y * dy)?.sum_all()?.backward()?;
            let of = |var: &Var| gradients.get(var).map(values).transpose();
            let parameters = vars.iter().map(of).collect::<Result<_>>()?;
            Ok::<_, candle_core::Error>((of(&stored)?, parameters))
        })
    });
    let detached: Vec<_> = vars.iter().map(Var::as_detached_tensor).collect();
    let layer = make(&detached).unwrap();
    let inference = attempt(|| {
        let y = (layer.forward)(&x.detach(), false)?;
        Ok::<_, candle_core::Error>((values(&y)?, (layer.averages)()?))
    });
    Run { forward, moved, backward, inference }
}

fn tensor(values: &[f64], shape: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::from_vec(values.to_vec(), shape, &Device::Cpu)?.to_dtype(dtype)
}
