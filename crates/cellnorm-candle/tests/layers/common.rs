//! Tensors, layers and comparisons that the tests share.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, ModuleT, VarBuilder, VarMap};
use cellnorm_candle::cellnorm::Activation;
use cellnorm_candle::norms::Features;
use cellnorm_candle::*;

pub const CPU: &Device = &Device::Cpu;

/// Numbers that look like draws from N(0, 1), the same for the same seed.
pub fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
}

pub fn tensor(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let values = numbers(shape.iter().product(), seed);
    Tensor::from_vec(values, shape, CPU).and_then(|t| t.to_dtype(dtype)).unwrap()
}

pub fn var(shape: &[usize], seed: u64, dtype: DType) -> Var {
    Var::from_tensor(&tensor(shape, seed, dtype)).unwrap()
}

/// All values in f64.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).and_then(|t| t.flatten_all()?.to_vec1()).unwrap()
}

/// The largest difference of two tensors.
pub fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).map(|(a, b)| (a - b).abs()).fold(0.0, nan_max)
}

/// The larger number, or NaN where there is one.
pub fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The gradient of Σ y · dy.
pub fn backward(y: &Tensor, dy: &Tensor) -> candle_core::backprop::GradStore {
    (y * dy).and_then(|l| l.sum_all()?.backward()).unwrap()
}

/// A layer as a function.
pub type Forward<'a> = dyn Fn(&Tensor) -> Result<Tensor> + 'a;

/// A layer with parameters that are not 1 and 0, and a shape that it takes.
pub struct Case {
    pub name: &'static str,
    pub shape: Vec<usize>,
    pub layer: Box<Forward<'static>>,
    pub parameters: Vec<(String, Var)>,
}

/// A case with variables of this type; those that start alike are moved apart.
pub fn case<L: 'static>(
    name: &'static str,
    shape: &[usize],
    dtype: DType,
    build: impl Fn(VarBuilder) -> Result<L>,
    forward: impl Fn(&L, &Tensor) -> Result<Tensor> + 'static,
) -> Case {
    let map = VarMap::new();
    let layer = build(VarBuilder::from_varmap(&map, dtype, CPU)).unwrap();
    let mut parameters: Vec<(String, Var)> =
        map.data().lock().unwrap().iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    parameters.sort_by(|a, b| a.0.cmp(&b.0));
    for (seed, (name, var)) in parameters.iter().enumerate() {
        let apart = tensor(var.dims(), 100 + seed as u64, var.dtype());
        let apart = match name.as_str() {
            // a gate stays between 0 and 1
            "rho" => apart.abs().unwrap() * -0.1,
            "running_var" => apart.abs().unwrap() * 0.1,
            // far from 0, where there is a kink
            "learned_epsilon" => apart.abs().unwrap() + 0.5,
            _ => apart * 0.1,
        };
        var.set(&(var.as_tensor() + apart.unwrap()).unwrap()).unwrap();
    }
    parameters.retain(|(name, _)| !name.starts_with("running_"));
    Case { name, shape: shape.to_vec(), layer: Box::new(move |x| forward(&layer, x)), parameters }
}

/// Every layer.
pub fn cases(dtype: DType) -> Vec<Case> {
    let images = [3, 4, 5];
    let per_channel = Features::PerChannel { channels: 4, axis: 1 };
    let axes = Features::Axes(vec![0, 2], vec![3, 5]);
    vec![
        case("layer", &images, dtype, |vb| layer_norm(5, 1e-5, vb), LayerNorm::forward),
        case(
            "layer of two axes",
            &images,
            dtype,
            |vb| layer_norm((4, 5), 1e-5, vb),
            LayerNorm::forward,
        ),
        case(
            "layer without bias",
            &images,
            dtype,
            |vb| layer_norm_no_bias(5, 1e-5, vb),
            LayerNorm::forward,
        ),
        case(
            "layer of channels",
            &images,
            dtype,
            move |vb| Ok(layer_norm(4, 1e-5, vb)?.with_features(per_channel.clone())),
            LayerNorm::forward,
        ),
        case(
            "layer of axes apart",
            &images,
            dtype,
            move |vb| Ok(layer_norm((3, 5), 1e-5, vb)?.with_features(axes.clone())),
            LayerNorm::forward,
        ),
        case(
            "layer with an activation",
            &images,
            dtype,
            |vb| Ok(layer_norm(5, 1e-5, vb)?.with_activation(Activation::Silu)),
            LayerNorm::forward,
        ),
        case("rms", &images, dtype, |vb| rms_norm(5, 1e-5, vb), RmsNorm::forward),
        case("group", &images, dtype, |vb| group_norm(2, 4, 1e-5, vb), GroupNorm::forward),
        case(
            "group, channels last",
            &[3, 5, 4],
            dtype,
            |vb| Ok(group_norm(2, 4, 1e-5, vb)?.with_channel_axis(-1)),
            GroupNorm::forward,
        ),
        case("instance", &images, dtype, |vb| instance_norm(4, 1e-5, vb), InstanceNorm::forward),
        case(
            "batch",
            &images,
            dtype,
            |vb| batch_norm(4, 1e-5, vb),
            |l: &BatchNorm, x| l.forward_t(x, true),
        ),
        case(
            "batch in inference",
            &images,
            dtype,
            |vb| batch_norm(4, 1e-5, vb),
            |l: &BatchNorm, x| l.forward_t(x, false),
        ),
        case(
            "batch with an activation",
            &images,
            dtype,
            |vb| Ok(batch_norm(4, 1e-5, vb)?.with_activation(Activation::Gelu)),
            |l: &BatchNorm, x| l.forward_t(x, true),
        ),
        case(
            "batch-instance",
            &images,
            dtype,
            |vb| batch_instance_norm(4, vb),
            |l: &BatchInstanceNorm, x| l.forward_t(x, true),
        ),
        case(
            "switchable",
            &images,
            dtype,
            |vb| switchable_norm(4, vb),
            |l: &SwitchableNorm, x| l.forward_t(x, true),
        ),
        case(
            "filter response",
            &images,
            dtype,
            |vb| {
                rule_norm(
                    cellnorm::norms::FilterResponseNormConfig::new(4).learned_epsilon(true),
                    vb,
                )
            },
            |l: &FilterResponseNorm, x| l.forward_t(x, true),
        ),
        case(
            "local response",
            &images,
            dtype,
            |_| Ok(LocalResponseNorm { alpha: 0.5, ..LocalResponseNorm::new(3) }),
            LocalResponseNorm::forward,
        ),
    ]
}
