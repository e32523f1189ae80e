//! A folded layer does what the layer and the normalization did.

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::*;
use cellnorm_candle::cellnorm::{Normalization, Semantics};
use cellnorm_candle::fold::{Affine, FixedNorm, Fold};

use super::common::*;

/// A batch normalization that is not the identity, of both libraries.
fn norms(channels: usize) -> (cellnorm_candle::BatchNorm, candle_nn::BatchNorm) {
    let of = |seed| tensor(&[channels], seed, DType::F64);
    let (mean, variance, weight, bias) = (of(1), of(2).sqr().unwrap(), of(3), of(4));
    let ours = cellnorm_candle::BatchNorm::new(
        channels,
        mean.clone(),
        variance.clone(),
        weight.clone(),
        bias.clone(),
        1e-3,
    );
    (
        ours.unwrap(),
        candle_nn::BatchNorm::new(channels, mean, variance, weight, bias, 1e-3).unwrap(),
    )
}

fn check<L: Fold + Module>(layer: L, x: &[usize], inputs: usize, outputs: usize, ahead: bool) {
    let x = tensor(x, 5, DType::F64);
    let same = |a: Result<Tensor>, b: Result<Tensor>| {
        let apart = difference(&a.unwrap(), &b.unwrap());
        assert!(apart < 1e-11, "{} inputs, {} outputs, x {:?}: {apart}", inputs, outputs, x.dims());
    };
    let (ours, theirs) = norms(outputs);
    let expected = || ours.forward_t(&layer.forward(&x)?, false);
    same(layer.fold_after(&ours).unwrap().forward(&x), expected());
    same(layer.fold_after(&theirs).unwrap().forward(&x), expected());
    let (ours, theirs) = norms(inputs);
    if !ahead {
        let error = layer.fold_before(&ours).err().unwrap().to_string();
        assert!(error.contains("is no bias; keep the normalization"), "{error}");
        let scales = ours.affine().unwrap().without_shift();
        let mut along = vec![1; x.rank()];
        along[1] = inputs;
        let scaled =
            x.broadcast_mul(&Tensor::from_slice(scales.scale(), along, CPU).unwrap()).unwrap();
        return same(layer.fold_before(&scales).unwrap().forward(&x), layer.forward(&scaled));
    }
    let expected = || layer.forward(&ours.forward_t(&x, false)?);
    same(layer.fold_before(&ours).unwrap().forward(&x), expected());
    same(layer.fold_before(&theirs).unwrap().forward(&x), expected());
}

#[test]
fn every_layer_both_ways() {
    let (of, bias) = (
        |shape: &[usize]| tensor(shape, 6, DType::F64),
        |n: usize| Some(tensor(&[n], 7, DType::F64)),
    );
    check(Linear::new(of(&[4, 3]), bias(4)), &[5, 3], 3, 4, true);
    check(Linear::new(of(&[4, 3]), None), &[5, 3], 3, 4, true);
    let config = Conv1dConfig { groups: 2, stride: 2, dilation: 2, ..Default::default() };
    check(Conv1d::new(of(&[4, 3, 2]), bias(4), config), &[2, 6, 9], 6, 4, true);
    check(
        Conv1d::new(of(&[4, 3, 2]), None, Conv1dConfig { padding: 1, ..Default::default() }),
        &[2, 3, 9],
        3,
        4,
        false,
    );
    check(
        Conv2d::new(of(&[4, 3, 2, 3]), bias(4), Conv2dConfig::default()),
        &[2, 3, 5, 6],
        3,
        4,
        true,
    );
    check(
        Conv2d::new(of(&[4, 1, 2, 3]), None, Conv2dConfig { groups: 2, ..Default::default() }),
        &[2, 2, 5, 6],
        2,
        4,
        true,
    );
    let config = ConvTranspose1dConfig { groups: 2, padding: 1, ..Default::default() };
    check(ConvTranspose1d::new(of(&[4, 3, 2]), bias(6), config), &[2, 4, 5], 4, 6, true);
    let config = ConvTranspose1dConfig { stride: 2, ..Default::default() };
    // one sample: of more, Candle 0.11.1 transposes the first alone rightly on its way without
    // padding
    check(ConvTranspose1d::new(of(&[4, 3, 2]), None, config), &[1, 4, 5], 4, 3, false);
    let config = ConvTranspose2dConfig { padding: 2, dilation: 2, ..Default::default() };
    check(ConvTranspose2d::new(of(&[4, 3, 2, 2]), bias(3), config), &[2, 4, 5, 5], 4, 3, true);
    check(
        ConvTranspose2d::new(of(&[4, 3, 2, 2]), bias(3), Default::default()),
        &[2, 4, 5, 5],
        4,
        3,
        false,
    );
}

#[test]
fn rounded_once() {
    let conv = Conv1d::new(tensor(&[4, 3, 2], 6, DType::BF16), None, Conv1dConfig::default());
    let (norm, _) = norms(4);
    let folded = conv.fold_after(&norm).unwrap();
    let wide =
        Conv1d::new(conv.weight().to_dtype(DType::F64).unwrap(), None, Conv1dConfig::default());
    let exact = wide.fold_after(&norm).unwrap().weight().to_dtype(DType::BF16).unwrap();
    assert_eq!((folded.weight().dtype(), values(folded.weight())), (DType::BF16, values(&exact)));
    assert!(!folded.weight().track_op());
}

#[test]
fn refusals() {
    let linear = Linear::new(tensor(&[4, 3], 1, DType::F32), None);
    let says = |result: Result<Linear>, words: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    };
    says(
        linear.fold_after(&norms(3).0),
        "the normalization at this side of the layer has the shape [3]; it must be [4]",
    );
    let half = Linear::new(tensor(&[4, 3], 1, DType::F16), None);
    let huge = Affine::new(vec![1e6; 4], vec![0.0; 4]).unwrap();
    says(half.fold_after(&huge), "finite in the type of the layer");
    let conv = Conv1d::new(tensor(&[4, 3, 2], 1, DType::F64), None, Conv1dConfig::default());
    let error = conv.fold_after(&norms(4).0.with_channel_axis(-1)).unwrap_err().to_string();
    assert!(error.contains("Conv1d has its channels on another axis"), "{error}");
    let torch = Semantics::preset("pytorch-2", Normalization::Batch).unwrap();
    let untracked = Semantics { running_statistics: false, ..torch };
    let error = conv.fold_after(&norms(4).0.with_semantics(&untracked).unwrap()).unwrap_err();
    assert!(error.to_string().contains("no running statistics"), "{error}");
    let activated = norms(4).0.with_activation(cellnorm_candle::cellnorm::Activation::Relu);
    let error = conv.fold_after(&activated).unwrap_err().to_string();
    assert!(error.starts_with("batch normalization has an activation"), "{error}");
}
