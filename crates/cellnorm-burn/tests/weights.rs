//! Normalized weights against PyTorch's numbers, and through a module's life.
//!
//! The cases come from `fixtures/generate_weights.py`.

use burn::module::{Module, ModuleMapper, Param, ParamGroup, ParamId};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};
use cellnorm_burn::weights::{
    Per, SpectralNorm, SpectralNormConfig, WeightNorm, WeightNormConfig, WeightStandardization,
    WeightStandardizationConfig,
};
use serde_json::Value;

const SHAPE: [usize; 3] = [3, 4, 2];

#[derive(Module, Debug)]
struct Kernel {
    weight: Param<Tensor<3>>,
}

fn floats(json: &Value) -> Vec<f32> {
    json.as_array()
        .expect("an array")
        .iter()
        .map(|number| number.as_f64().expect("a number") as f32)
        .collect()
}

fn tensor(json: &Value, device: &Device) -> Tensor<3> {
    Tensor::from_data(TensorData::new(floats(json), SHAPE), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

fn close(ours: &[f32], theirs: &[f32], name: &str) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 2e-6 * (1.0 + b.abs()), "{name}: {ours:?} is not {theirs:?}");
    }
}

/// Gives the parameters named other values.
struct Set(Vec<(ParamId, Vec<f32>)>);

impl ModuleMapper for Set {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((_, values)) = self.0.iter().find(|(id, _)| *id == param.id) else { return param };
        param.map(|old| {
            let new = Tensor::from_data(TensorData::new(values.clone(), old.dims()), &old.device());
            new.set_require_grad(old.is_require_grad())
        })
    }
}

fn per(case: &Value) -> Per {
    match case["dim"].as_u64() {
        Some(axis) => Per::Axis(axis as usize),
        None => Per::Whole,
    }
}

fn cases(kind: &str) -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("fixtures/weights.json")).expect("valid JSON");
    assert_eq!(file["version"], "2.15.0");
    let cases = file["cases"].as_array().expect("cases").iter().filter(|case| case["kind"] == kind);
    cases.cloned().collect()
}

fn kernel(case: &Value, device: &Device) -> Kernel {
    Kernel { weight: Param::from_tensor(tensor(&case["weight"], device)) }
}

/// The effective weight and the gradient of the stored one, against the case.
fn compare(kernel: &Kernel, case: &Value) -> burn::tensor::Gradients {
    let y = kernel.weight.val();
    let gradients = (y.clone() * tensor(&case["dy"], &y.device())).sum().backward();
    close(&values(y), &floats(&case["y"]), "y");
    close(
        &values(kernel.weight.base().grad(&gradients).expect("trains")),
        &floats(&case["dweight"]),
        "dweight",
    );
    gradients
}

#[test]
fn weight_norm_agrees_with_pytorch() {
    let cases = cases("weight_norm");
    assert_eq!(cases.len(), 3, "dim 0, 1 and None");
    for case in cases {
        let device = Device::flex().autodiff();
        let kernel = kernel(&case, &device)
            .apply_reparameterization(WeightNormConfig::new().with_per(per(&case)));
        close(
            &values(kernel.weight.val()),
            &floats(&case["weight"]),
            "attached, the weight is as before",
        );
        let id = kernel.weight.reparameterization::<WeightNorm>().expect("attached").g.id;
        let kernel = kernel.map(&mut Set(vec![(id, floats(&case["g"]))]));
        let gradients = compare(&kernel, &case);
        let g = &kernel.weight.reparameterization::<WeightNorm>().expect("attached").g;
        close(&values(g.val().grad(&gradients).expect("trains")), &floats(&case["dg"]), "dg");
    }
}

#[test]
fn standardization_agrees_with_pytorch() {
    for case in cases("standardization") {
        let config = WeightStandardizationConfig::new()
            .with_per(per(&case))
            .with_epsilon(1e-3)
            .with_gain(true);
        let kernel = kernel(&case, &Device::flex().autodiff()).apply_reparameterization(config);
        let state = |kernel: &Kernel| {
            kernel.weight.reparameterization::<WeightStandardization>().unwrap().gain.clone()
        };
        let kernel = kernel
            .clone()
            .map(&mut Set(vec![(state(&kernel).expect("a gain").id, floats(&case["g"]))]));
        let gradients = compare(&kernel, &case);
        let gain = state(&kernel).expect("a gain").val();
        close(&values(gain.grad(&gradients).expect("trains")), &floats(&case["dg"]), "dg");
    }
}

fn vectors(kernel: &Kernel) -> [Vec<f32>; 2] {
    let state = kernel.weight.reparameterization::<SpectralNorm>().expect("attached");
    [&state.running_u, &state.running_v].map(|vector| values(vector.value_sync()))
}

#[test]
fn spectral_norm_agrees_with_pytorch() {
    let cases = cases("spectral_norm");
    assert_eq!(cases.len(), 2, "dim 0 and 1");
    for case in cases {
        let device = Device::flex().autodiff();
        let kernel = kernel(&case, &device)
            .apply_reparameterization(SpectralNormConfig::new().with_per(per(&case)));
        let state = kernel.weight.reparameterization::<SpectralNorm>().expect("attached");
        for (vector, name) in [(&state.running_u, "u"), (&state.running_v, "v")] {
            vector.update(Tensor::from_data(&floats(&case[name])[..], &device));
        }
        compare(&kernel, &case);
        let [u, v] = vectors(&kernel);
        close(&u, &floats(&case["u_after"]), "u");
        close(&v, &floats(&case["v_after"]), "v");

        let valid = kernel.valid();
        let before = vectors(&valid);
        assert_eq!(values(valid.weight.val()), values(valid.weight.val()));
        assert_eq!(before, vectors(&valid), "inference moves nothing");
        close(
            &values(valid.weight.val()),
            &floats(&case["y"]),
            "inference uses what training found",
        );
    }
}

#[test]
fn the_largest_singular_value_becomes_one() {
    let device = Device::flex();
    // so far apart that 15 iterations find the larger one from any start
    let weight = Tensor::<2>::from_floats([[0.0, 4.0, 0.0], [0.5, 0.0, 0.0]], &device);
    let mut linear = LinearConfig::new(2, 3).init(&device);
    linear.weight = Param::from_tensor(weight);
    let linear = linear.apply_reparameterization(SpectralNormConfig::new());
    // Burn's linear layer has its outputs on axis 1, so W has 3 rows
    let state = linear.weight.reparameterization::<SpectralNorm>().expect("attached");
    assert_eq!(
        (state.running_u.value_sync().dims(), state.running_v.value_sync().dims()),
        ([3], [2])
    );
    let plain = linear.valid().materialize();
    assert!(plain.weight.reparameterization::<SpectralNorm>().is_none());
    for (ours, exact) in values(plain.weight.val()).iter().zip([0.0, 1.0, 0.0, 0.125, 0.0, 0.0]) {
        assert!((ours - exact).abs() < 1e-5, "{ours} is not {exact}");
    }
}

#[test]
fn zeros_stay_zeros() {
    let device = Device::flex().autodiff();
    let zeros = || Kernel { weight: Param::from_tensor(Tensor::zeros(SHAPE, &device)) };
    for kernel in [
        zeros().apply_reparameterization(WeightNormConfig::new()),
        zeros().apply_reparameterization(SpectralNormConfig::new()),
        zeros().apply_reparameterization(WeightStandardizationConfig::new()),
    ] {
        let y = kernel.weight.val();
        let gradients = y.clone().sum().backward();
        assert!(values(y).iter().all(|y| *y == 0.0));
        let dweight = values(kernel.weight.base().grad(&gradients).expect("trains"));
        assert!(dweight.iter().all(|d| d.is_finite()), "{dweight:?}");
    }
}

/// A row of norm 5e-8 is below √ε = 1e-6, which g starts at.
#[test]
fn weight_norm_changes_nothing_at_first_however_small_a_weight_is() {
    let device = Device::flex().autodiff();
    let v = Tensor::<3>::from_floats([[[3e-8], [4e-8]], [[3.0], [4.0]], [[0.0], [0.0]]], &device);
    let kernel = Kernel { weight: Param::from_tensor(v.clone()) };
    let kernel = kernel.apply_reparameterization(WeightNormConfig::new());
    let g = &kernel.weight.reparameterization::<WeightNorm>().expect("attached").g;
    for (ours, right) in values(g.val()).iter().zip([1e-6, 5.0, 1e-6]) {
        assert!((ours - right).abs() <= 1e-6 * right, "{ours} is not {right}");
    }
    for (ours, right) in values(kernel.weight.val()).iter().zip(values(v)) {
        assert!((ours - right).abs() <= 1e-6 * right, "{ours} is not {right}");
    }
}

/// Squares of thousands overflow in f16.
#[test]
fn weights_of_half_precision_are_normalized_in_single() {
    let device = Device::flex().autodiff();
    let weight = [[[3000.0], [-3000.0]], [[1000.0], [-7000.0]], [[5.0], [2.0]]];
    let make = |dtype| {
        let weight = Tensor::<3>::from_floats(weight, &device).cast(dtype);
        Kernel { weight: Param::from_tensor(weight) }
    };
    let [half, wide] = [DType::F16, DType::F32].map(|dtype| {
        let kernels = [
            make(dtype).apply_reparameterization(WeightNormConfig::new()),
            make(dtype).apply_reparameterization(SpectralNormConfig::new()),
            make(dtype)
                .apply_reparameterization(WeightStandardizationConfig::new().with_gain(true)),
        ];
        kernels.map(|kernel| {
            assert_eq!(kernel.weight.val().dtype(), dtype);
            let y = kernel.valid().weight.val();
            y.into_data().convert::<f32>().try_to_vec::<f32>().expect("f32")
        })
    });
    for (half, wide) in half.iter().flatten().zip(wide.iter().flatten()) {
        assert!((half - wide).abs() <= 2e-3 * (1e-2 + wide.abs()), "{half} is not {wide}");
    }
}

fn network(device: &Device) -> Linear {
    LinearConfig::new(4, 3).init(device)
}

#[test]
fn a_network_trains_saves_and_loads() {
    let device = Device::flex().autodiff();
    let make = || network(&device).apply_reparameterization(WeightNormConfig::new());
    let mut linear = make();
    let before = values(linear.weight.val());
    let x = Tensor::<2>::ones([2, 4], &device);
    let mut optimizer = SgdConfig::new().init();
    for _ in 0..3 {
        let gradients = linear.forward(x.clone()).square().sum().backward();
        let gradients = GradientsParams::from_grads(gradients, &linear);
        assert_eq!(gradients.len(), 3, "v, g and the bias");
        linear = optimizer.step(0.01, linear, gradients);
    }
    assert_ne!(before, values(linear.weight.val()));
    let loaded = make().load_record(linear.clone().into_record());
    assert_eq!(values(loaded.weight.val()), values(linear.weight.val()));
}

#[test]
fn only_weights_of_the_group_are_normalized() {
    let device = Device::flex();
    let pair = vec![network(&device), network(&device)];
    let config =
        WeightStandardizationConfig::new().with_group(ParamGroup::from_predicate("1.weight"));
    let pair = pair.apply_reparameterization(config);
    assert!(pair[0].weight.reparameterization::<WeightStandardization>().is_none());
    assert!(pair[1].weight.reparameterization::<WeightStandardization>().is_some());
    let bias = pair[1].bias.as_ref().expect("a bias");
    assert!(bias.reparameterization::<WeightStandardization>().is_none());
}

#[test]
#[should_panic(expected = "axis 3 does not exist in a tensor of 2 axes")]
fn an_axis_that_does_not_exist() {
    network(&Device::flex())
        .apply_reparameterization(WeightNormConfig::new().with_per(Per::Axis(3)));
}

#[test]
#[should_panic(
    expected = "weight standardization over the shape [1, 3] has one value for each statistic"
)]
fn one_weight_an_output() {
    let linear = LinearConfig::new(1, 3).init(&Device::flex());
    linear.apply_reparameterization(WeightStandardizationConfig::new());
}

/// Steps of g smaller than half a digit of f16 at 1 move it.
#[test]
fn the_length_of_a_half_precision_weight_is_f32_at_least() {
    let device = Device::flex().autodiff();
    for (dtype, expected) in
        [(DType::F16, DType::F32), (DType::BF16, DType::F32), (DType::F64, DType::F64)]
    {
        let weight = Tensor::<3>::full(SHAPE, 30.0, &device).cast(dtype);
        let kernel = Kernel { weight: Param::from_tensor(weight) };
        let kernel = kernel.apply_reparameterization(WeightNormConfig::new());
        let g = kernel.weight.reparameterization::<WeightNorm>().unwrap().g.val();
        assert_eq!(g.dtype(), expected);
        let w = kernel.weight.val();
        assert_eq!(w.dtype(), dtype);
        let gradients = w.sum().backward();
        assert_eq!(g.grad(&gradients).unwrap().dtype(), expected);
        assert!((g.into_data().iter::<f64>().next().unwrap() - 7200_f64.sqrt()).abs() < 1e-3);
    }
}
