//! y, dx and the parameters' gradients are those of the library on the same data in the same memory
//! layout, bit for bit.

use candle_core::{DType, Result, Tensor, Var, WithDType};
use candle_nn::{Module, ModuleT};
use cellnorm_candle::cellnorm::rule::{NormConfig, Rule};
use cellnorm_candle::cellnorm::{
    Activation, BatchNormConfig, Element, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    RmsNormConfig,
    norms::{
        BatchInstanceNormConfig, FilterResponseNormConfig, GemmaRmsNormConfig,
        LocalResponseNormConfig, RmsScalingNormConfig, SwitchableNormConfig,
    },
};
use cellnorm_candle::{
    BatchNorm, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, RmsNorm, RuleNorm, rule_norm,
};
use half::{bf16, f16};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice};

use super::common::*;

/// The results of one run: y, dx, and the parameters' gradients.
type Results<T> = (Vec<T>, Vec<T>, Vec<Vec<f32>>);

/// The results of a layer on arrays for x and dy.
type OnArrays<'a, T> = dyn Fn(ArrayViewD<'_, T>, ArrayViewD<'_, T>) -> Results<T> + 'a;

/// A way to lie in memory, in both libraries.
struct Layout<T> {
    name: &'static str,
    base: [usize; 3],
    candle: fn(&Tensor) -> Result<Tensor>,
    array: for<'a> fn(ArrayViewD<'a, T>) -> ArrayViewD<'a, T>,
}

/// Each gives 3 × 4 × 5.
fn layouts<T>() -> [Layout<T>; 4] {
    [
        Layout { name: "contiguous", base: [3, 4, 5], candle: |x| Ok(x.clone()), array: |x| x },
        Layout {
            name: "transposed",
            base: [5, 4, 3],
            candle: |x| x.transpose(0, 2),
            array: |x| x.reversed_axes(),
        },
        Layout {
            name: "sliced",
            base: [3, 6, 7],
            candle: |x| x.narrow(1, 1, 4)?.narrow(2, 2, 5),
            array: |mut x| {
                x.slice_axis_inplace(Axis(1), Slice::from(1..5));
                x.slice_axis_inplace(Axis(2), Slice::from(2..7));
                x
            },
        },
        Layout {
            name: "permuted",
            base: [4, 3, 5],
            candle: |x| x.permute((1, 0, 2)),
            array: |x| x.permuted_axes(IxDyn(&[1, 0, 2])),
        },
    ]
}

fn flat<T: WithDType>(tensor: &Tensor) -> Vec<T> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).unwrap()
}

fn check<T: Element + WithDType>(
    name: &str,
    forward: &Forward<'_>,
    parameters: &[Var],
    on_arrays: &OnArrays<'_, T>,
) {
    for layout in layouts::<T>() {
        let what = format!("{name} of {:?}, {}", T::DTYPE, layout.name);
        let base = var(&layout.base, 1, T::DTYPE);
        let dy = tensor(&[3, 4, 5], 2, T::DTYPE);
        let y = forward(&(layout.candle)(&base).unwrap()).unwrap();
        let gradients = backward(&y, &dy);
        let dx = (layout.candle)(gradients.get(&base).unwrap()).unwrap();
        let of_parameters =
            parameters.iter().map(|var| flat::<f32>(gradients.get(var).unwrap())).collect();

        let array = |shape: &[usize], tensor: &Tensor| {
            ArrayD::from_shape_vec(shape, flat::<T>(tensor)).unwrap()
        };
        let (x, dy) = (array(&layout.base, &base), array(&[3, 4, 5], &dy));
        let expected = on_arrays((layout.array)(x.view()), dy.view());
        assert_eq!((flat::<T>(&y), flat::<T>(&dx), of_parameters), expected, "{what}");
    }
}

fn of_all_types(check: impl Fn(DType)) {
    [DType::F32, DType::F64, DType::F16, DType::BF16].into_iter().for_each(check);
}

/// Runs a check generic in the element for the type.
macro_rules! typed {
    ($dtype:expr, $check:ident) => {
        match $dtype {
            DType::F32 => $check::<f32>(),
            DType::F64 => $check::<f64>(),
            DType::F16 => $check::<f16>(),
            _ => $check::<bf16>(),
        }
    };
}

/// γ and β, f32 beside data of any type.
fn parameters(len: usize) -> [Var; 2] {
    [3, 4].map(|seed| var(&[len], seed, DType::F32))
}

fn wide(var: &Var) -> Option<ArrayD<f64>> {
    Some(ArrayD::from_shape_vec(var.dims(), values(var)).unwrap())
}

fn narrow(gradient: Option<ArrayD<f64>>) -> Vec<f32> {
    gradient.iter().flatten().map(|value| *value as f32).collect()
}

fn elements<T: Clone>(array: &ArrayD<T>) -> Vec<T> {
    array.iter().cloned().collect()
}

/// The results of a layer on arrays with γ and perhaps β.
macro_rules! on_arrays {
    ($layer:expr, $gamma:expr, $beta:expr) => {
        &|x: ArrayViewD<'_, T>, dy: ArrayViewD<'_, T>| {
            let mut layer = $layer.init().unwrap();
            (layer.gamma, layer.beta) = ($gamma, $beta);
            let (y, saved) = layer.forward(x.view()).unwrap();
            let gradients = layer.backward(&saved, x, dy).unwrap();
            let of_parameters =
                [gradients.dgamma, gradients.dbeta].into_iter().filter(Option::is_some).map(narrow);
            (elements(&y), elements(&gradients.dx), of_parameters.collect())
        }
    };
}

fn of_samples<T: Element + WithDType>() {
    let [gamma, beta] = parameters(5);
    let (g, b) = (gamma.as_tensor().clone(), beta.as_tensor().clone());
    let layer = LayerNorm::new(g.clone(), b.clone(), 1e-5);
    let arrays = on_arrays!(LayerNormConfig::new(&[5]), wide(&gamma), wide(&beta));
    check::<T>("layer", &|x| layer.forward(x), &[gamma.clone(), beta.clone()], arrays);
    let layer = RmsNorm::new(g, 1e-5);
    let arrays = on_arrays!(RmsNormConfig::new(&[5]), wide(&gamma), None);
    check::<T>("rms", &|x| layer.forward(x), std::slice::from_ref(&gamma), arrays);
}

fn of_channels<T: Element + WithDType>() {
    let [gamma, beta] = parameters(4);
    let (g, b) = (gamma.as_tensor().clone(), beta.as_tensor().clone());
    let both = [gamma.clone(), beta.clone()];
    let layer = GroupNorm::new(g.clone(), b.clone(), 4, 2, 1e-5).unwrap();
    let arrays = on_arrays!(GroupNormConfig::new(2, 4), wide(&gamma), wide(&beta));
    check::<T>("group", &|x| layer.forward(x), &both, arrays);
    let layer = InstanceNorm::new(g.clone(), b.clone(), 4, 1e-5);
    let arrays = on_arrays!(InstanceNormConfig::new(4), wide(&gamma), wide(&beta));
    check::<T>("instance", &|x| layer.forward(x), &both, arrays);
    let layer =
        BatchNorm::new(4, g.zeros_like().unwrap(), g.ones_like().unwrap(), g, b, 1e-5).unwrap();
    let arrays = on_arrays!(BatchNormConfig::new(4), wide(&gamma), wide(&beta));
    check::<T>("batch", &|x| layer.forward_train(x), &both, arrays);
}

fn of_rule<T: Element + WithDType, R: Rule + 'static>(name: &str, config: fn() -> NormConfig<R>) {
    let map = candle_nn::VarMap::new();
    let vb = candle_nn::VarBuilder::from_varmap(&map, DType::F32, CPU);
    let layer: RuleNorm<R> = rule_norm(config(), vb).unwrap();
    let arrays = config().init().unwrap();
    let names: Vec<&str> = arrays.names().collect();
    let vars: Vec<Var> = names
        .iter()
        .map(|name| Var::from_tensor(layer.parameter(name).unwrap()).unwrap())
        .collect();
    for (seed, var) in vars.iter().enumerate() {
        var.set(&tensor(var.dims(), 5 + seed as u64, DType::F32)).unwrap();
    }
    check::<T>(name, &|x| layer.forward_t(x, true), &vars, &|x, dy| {
        let mut layer = arrays.clone();
        for (name, var) in names.iter().zip(&vars) {
            *layer.parameter_mut(name).unwrap() = wide(var).unwrap();
        }
        let (y, saved) = layer.forward(x.view()).unwrap();
        let gradients = layer.backward(&saved, x, dy).unwrap();
        let of_parameters =
            names.iter().map(|name| narrow(gradients.parameter(name).cloned())).collect();
        (elements(&y), elements(&gradients.dx), of_parameters)
    });
}

fn of_rules<T: Element + WithDType>() {
    of_rule::<T, _>("switchable", || SwitchableNormConfig::new(4));
    let authors_code = || SwitchableNormConfig::preset("switchnorm-2d", 4).unwrap();
    of_rule::<T, _>("switchable as its authors' code", authors_code);
    of_rule::<T, _>("RMS-scaled layer", || RmsScalingNormConfig::new(&[5]));
    of_rule::<T, _>("batch-instance", || BatchInstanceNormConfig::new(4));
    of_rule::<T, _>("filter response", || FilterResponseNormConfig::new(4));
    of_rule::<T, _>("Gemma's rms", || GemmaRmsNormConfig::new(&[5]));
    let layer = LocalResponseNorm::new(3);
    check::<T>("local response", &|x| layer.forward(x), &[], &|x, dy| {
        let layer = LocalResponseNormConfig::new(3).init().unwrap();
        (
            elements(&layer.forward(x.view()).unwrap()),
            elements(&layer.backward(x, dy).unwrap()),
            vec![],
        )
    });
}

#[test]
fn layer_and_rms_norm() {
    of_all_types(|dtype| typed!(dtype, of_samples));
}

/// Rows that no gradient is wanted of take another way.
fn inferred<T: Element + WithDType>() {
    for parameters in [DType::F32, T::DTYPE] {
        let [g, b] = [3, 4].map(|seed| var(&[5], seed, parameters));
        let trained = |of: &Var| of.as_tensor().clone();
        let layers = |g: Tensor, b: Tensor| {
            (
                LayerNorm::new(g.clone(), b, 1e-5),
                LayerNorm::new_no_bias(g.clone(), 1e-5),
                RmsNorm::new(g.clone(), 1e-5),
                LayerNorm::new_no_bias(g, 1e-5).with_activation(Activation::Gelu),
            )
        };
        let (trains, infers) = (
            layers(trained(&g), trained(&b)),
            layers(g.as_tensor().detach(), b.as_tensor().detach()),
        );
        for layout in layouts::<T>() {
            let x = (layout.candle)(&tensor(&layout.base, 1, T::DTYPE)).unwrap();
            for [one, other] in [
                [trains.0.forward(&x), infers.0.forward(&x)],
                [trains.1.forward(&x), infers.1.forward(&x)],
                [trains.2.forward(&x), infers.2.forward(&x)],
                [trains.3.forward(&x), infers.3.forward(&x)],
            ] {
                let [one, other] = [one.unwrap(), other.unwrap()];
                assert!(one.track_op() && !other.track_op());
                assert_eq!(flat::<T>(&one), flat::<T>(&other), "{:?}, {}", T::DTYPE, layout.name);
            }
        }
        // wider than a vector
        let [g, x] = [var(&[37], 5, parameters), var(&[2, 37], 6, T::DTYPE)];
        let x = x.as_tensor().detach();
        let [one, other] = [trained(&g), g.as_tensor().detach()]
            .map(|g| LayerNorm::new_no_bias(g, 1e-5).forward(&x));
        assert_eq!(flat::<T>(&one.unwrap()), flat::<T>(&other.unwrap()), "rows of {:?}", T::DTYPE);
    }
}

#[test]
fn inference_gives_the_bits_of_training() {
    of_all_types(|dtype| typed!(dtype, inferred));
}

#[test]
fn group_instance_and_batch_norm() {
    of_all_types(|dtype| typed!(dtype, of_channels));
}

#[test]
fn rules_and_lines() {
    of_all_types(|dtype| typed!(dtype, of_rules));
}
