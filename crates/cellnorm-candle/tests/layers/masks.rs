//! Under a mask a layer gives what it gives for the valid values alone.

use candle_core::{DType, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder, VarMap};
use cellnorm_candle::cellnorm::{
    BatchNormConfig, LayerNormConfig, Mask, Mode, Normalization, Semantics, shape::Excluded,
};
use cellnorm_candle::*;
use ndarray::ArrayD;

use super::common::*;

fn vb() -> VarBuilder<'static> {
    VarBuilder::from_varmap(&VarMap::new(), DType::F64, CPU)
}

/// [2, 4, 3], whose second sample has 2 steps of 4; the others hold NaN.
fn padded() -> (Tensor, Mask) {
    let (x, nan) =
        (tensor(&[2, 4, 3], 1, DType::F64), Tensor::full(f64::NAN, (2, 3), CPU).unwrap());
    let second = Tensor::cat(&[x.get(1).unwrap().narrow(0, 0, 2).unwrap(), nan], 0).unwrap();
    (Tensor::stack(&[x.get(0).unwrap(), second], 0).unwrap(), Mask::lengths(&[4, 2], 1))
}

#[test]
fn samples_of_their_own_length() {
    let (x, mask) = padded();
    let x = candle_core::Var::from_tensor(&x).unwrap();
    let layer = instance_norm(3, 1e-5, vb()).unwrap().with_channel_axis(-1);
    let y = layer.forward_masked(&x, &mask).unwrap();
    for (sample, steps) in [(0, 4), (1, 2)] {
        let alone = x.narrow(0, sample, 1).and_then(|x| x.narrow(1, 0, steps)).unwrap();
        let of_sample = y.narrow(0, sample, 1).unwrap();
        assert!(
            difference(&of_sample.narrow(1, 0, steps).unwrap(), &layer.forward(&alone).unwrap())
                < 1e-12
        );
        assert!(values(&of_sample.narrow(1, steps, 4 - steps).unwrap()).iter().all(|y| *y == 0.0));
    }
    let dx = backward(&y, &tensor(&[2, 4, 3], 2, DType::F64)).remove(&x).unwrap();
    assert!(values(&dx.get(1).unwrap().narrow(0, 2, 2).unwrap()).iter().all(|dx| *dx == 0.0));
    assert!(values(&dx).iter().all(|dx| dx.is_finite()));
}

#[test]
fn batches_of_valid_values() {
    let (x, mask) = padded();
    let layer = batch_norm(3, 1e-5, vb()).unwrap().with_channel_axis(-1);
    let y = layer.forward_masked(&x, &mask, Mode::training()).unwrap();
    let valid = |t: &Tensor| t.flatten_to(1).and_then(|rows| rows.narrow(0, 0, 6)).unwrap();
    let alone = batch_norm(3, 1e-5, vb()).unwrap();
    assert!(difference(&valid(&y), &alone.forward_train(&valid(&x)).unwrap()) < 1e-12);
    assert!(difference(layer.running_var(), alone.running_var()) < 1e-12);
    let y = layer.forward_masked(&x, &mask, Mode::inference()).unwrap();
    assert!(difference(&valid(&y), &alone.forward_t(&valid(&x), false).unwrap()) < 1e-12);
}

#[test]
fn every_layer_that_has_statistics() {
    // a mask of all values changes nothing
    let x = tensor(&[3, 4, 5], 1, DType::F64);
    let all = Mask::lengths(&[5, 5, 5], 2);
    let same = |masked: Tensor, plain: Tensor| assert!(difference(&masked, &plain) < 1e-12);
    let layer = layer_norm(5, 1e-5, vb()).unwrap();
    same(layer.forward_masked(&x, &all).unwrap(), layer.forward(&x).unwrap());
    let layer = rms_norm(5, 1e-5, vb()).unwrap();
    same(layer.forward_masked(&x, &all).unwrap(), layer.forward(&x).unwrap());
    let layer = group_norm(2, 4, 1e-5, vb()).unwrap();
    same(layer.forward_masked(&x, &all).unwrap(), layer.forward(&x).unwrap());
    let layer = filter_response_norm(4, vb()).unwrap();
    same(
        layer.forward_masked(&x, &all, Mode::training()).unwrap(),
        layer.forward_t(&x, true).unwrap(),
    );
    let layer = switchable_norm(4, vb()).unwrap();
    same(
        layer.forward_masked(&x, &all, Mode::training()).unwrap(),
        layer.forward_t(&x, true).unwrap(),
    );
    let error = layer
        .forward_masked(&x, &Mask::lengths(&[5, 5], 2), Mode::training())
        .unwrap_err()
        .to_string();
    assert!(error.contains("lengths"), "{error}");
}

fn array(x: &Tensor) -> ArrayD<f64> {
    ArrayD::from_shape_vec(x.dims(), values(x)).unwrap()
}

fn elements(array: ArrayD<f64>) -> Vec<f64> {
    array.into_raw_vec_and_offset().0
}

/// [2, 4, 3] with finite values outside the mask, and dy that is not 0 there.
fn valid_and_not() -> (candle_core::Var, Tensor, Mask) {
    let (x, dy) = (var(&[2, 4, 3], 1, DType::F64), tensor(&[2, 4, 3], 2, DType::F64));
    (x, dy, Mask::lengths(&[4, 2], 1))
}

#[test]
fn keras_normalizes_what_a_mask_excludes() {
    let (x, dy, mask) = valid_and_not();
    let keras = Semantics::preset("keras-3", Normalization::Batch).unwrap();
    let config = || BatchNormConfig::new(3).semantics(&keras);
    let made = [
        rule_norm(config(), vb()).unwrap(),
        batch_norm(3, 1e-5, vb()).unwrap().with_semantics(&keras).unwrap(),
        batch_norm(3, 1e-3, vb())
            .unwrap()
            .with_channel_axis(-1)
            .with_excluded(Excluded::Normalized),
    ];
    for layer in made {
        let mut arrays = config().init().unwrap();
        let (expected_y, saved) = arrays.forward_masked(array(&x).view(), &mask).unwrap();
        let expected = arrays.backward(&saved, array(&x).view(), array(&dy)).unwrap();
        let y = layer.forward_masked(&x, &mask, Mode::training()).unwrap();
        let outside = values(&y.get(1).unwrap().narrow(0, 2, 2).unwrap());
        assert!(outside.iter().all(|y| *y != 0.0));
        assert_eq!(values(&y), elements(expected_y));
        let gradients = backward(&y, &dy);
        assert_eq!(values(gradients.get(&x).unwrap()), elements(expected.dx));
        for (name, expected) in [("gamma", expected.dgamma), ("beta", expected.dbeta)] {
            let gradient = gradients.get(layer.parameter(name).unwrap()).unwrap();
            assert_eq!(values(gradient), elements(expected.unwrap()), "{name}");
        }
    }
}

#[test]
fn flax_normalizes_what_a_mask_excludes() {
    let (x, dy, _) = valid_and_not();
    // without the last feature of the second sample
    let mask = Mask::lengths(&[3, 2], 2);
    let flax = Semantics::preset("flax-0.12", Normalization::Layer).unwrap();
    let layer = layer_norm(3, 1e-5, vb()).unwrap().with_semantics(&flax).unwrap();
    let mut arrays = LayerNormConfig::new(&[3]).semantics(&flax).init().unwrap();
    let (expected_y, saved) = arrays.forward_masked(array(&x).view(), &mask).unwrap();
    let expected = arrays.backward(&saved, array(&x).view(), array(&dy)).unwrap();
    let y = layer.forward_masked(&x, &mask).unwrap();
    assert_eq!(values(&y), elements(expected_y));
    assert_eq!(values(backward(&y, &dy).get(&x).unwrap()), elements(expected.dx));
    let zero = layer.with_excluded(Excluded::Zero).forward_masked(&x, &mask).unwrap();
    assert_eq!(values(&zero.get(1).unwrap().narrow(1, 2, 1).unwrap()), [0.0; 4]);
}
