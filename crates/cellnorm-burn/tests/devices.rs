//! On a device without the fused operations the layers run on Burn's own, and give the same numbers
//! within rounding.

use burn::backend::DispatchDevice;
use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use cellnorm_burn::cellnorm::Activation;
use cellnorm_burn::functions::{cell_affine, cell_moments};
use cellnorm_burn::{BatchInstanceNormConfig, SwitchableNormConfig};
use cellnorm_burn::{
    BatchNormConfig, GemmaRmsNormConfig, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    RmsNormConfig,
};
use cellnorm_burn::{LocalResponseNormConfig, LpNormConfig};

#[expect(deprecated, reason = "the only other backend that builds without a GPU")]
fn ndarray() -> Device {
    let device = Device::ndarray();
    assert!(!matches!(device.as_dispatch(), DispatchDevice::Flex(_)), "a second backend");
    device
}

/// y and dx of a layer that `make`s itself on a device, for the same x and the loss Σ sin y.
fn outcome<const D: usize>(
    device: Device,
    x: &TensorData,
    layer: impl FnOnce(&Device, Tensor<D>) -> Tensor<D>,
) -> [Vec<f32>; 2] {
    let device = device.autodiff();
    let x = Tensor::<D>::from_data(x.clone(), &device).require_grad();
    let y = layer(&device, x.clone());
    let gradients = y.clone().sin().sum().backward();
    let dx = x.grad(&gradients).expect("x requires it");
    [y.into_data().try_to_vec().expect("f32"), dx.into_data().try_to_vec().expect("f32")]
}

fn assert_same<const D: usize>(
    name: &str,
    shape: [usize; D],
    layer: impl Fn(&Device, Tensor<D>) -> Tensor<D>,
) {
    let x = Tensor::<D>::random(shape, Distribution::Normal(1.0, 2.0), &Device::flex()).into_data();
    let fused = outcome(Device::flex(), &x, &layer);
    let composed = outcome(ndarray(), &x, &layer);
    for (fused, composed) in fused.iter().zip(&composed) {
        let error = fused.iter().zip(composed).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error < 2e-5, "{name}: fused and composed differ by {error}");
    }
}

#[test]
fn training_is_the_same_on_both() {
    assert_same("batch", [4, 5, 6, 3], |device, x| BatchNormConfig::new(5).init(device).forward(x));
    let last = BatchNormConfig::new(3).with_channel_axis(-1);
    assert_same("batch, channels-last", [4, 5, 6, 3], |device, x| last.init(device).forward(x));
    assert_same("group", [3, 6, 7], |device, x| GroupNormConfig::new(2, 6).init(device).forward(x));
    let last = GroupNormConfig::new(2, 6).with_channel_axis(-1);
    assert_same("group, channels-last", [3, 4, 5, 6], |device, x| last.init(device).forward(x));
    assert_same("instance", [3, 6, 7], |device, x| {
        InstanceNormConfig::new(6).init(device).forward(x)
    });
    assert_same("layer", [3, 4, 17], |device, x| LayerNormConfig::new(17).init(device).forward(x));
    let middle = LayerNormConfig::over(&[1, 2], &[4, 5]);
    assert_same("layer over the middle", [3, 4, 5, 6], |device, x| middle.init(device).forward(x));
    assert_same("layer per channel", [3, 4, 5], |device, x| {
        LayerNormConfig::per_channel(4).init(device).forward(x)
    });
    assert_same("rms", [3, 4, 17], |device, x| RmsNormConfig::new(17).init(device).forward(x));
    let bare = GroupNormConfig::new(3, 6).with_scale(false).with_center(false);
    assert_same("without parameters", [3, 6, 7], |device, x| bare.init(device).forward(x));
}

#[test]
fn activations_are_the_same_on_both() {
    for activation in
        [Activation::Relu, Activation::LeakyRelu(0.2), Activation::Silu, Activation::Gelu]
    {
        let name = format!("{activation:?}");
        let batch = BatchNormConfig::new(5);
        assert_same(&name, [4, 5, 6, 3], |device, x| {
            batch.init(device).forward_activated(x, activation)
        });
        let group = GroupNormConfig::new(2, 6).with_channel_axis(-1);
        assert_same(&name, [3, 4, 5, 6], |device, x| {
            group.init(device).forward_activated(x, activation)
        });
        let layer = LayerNormConfig::new(17);
        assert_same(&name, [3, 4, 17], |device, x| {
            layer.init(device).forward_activated(x, activation)
        });
        let rms = RmsNormConfig::new(9);
        assert_same(&name, [3, 4, 9], |device, x| {
            rms.init(device).forward_activated(x, activation)
        });
        let instance = InstanceNormConfig::new(6);
        assert_same(&name, [3, 6, 7], |device, x| {
            instance.init(device).forward_activated(x, activation)
        });
    }
}

#[test]
fn half_precision_is_rounded_once() {
    let x = Tensor::<2>::random([40, 64], Distribution::Normal(1.0, 2.0), &Device::flex());
    for dtype in [DType::BF16, DType::F16] {
        let narrow = x.clone().cast(dtype);
        let layer = LayerNormConfig::new(64).init(&Device::flex());
        let (y, wide) = (layer.forward(narrow.clone()), layer.forward(narrow.cast(DType::F32)));
        assert_eq!(y.dtype(), dtype);
        assert_eq!(y.into_data().convert::<f32>(), wide.cast(dtype).into_data().convert::<f32>());
    }
}

/// γ is 1 and a number smaller than half a digit of the type at 1.
#[test]
fn an_offset_of_gamma_keeps_its_digits() {
    let device = Device::flex();
    let x = Tensor::<2>::random([40, 64], Distribution::Normal(1.0, 2.0), &device);
    for dtype in [DType::BF16, DType::F16] {
        let narrow = x.clone().cast(dtype);
        let stored = Tensor::<1>::full([64], 0.0003, (&device, dtype));
        let [half, wide] = [dtype, DType::F32].map(|of| {
            let mut layer = GemmaRmsNormConfig::new(&[64]).init(&device);
            layer.gamma = Some(Param::from_tensor(stored.clone().cast(of)));
            layer
        });
        let (y, wide) = (half.forward(narrow.clone()), wide.forward(narrow.cast(DType::F32)));
        assert_eq!(y.dtype(), dtype);
        assert_eq!(y.into_data().convert::<f32>(), wide.cast(dtype).into_data().convert::<f32>());
    }
}

#[test]
fn rules_are_the_same_on_both() {
    let switchable = |device: &Device, x| SwitchableNormConfig::new(5).init(device).forward(x);
    assert_same::<4>("switchable", [4, 5, 6, 3], switchable);
    let last = |device: &Device, x: Tensor<4>| {
        let config = BatchInstanceNormConfig::new(6).with_channel_axis(-1);
        config.init(device).forward(x.swap_dims(1, 3))
    };
    assert_same::<4>("batch-instance, transposed", [4, 6, 3, 5], last);
}

#[test]
fn lines_are_the_same_on_both() {
    let lp = |axes: &[isize]| LpNormConfig::new(axes.to_vec()).init();
    assert_same::<4>("lp", [3, 11, 9, 10], |_, x| lp(&[1]).forward(x));
    assert_same::<4>("lp of the last axis", [3, 4, 5, 19], |_, x| lp(&[-1]).forward(x));
    assert_same::<4>("lp of axes that are not neighbours", [3, 4, 5, 6], |_, x| {
        lp(&[1, 3]).forward(x)
    });
    assert_same::<4>("lp, transposed", [3, 4, 5, 6], |_, x| lp(&[1]).forward(x.swap_dims(1, 3)));
    let response =
        |axis| LocalResponseNormConfig::new(3).with_alpha(0.5).with_channel_axis(axis).init();
    assert_same::<4>("local response", [3, 11, 9, 10], |_, x| response(1).forward(x));
    assert_same::<4>("local response, channels-last", [3, 5, 6, 11], |_, x| {
        response(-1).forward(x)
    });
    assert_same::<4>("local response, transposed", [3, 4, 5, 6], |_, x| {
        response(1).forward(x.swap_dims(1, 3))
    });
}

#[test]
fn frozen_and_inference_are_the_same_on_both() {
    let frozen = |device: &Device, x: Tensor<4>| {
        let layer = BatchNormConfig::new(5).init(device);
        layer.forward(x.clone());
        layer.freeze().forward(x)
    };
    assert_same("frozen batch", [4, 5, 6, 3], frozen);
}

#[test]
fn cells_are_the_same_on_both() {
    for channels_last in [false, true] {
        let standardize = |device: &Device, x: Tensor<4>| {
            let c = x.dims()[if channels_last { 3 } else { 1 }];
            let (mean, variance) = cell_moments(x.clone(), channels_last);
            let zero = Tensor::zeros([1, c], device);
            cell_affine(x, mean, (variance + 1e-5).sqrt().recip(), zero, channels_last)
        };
        assert_same("cells", [3, 4, 5, 6], standardize);
    }
}
