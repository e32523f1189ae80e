//! The inputs of candle-nn's own tests, whose constants come from PyTorch: our outputs beside
//! candle-nn's.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Module, ModuleT, ops};
use cellnorm_candle as ours;

use super::common::*;

/// `batch_norm_test`: [2, 5, 3, 4] of N(0, 1).
const IMAGES: [f32; 120] = [
    -0.7493, -1.0410, 1.6977, -0.6579, 1.7982, -0.0087, 0.2812, -0.1190, 0.2908, -0.5975, -0.0278,
    -0.2138, -1.3130, -1.6048, -2.2028, 0.9452, 0.4002, 0.0831, 1.0004, 0.1860, 0.5004, 0.5539,
    0.9991, -0.2540, -0.0703, -0.3752, -0.1096, -0.2374, 1.0258, -2.2208, -0.0257, 0.6073, -1.1627,
    -0.0964, -1.9718, 1.6577, 0.1931, -0.3692, -0.8011, 0.9059, 0.4797, 0.6521, -0.0165, -0.6683,
    -0.4148, 2.0649, -0.8276, 1.7947, -0.2061, 0.5812, -1.3598, 1.6192, 1.0466, -0.4423, 0.4202,
    0.1749, 0.6969, 0.2616, -0.0369, -1.4951, -0.0814, -0.1877, 0.0267, 0.6150, 0.2402, -1.1440,
    -2.0068, 0.6032, -2.6639, 0.8260, 0.1085, -0.1693, 1.2805, 0.7654, -0.4930, 0.3770, 1.1309,
    0.2303, 0.2949, -0.2634, -0.5225, 0.4269, 0.6341, 1.5736, 0.9827, -1.2499, 0.3509, -1.6243,
    -0.8123, 0.7634, -0.3047, 0.0143, -0.4032, 0.0537, 0.7022, 0.8405, -1.2221, -1.6847, -0.0714,
    -0.1608, 0.5579, -1.5858, 0.4617, -0.6480, 0.1332, 0.0419, -0.9784, 0.4173, 1.2313, -1.9046,
    -0.1656, 0.1259, 0.0763, 1.4252, -0.9115, -0.1093, -0.3100, -0.6734, -1.4357, 0.9205,
];

/// PyTorch's result, rounded to four digits.
const NORMALIZED: [f64; 120] = [
    -0.6391, -0.9414, 1.8965, -0.5444, 2.0007, 0.1283, 0.4287, 0.014, 0.4387, -0.4818, 0.1085,
    -0.0842, -1.6809, -2.0057, -2.6714, 0.8328, 0.2262, -0.1268, 0.8943, -0.0123, 0.3377, 0.3973,
    0.8928, -0.5021, 0.0861, -0.2324, 0.0451, -0.0884, 1.2311, -2.1603, 0.1327, 0.7939, -1.055,
    0.0589, -1.9002, 1.8912, 0.2918, -0.3253, -0.7993, 1.0741, 0.6063, 0.7955, 0.0617, -0.6536,
    -0.3754, 2.3461, -0.8284, 2.0495, -0.201, 0.6476, -1.4446, 1.7665, 1.1493, -0.4556, 0.4741,
    0.2097, 0.7723, 0.3031, -0.0186, -1.5905, 0.053, -0.0572, 0.165, 0.7746, 0.3862, -1.0481,
    -1.9422, 0.7624, -2.6231, 0.9933, 0.2498, -0.0381, 1.2061, 0.6327, -0.7681, 0.2004, 1.0396,
    0.037, 0.109, -0.5125, -0.8009, 0.2559, 0.4865, 1.5324, 1.1861, -1.1461, 0.5261, -1.5372,
    -0.689, 0.957, -0.1587, 0.1745, -0.2616, 0.2156, 0.8931, 1.0375, -1.2614, -1.7691, 0.0015,
    -0.0966, 0.6921, -1.6605, 0.5866, -0.6313, 0.226, 0.1258, -0.9939, 0.5378, 1.3484, -2.0319,
    -0.1574, 0.1568, 0.1034, 1.5574, -0.9614, -0.0967, -0.313, -0.7047, -1.5264, 1.0134,
];

/// `group_norm`: [2, 6, 3] of N(0, 1).
const GROUPS: [f32; 36] = [
    -0.3034, 0.2726, -0.9659, -1.1845, -1.3236, 0.0172, 1.9507, 1.2554, -0.8625, 1.0682, 0.3604,
    0.3985, -0.4957, -0.4461, -0.9721, 1.5157, -0.1546, -0.5596, -1.6698, -0.4040, -0.7927, 0.3736,
    -0.0975, -0.1351, -0.9461, 0.5461, -0.6334, -1.0919, -0.1158, 0.1213, -0.9535, 0.1281, 0.4372,
    -0.2845, 0.3488, 0.5641,
];

/// `layer_norm` and `rms_norm` of `tests/ops.rs`.
const ROWS: [f32; 12] = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 1.0, 7.0, 8.0, 2.0, 8.0];

fn of(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, CPU).unwrap()
}

fn near(ours: Result<Tensor>, theirs: Result<Tensor>, what: &str) {
    let apart = difference(&ours.unwrap(), &theirs.unwrap());
    assert!(apart < 1e-5, "{what}: {apart}");
}

#[test]
fn layer_norm() {
    // `tests/layer_norm.rs`
    for row in [&[2.0][..], &[4.0, 0.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9.0, 8.0, 7.0]] {
        let width = row.len().min(3);
        let (x, w, b) = (
            of(row, &[1, row.len() / width, width]),
            of(&[3.0; 3][..width], &[width]),
            of(&[0.5; 3][..width], &[width]),
        );
        let theirs = candle_nn::LayerNorm::new(w.clone(), b.clone(), 1e-8).forward(&x);
        near(ours::LayerNorm::new(w, b, 1e-8).forward(&x), theirs, "layer");
    }
    // `tests/ops.rs`
    let (x, w, b) =
        (of(&ROWS, &[2, 2, 3]), of(&[1.0, 2.0, 3.0], &[3]), of(&[0.5, 0.0, -0.2], &[3]));
    near(
        ours::LayerNorm::new(w.clone(), b.clone(), 1e-5).forward(&x),
        ops::layer_norm(&x, &w, &b, 1e-5),
        "layer",
    );
    let x = Tensor::rand(0f32, 1.0, (24, 70, 64), CPU).unwrap();
    let (w, b) =
        (Tensor::ones(64, DType::F32, CPU).unwrap(), Tensor::zeros(64, DType::F32, CPU).unwrap());
    near(
        ours::LayerNorm::new(w.clone(), b.clone(), 1e-5).forward(&x),
        ops::layer_norm(&x, &w, &b, 1e-5),
        "layer",
    );
}

#[test]
fn rms_norm() {
    let (x, w) = (of(&ROWS, &[2, 2, 3]), of(&[1.0, 2.0, 3.0], &[3]));
    near(ours::RmsNorm::new(w.clone(), 1e-5).forward(&x), ops::rms_norm(&x, &w, 1e-5), "rms");
    let (x, w) = (
        Tensor::rand(0f32, 1.0, (24, 70, 64), CPU).unwrap(),
        Tensor::ones(64, DType::F32, CPU).unwrap(),
    );
    near(ours::RmsNorm::new(w.clone(), 1e-5).forward(&x), ops::rms_norm(&x, &w, 1e-5), "rms");
    // `rms_norm_large_magnitude`, where candle-nn's two formulations are 5e-3 apart
    let value =
        |i: usize| if i.is_multiple_of(2) { 7e9 } else { -7e9 } * (i as f32 * 0.17).sin().abs();
    let (x, w) = (
        of(&(0..4 * 6912).map(value).collect::<Vec<f32>>(), &[4, 6912]),
        Tensor::ones(6912, DType::F32, CPU).unwrap(),
    );
    near(
        ours::RmsNorm::new(w.clone(), 1e-5).forward(&x),
        ops::rms_norm(&x, &w, 1e-5),
        "rms of large numbers",
    );
}

#[test]
fn group_norm() {
    let (x, w, b) = (of(&GROUPS, &[2, 6, 3]), of(&[1.0; 6], &[6]), of(&[0.0; 6], &[6]));
    for groups in [2, 3] {
        let theirs = candle_nn::GroupNorm::new(w.clone(), b.clone(), 6, groups, 1e-5).unwrap();
        near(
            ours::GroupNorm::new(w.clone(), b.clone(), 6, groups, 1e-5).unwrap().forward(&x),
            theirs.forward(&x),
            "group",
        );
    }
}

#[test]
fn batch_norm() {
    let x = of(&IMAGES, &[2, 5, 3, 4]);
    let (mean, variance) = (of(&[0.0; 5], &[5]), of(&[1.0; 5], &[5]));
    let theirs =
        candle_nn::BatchNorm::new_no_bias(5, mean.clone(), variance.clone(), 1e-8).unwrap();
    let layer = ours::BatchNorm::new_no_bias(5, mean.clone(), variance.clone(), 1e-8).unwrap();
    let y = layer.forward_train(&x).unwrap();
    assert!(values(&y).iter().zip(NORMALIZED).all(|(y, expected)| (y - expected).abs() < 5.1e-5));
    near(Ok(y), theirs.forward_train(&x), "training");
    near(Ok(layer.running_mean().clone()), Ok(theirs.running_mean().clone()), "the running mean");
    near(Ok(layer.running_var().clone()), Ok(theirs.running_var().clone()), "the running variance");
    near(layer.forward_t(&x, false), theirs.forward_t(&x, false), "inference");
    let (w, b) =
        (of(&[0.5], &[1]).broadcast_as(5).unwrap(), of(&[-1.5], &[1]).broadcast_as(5).unwrap());
    let theirs =
        candle_nn::BatchNorm::new(5, mean.clone(), variance.clone(), w.clone(), b.clone(), 1e-8)
            .unwrap();
    let layer = ours::BatchNorm::new(5, mean, variance, w, b, 1e-8).unwrap();
    near(layer.forward_train(&x), theirs.forward_train(&x), "with a weight and a bias");
}

#[test]
fn names_in_a_builder() {
    for names in [["ln.weight", "ln.bias"], ["ln.gamma", "ln.beta"]] {
        let tensors = names.map(|name| (name.to_owned(), of(&[1.0, 2.0, 3.0, 4.0], &[4])));
        let vb = candle_nn::VarBuilder::from_tensors(tensors.into(), DType::F32, CPU);
        let layer = ours::layer_norm(4, 1e-5, vb.pp("ln")).unwrap();
        assert_eq!(values(layer.weight()), values(layer.bias().unwrap()));
        assert!(ours::layer_norm(5, 1e-5, vb.pp("ln")).is_err());
    }
    // the same variables as candle-nn's layers make
    let [mine, theirs] = [candle_nn::VarMap::new(), candle_nn::VarMap::new()];
    let [a, b] =
        [&mine, &theirs].map(|map| candle_nn::VarBuilder::from_varmap(map, DType::F32, CPU));
    ours::layer_norm(4, 1e-5, a.pp("l")).unwrap();
    ours::rms_norm(4, 1e-5, a.pp("r")).unwrap();
    ours::group_norm(2, 4, 1e-5, a.pp("g")).unwrap();
    ours::batch_norm(4, 1e-5, a.pp("b")).unwrap();
    candle_nn::layer_norm(4, 1e-5, b.pp("l")).unwrap();
    candle_nn::rms_norm(4, 1e-5, b.pp("r")).unwrap();
    candle_nn::group_norm(2, 4, 1e-5, b.pp("g")).unwrap();
    candle_nn::batch_norm(4, 1e-5, b.pp("b")).unwrap();
    let listed = |map: &candle_nn::VarMap| {
        let data = map.data().lock().unwrap();
        let mut all: Vec<_> = data.iter().map(|(name, var)| (name.clone(), values(var))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    assert_eq!(listed(&mine), listed(&theirs));
}
