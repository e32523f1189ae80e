//! The lines of `docs/seed-features.md` that are Burn's, each under its row's number; the errata
//! tests of `cellnorm` ask for them, and have those on arrays.

use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::nn::{DropoutConfig, Initializer, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use cellnorm_burn::{BatchNormConfig, GroupNormConfig};

/// The network of `cellnorm compare`, layer by layer.
#[test]
fn a_network_of_a_convolution_and_two_dense_layers() {
    // 000-01
    let device = Device::flex();
    // 001-10
    let conv = Conv2dConfig::new([1, 10], [3, 3]).init(&device);
    let norm = GroupNormConfig::new(5, 10).init(&device);
    let x = Tensor::random([2, 1, 28, 28], Distribution::Default, &device);
    // 004-15
    let x = relu(norm.forward(conv.forward(x)));
    // 001-12
    let x = x.flatten::<2>(1, 3);
    assert_eq!(x.dims(), [2, 6760]);
    // 001-13
    let x = relu(LinearConfig::new(6760, 128).init(&device).forward(x));
    // 001-14
    let dropout = DropoutConfig::new(0.2).init();
    // 001-15
    let last = LinearConfig::new(128, 10).init(&device);
    assert_eq!(last.forward(dropout.forward(x)).dims(), [2, 10]);
}

#[test]
fn weights_beside_a_normalization() {
    let device = Device::flex();
    // 004-01
    let xavier = LinearConfig::new(6760, 128)
        .with_initializer(Initializer::XavierUniform { gain: 1.0 })
        .init(&device);
    assert_eq!(xavier.weight.dims(), [6760, 128]);
    // 003-24
    let conv = Conv2dConfig::new([1, 10], [3, 3]).with_bias(false).init(&device);
    assert!(conv.bias.is_none());
}

#[test]
fn a_frozen_network() {
    let device = Device::flex().autodiff();
    let backbone = BatchNormConfig::new(3).init(&device);
    // 004-31
    let backbone = backbone.freeze();
    let x = Tensor::<4>::random([4, 3, 2, 2], Distribution::Default, &device);
    backbone.forward(x);
    assert_eq!(backbone.running_mean.value_sync().abs().sum().into_scalar::<f32>(), 0.0);
}
