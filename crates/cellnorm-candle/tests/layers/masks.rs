//! Under a mask a layer gives what it gives for the valid values alone.

use candle_core::{DType, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder, VarMap};
use cellnorm_candle::cellnorm::{Mask, Mode};
use cellnorm_candle::*;

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
