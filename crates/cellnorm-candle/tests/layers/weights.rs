//! Weight normalization: PyTorch's names, its numbers, and gradients.

use candle_core::{DType, Module, Result, Tensor, Var};
use candle_nn::*;
use cellnorm_candle::weights::{WeightNorm, WeightNormed, Weighted};

use super::common::*;

/// g v / ‖v‖ over all axes but the first, of Candle's own operations.
fn composed(g: &Tensor, v: &Tensor) -> Result<Tensor> {
    let axes: Vec<usize> = (1..v.rank()).collect();
    v.broadcast_mul(&g.broadcast_div(&v.sqr()?.sum_keepdim(axes)?.sqrt()?)?)
}

#[test]
fn both_of_pytorch_s_names() {
    for names in [
        ["weight_g", "weight_v"],
        ["parametrizations.weight.original0", "parametrizations.weight.original1"],
    ] {
        let (g, v) = (tensor(&[4, 1, 1], 1, DType::F64), tensor(&[4, 3, 5], 2, DType::F64));
        let tensors = [
            (names[0].to_owned(), g.clone()),
            (names[1].to_owned(), v.clone()),
            ("bias".to_owned(), tensor(&[4], 3, DType::F64)),
        ];
        let vb = VarBuilder::from_tensors(tensors.into(), DType::F64, CPU);
        let conv =
            WeightNormed::<Conv1d>::from_builder((4, 3, 5), true, Default::default(), vb).unwrap();
        let expected = composed(&g, &v).unwrap();
        assert!(difference(conv.plain().unwrap().weight(), &expected) < 1e-12);
        let plain = Conv1d::new(expected, conv.bias().cloned(), Default::default());
        let x = tensor(&[2, 3, 9], 4, DType::F64);
        assert!(difference(&conv.forward(&x).unwrap(), &plain.forward(&x).unwrap()) < 1e-12);
    }
}

#[test]
fn gradients_are_those_of_tensor_operations() {
    let (g, v) = (var(&[4, 1, 1], 1, DType::F64), var(&[4, 3, 5], 2, DType::F64));
    let dw = tensor(&[4, 3, 5], 3, DType::F64);
    let ours = backward(
        &WeightNorm::new(g.as_tensor().clone(), v.as_tensor().clone(), Some(0))
            .unwrap()
            .weight()
            .unwrap(),
        &dw,
    );
    let theirs = backward(&composed(&g, &v).unwrap(), &dw);
    for var in [&g, &v] {
        assert!(difference(ours.get(var).unwrap(), theirs.get(var).unwrap()) < 1e-12);
    }
}

#[test]
fn one_norm_of_all_and_of_another_axis() {
    let w = tensor(&[4, 3], 1, DType::F64);
    for axis in [None, Some(0), Some(1)] {
        let normed = WeightNorm::of_weight(&w, axis).unwrap();
        assert!(difference(&normed.weight().unwrap(), &w) < 1e-15, "{axis:?}");
        let double = Var::from_tensor(normed.g()).unwrap();
        double.set(&(normed.g() * 2.0).unwrap()).unwrap();
        assert!(difference(&normed.weight().unwrap(), &(&w * 2.0).unwrap()) < 1e-15, "{axis:?}");
    }
    let error =
        WeightNorm::new(tensor(&[3], 1, DType::F64), w.clone(), Some(0)).unwrap_err().to_string();
    assert!(error.contains("it must have 4 numbers"), "{error}");
    assert!(WeightNorm::of_weight(&w, Some(2)).is_err());
    // a weight of zeros has no direction
    let zeros = WeightNorm::of_weight(&w.zeros_like().unwrap(), Some(0)).unwrap();
    let gradients = backward(&zeros.weight().unwrap(), &w);
    assert!(values(&zeros.weight().unwrap()).iter().all(|w| *w == 0.0));
    assert!(values(gradients.get(zeros.v()).unwrap()).iter().all(|d| d.is_finite()));
}

fn trains<L: Weighted>(shape: &[usize], config: L::Config, x: &[usize]) {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F64, CPU);
    let layer = WeightNormed::<L>::from_builder(shape, true, config, vb).unwrap();
    let x = tensor(x, 1, DType::F64);
    // g starts as ‖v‖
    assert!(difference(&layer.weight_norm().weight().unwrap(), layer.weight_norm().v()) < 1e-12);
    assert!(
        difference(&layer.plain().unwrap().forward(&x).unwrap(), &layer.forward(&x).unwrap())
            < 1e-15
    );
    let loss = || layer.forward(&x).and_then(|y| y.sqr()?.sum_all()).unwrap();
    // Candle has no gradient of this one, and says so
    if let Err(error) = loss().backward() {
        return assert!(
            error.to_string().starts_with("backward is not supported for conv-transpose1d"),
            "{error}"
        );
    }
    let first = loss();
    assert!(cellnorm_candle::debug::unreached(&first, &map).unwrap().is_empty());
    let mut optimizer = SGD::new(map.all_vars(), 1e-4).unwrap();
    optimizer.backward_step(&first).unwrap();
    assert!(values(&loss())[0] < values(&first)[0]);
}

#[test]
fn every_layer_trains() {
    trains::<Linear>(&[4, 3], (), &[5, 3]);
    trains::<Conv1d>(&[4, 3, 2], Conv1dConfig { groups: 2, ..Default::default() }, &[2, 6, 7]);
    trains::<Conv2d>(
        &[4, 3, 2, 2],
        Conv2dConfig { padding: 1, ..Default::default() },
        &[2, 3, 5, 5],
    );
    trains::<ConvTranspose1d>(
        &[3, 4, 2],
        ConvTranspose1dConfig { stride: 2, ..Default::default() },
        &[2, 3, 5],
    );
    trains::<ConvTranspose2d>(&[3, 4, 2, 2], ConvTranspose2dConfig::default(), &[2, 3, 4, 4]);
}

#[test]
fn a_layer_as_it_is() {
    let conv = Conv1d::new(tensor(&[4, 3, 2], 1, DType::F32), None, Conv1dConfig::default());
    let x = tensor(&[2, 3, 6], 2, DType::F32);
    let normed = WeightNormed::of_layer(&conv).unwrap();
    assert!(difference(&normed.forward(&x).unwrap(), &conv.forward(&x).unwrap()) < 1e-6);
}
