//! A folded parameter keeps its id, device, type, whether it trains, and its form in records.

use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::nn::{LinearConfig, LinearLayout};
use burn::tensor::{DType, Device, Tensor, TensorData, f16};
use cellnorm_burn::fold::{Affine, Fold};
use cellnorm_burn::weights::{WeightNorm, WeightNormConfig};

use super::common::{assert_near, ours, random};

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().expect("converted")
}

#[test]
fn ids_and_training_stay() {
    let device = Device::flex().autodiff();
    let norm = ours(3, 1, true, &device).freeze();
    let conv = Conv2dConfig::new([2, 3], [2, 2]).init(&device);
    let ids =
        |conv: &burn::nn::conv::Conv2d| (conv.weight.id, conv.bias.as_ref().expect("a bias").id);
    let folded = conv.clone().fold_after(&norm).expect("frozen");
    assert_eq!(ids(&folded), ids(&conv));
    let gradients = folded.forward(random([1, 2, 4, 4], &device)).square().sum().backward();
    assert!(folded.weight.val().grad(&gradients).is_some());
    assert!(folded.bias.expect("a bias").val().grad(&gradients).is_some());
    let frozen = conv.freeze().fold_after(&norm).expect("frozen");
    assert!(!frozen.weight.is_require_grad() && !frozen.bias.expect("a bias").is_require_grad());
}

#[test]
fn a_new_bias_trains_if_the_weight_does() {
    let device = Device::flex().autodiff();
    let norm = ours(3, 1, true, &device).freeze();
    let trained = |device: &Device, freeze: bool, valid: bool| {
        let conv = Conv2dConfig::new([2, 3], [2, 2]).with_bias(false).init(device);
        let conv = if freeze { conv.freeze() } else { conv };
        let folded = match valid {
            true => conv.valid().fold_after(&norm.valid()).expect("inference").train(),
            false => conv.fold_after(&norm).expect("frozen"),
        };
        (folded.weight.is_require_grad(), folded.bias.expect("a new bias").is_require_grad())
    };
    for valid in [false, true] {
        assert_eq!(trained(&device, false, valid), (true, true), "valid: {valid}");
        assert_eq!(trained(&device, true, valid), (false, false), "valid: {valid}");
    }
}

#[test]
fn types_stay_and_are_rounded_to_once() {
    let device = Device::flex();
    let map = Affine::new(vec![1.1, -0.7, 1e-3], vec![0.1, 0.2, 0.3]).expect("finite");
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let mut linear = LinearConfig::new(5, 3).with_bias(false).init(&device);
        linear.weight = linear.weight.map(|weight| weight.cast(dtype));
        let folded = linear.clone().fold_after(&map).expect("finite");
        let bias = folded.bias.expect("a bias").val();
        assert_eq!((folded.weight.val().dtype(), bias.dtype()), (dtype, dtype));
        let numbers = |tensor: Tensor<2>| {
            tensor.into_data().convert::<f64>().try_to_vec::<f64>().expect("f64")
        };
        let (old, new) = (numbers(linear.weight.val()), numbers(folded.weight.val()));
        let half = dtype.finfo().expect("a float").epsilon / 2.0;
        for (i, (old, new)) in old.into_iter().zip(new).enumerate() {
            let exact = old * map.scale()[i % 3];
            // the smallest numbers of f16 lie 6e-8 apart
            let smallest = if dtype == DType::F16 { 3e-8 } else { 0.0 };
            assert!(
                (new - exact).abs() <= exact.abs() * half + smallest,
                "{dtype:?}: {new} is not {exact}"
            );
        }
    }
    // the middle of two halves and a little: through f32 it would be rounded down
    let mut linear = LinearConfig::new(1, 1).init(&device);
    let one = TensorData::new(vec![f16::from_f32(1.0)], [1, 1]);
    linear.weight = linear.weight.map(|_| Tensor::from_data(one, (&device, DType::F16)));
    let middle =
        Affine::new(vec![1.0 + 2f64.powi(-11) + 2f64.powi(-40)], vec![0.0]).expect("finite");
    let folded = linear.fold_after(&middle).expect("finite");
    assert_eq!(values(folded.weight.val()), [1.0 + 2f32.powi(-10)]);
}

#[test]
fn records_keep_their_layout() {
    let device = Device::flex();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for layout in [LinearLayout::Row, LinearLayout::Col] {
        let config = LinearConfig::new(2, 3).with_layout(layout);
        let folded =
            config.init(&device).fold_after(&ours(3, 1, true, &device)).expect("inference");
        let path = folder.path().join("linear");
        folded.clone().save_file(&path).expect("saved");
        let loaded = config.init(&device).load_file(&path);
        assert_eq!(values(loaded.weight.val()), values(folded.weight.val()));
    }
}

#[test]
fn normalized_weights_become_plain() {
    let device = Device::flex();
    let norm = ours(3, 1, true, &device);
    let linear =
        LinearConfig::new(4, 3).init(&device).apply_reparameterization(WeightNormConfig::new());
    let x = random([6, 4], &device);
    let expected = norm.forward(linear.forward(x.clone()));
    let folded = linear.fold_after(&norm).expect("inference");
    assert!(folded.weight.reparameterization::<WeightNorm>().is_none());
    assert_near(folded.forward(x), expected, "a normalized weight");
}

#[test]
#[expect(deprecated, reason = "the only other backend that builds without a GPU")]
fn another_device() {
    let device = Device::ndarray();
    let norm = ours(3, 1, true, &device);
    let conv = Conv2dConfig::new([2, 3], [2, 2]).with_bias(false).init(&device);
    let x = random([2, 2, 5, 5], &device);
    let expected = norm.forward(conv.forward(x.clone()));
    let folded = conv.fold_after(&norm).expect("inference");
    assert_eq!(folded.bias.as_ref().expect("a bias").device(), device);
    assert_near(folded.forward(x), expected, "on another device");
}
