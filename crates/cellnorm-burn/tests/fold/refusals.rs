//! Layers that do not fold, and the messages that say why and which would.

use burn::module::{Module, Quantizer};
use burn::nn::conv::{Conv2dConfig, ConvTranspose1dConfig};
use burn::nn::{self, LinearConfig, PaddingConfig2d};
use burn::tensor::quantization::{Calibration, QuantScheme};
use burn::tensor::{DType, Device, Tensor};
use cellnorm_burn::BatchNormConfig;
use cellnorm_burn::cellnorm::{Error, Mode, momentum::Frozen};
use cellnorm_burn::fold::{Affine, FixedNorm, Fold};

use super::common::{ours, theirs};

fn words<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.expect_err("it is refused").to_string()
}

#[test]
fn a_shift_that_the_border_sees() {
    let device = Device::flex();
    let padded =
        Conv2dConfig::new([3, 4], [3, 3]).with_padding(PaddingConfig2d::Same).init(&device);
    let said = words(padded.fold_before(&ours(3, 1, true, &device)));
    assert!(
        said.starts_with("Conv2d pads with zeros") && said.contains("behind the convolution"),
        "{said}"
    );
    let transposed = ConvTranspose1dConfig::new([3, 4], 2).init(&device);
    let said = words(transposed.fold_before(&theirs(3, true, &device)));
    assert!(said.starts_with("ConvTranspose1d has outputs") && said.contains("stride 1"), "{said}");
}

#[test]
fn statistics_that_move() {
    let device = Device::flex().autodiff();
    let linear = LinearConfig::new(4, 3).init(&device);
    let (mut ours, theirs) = (ours(3, 1, true, &device), theirs(3, true, &device));
    for said in [words(linear.clone().fold_after(&ours)), words(linear.clone().fold_after(&theirs))]
    {
        assert!(
            said.contains("batch") && said.contains("valid()") && said.contains("freeze()"),
            "{said}"
        );
    }
    assert!(linear.clone().fold_after(&ours.clone().freeze()).is_ok());
    assert!(linear.clone().fold_after(&theirs.freeze()).is_ok());
    // frozen as some frameworks mean it: the batch's statistics normalize still
    ours.mode = Mode::frozen(Frozen::BatchStatistics);
    assert!(ours.affine().is_err());
    ours.mode = Mode { update: true, ..Mode::inference() };
    assert!(ours.affine().is_err(), "they move from call to call");
    ours.mode = Mode::inference();
    assert!(linear.fold_after(&ours).is_ok());
}

#[test]
fn channels_elsewhere() {
    let device = Device::flex();
    let conv = Conv2dConfig::new([3, 4], [1, 1]).init(&device);
    assert!(conv.clone().fold_after(&ours(4, -3, true, &device)).is_ok());
    let said = words(conv.clone().fold_after(&ours(4, -1, true, &device)));
    assert!(
        said.starts_with("Conv2d has its channels on another axis")
            && said.contains("channel_axis"),
        "{said}"
    );
    let linear = LinearConfig::new(3, 4).init(&device);
    assert!(
        linear.clone().fold_after(&ours(4, 2, true, &device)).is_ok(),
        "the last of three axes"
    );
    assert!(linear.clone().fold_after(&ours(4, -2, true, &device)).is_err());
    // outputs and inputs confused
    let said = words(linear.fold_before(&ours(4, 1, true, &device)));
    assert_eq!(
        said,
        "the normalization at this side of the layer has the shape [4]; it must be [3]"
    );
    assert!(conv.fold_after(&theirs(3, true, &device)).is_err());
}

#[test]
fn numbers_that_cannot_be() {
    let device = Device::flex();
    let linear = LinearConfig::new(2, 2).init(&device);
    let norm = nn::BatchNormConfig::new(2).init(&device);
    for variance in [-1.0, f32::NAN] {
        norm.running_var.update(Tensor::from_floats([1.0, variance], &device));
        let said = words(linear.clone().fold_after(&norm));
        assert!(said.starts_with("variance is"), "{said}");
    }
    let large = Affine::new(vec![1e30; 2], vec![0.0; 2]).expect("finite");
    let said =
        words(linear.clone().fold_after(&large).and_then(|folded| folded.fold_after(&large)));
    assert!(said.contains("finite in the layer's own type"), "{said}");
    let mut half = linear;
    half.weight = half.weight.map(|weight| weight.cast(DType::F16));
    assert!(
        words(half.fold_after(&Affine::new(vec![1e9; 2], vec![0.0; 2]).expect("finite")))
            .contains("own type")
    );
    BatchNormConfig::new(2).init(&device).affine().expect("and an untouched one is sound");
}

#[test]
fn quantized_weights() {
    let device = Device::flex();
    let linear = LinearConfig::new(32, 32).init(&device);
    let mut quantizer = Quantizer::new(Calibration::MinMax, QuantScheme::default());
    let quantized = linear.quantize_weights(&mut quantizer);
    assert!(matches!(quantized.weight.val().dtype(), DType::QFloat(_)));
    let said = words(quantized.fold_after(&ours(32, 1, true, &device)));
    assert!(said.contains("fold first"), "{said}");
}
