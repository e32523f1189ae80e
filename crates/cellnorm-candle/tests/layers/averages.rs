//! Running averages: variables that move as the library's own do, and what modes do with them.

use candle_core::{DType, Tensor, Var};
use candle_nn::{ModuleT, VarBuilder, VarMap};
use cellnorm_candle::cellnorm::rule::Running;
use cellnorm_candle::cellnorm::{
    BatchNormConfig, Mode, Momentum, Normalization, OneValue, Semantics,
    momentum::Frozen,
    norms::{BatchRenormConfig, SwitchableNormConfig},
};
use cellnorm_candle::{BatchNorm, batch_norm, debug::unreached, rule_norm, switchable_norm};
use ndarray::{ArrayD, IxDyn};

use super::common::*;

fn array(x: &Tensor) -> ArrayD<f64> {
    ArrayD::from_shape_vec(x.dims(), values(x)).unwrap()
}

fn elements(array: &ArrayD<f64>) -> Vec<f64> {
    array.iter().copied().collect()
}

fn f64s() -> (VarMap, VarBuilder<'static>) {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F64, CPU);
    (map, vb)
}

#[test]
fn the_variables_of_the_map_move() {
    let (map, vb) = f64s();
    let layer = batch_norm(3, 1e-5, vb.pp("norm")).unwrap();
    let mut arrays = BatchNormConfig::new(3).init().unwrap();
    for seed in 0..3 {
        let x = tensor(&[4, 3, 5], seed, DType::F64);
        layer.forward_t(&x, true).unwrap();
        arrays.forward(array(&x).view()).unwrap();
    }
    let data = map.data().lock().unwrap();
    let running = arrays.running.unwrap();
    assert_eq!(values(&data["norm.running_mean"]), elements(&running.mean));
    assert_eq!(values(&data["norm.running_var"]), elements(&running.variance));
    assert_eq!(layer.num_batches_tracked(), 3);
}

#[test]
fn rules_have_averages_too() {
    let layer = switchable_norm(3, f64s().1).unwrap();
    let mut arrays = SwitchableNormConfig::new(3).init().unwrap();
    let x = tensor(&[4, 3, 5], 1, DType::F64);
    layer.forward_t(&x, true).unwrap();
    arrays.forward(array(&x).view()).unwrap();
    let (running, (mean, variance)) = (arrays.running.as_ref().unwrap(), layer.running().unwrap());
    assert_eq!(values(mean), elements(&running.mean));
    assert_eq!(values(variance), elements(&running.variance));
    let expected = arrays.infer(array(&x).view()).unwrap();
    assert_eq!(values(&layer.forward_t(&x, false).unwrap()), expected.into_raw_vec_and_offset().0);
}

#[test]
fn momentum_and_semantics() {
    let batches: Vec<Tensor> = (0..3).map(|seed| tensor(&[4, 2], seed, DType::F64)).collect();
    let layer = batch_norm(2, 1e-5, f64s().1).unwrap().with_momentum(Momentum::Cumulative).unwrap();
    batches.iter().for_each(|x| drop(layer.forward_train(x).unwrap()));
    let mean = (batches
        .iter()
        .skip(1)
        .fold(batches[0].clone(), |sum, x| (sum + x).unwrap())
        .mean(0)
        .unwrap()
        / 3.0)
        .unwrap();
    assert!(difference(layer.running_mean(), &mean) < 1e-15);
    assert_eq!(layer.momentum(), 0.25);

    let keras = Semantics::preset("keras-3", Normalization::Batch).unwrap();
    let layer = batch_norm(2, 1e-5, f64s().1).unwrap().with_semantics(&keras).unwrap();
    let mut arrays = BatchNormConfig::new(2).semantics(&keras).init().unwrap();
    let y = layer.forward_train(&batches[0]).unwrap();
    let (expected, _) = arrays.forward(array(&batches[0]).view()).unwrap();
    assert_eq!(values(&y), expected.into_raw_vec_and_offset().0);
    assert_eq!(values(layer.running_var()), elements(&arrays.running.unwrap().variance));
    // where one value has variance 0 there, it has here
    assert_eq!(keras.one_value, OneValue::Beta);
    assert_eq!(values(&layer.forward_train(&tensor(&[1, 2], 1, DType::F64)).unwrap()), [0.0; 2]);
    let layer = Semantics::preset("pytorch-2", Normalization::Layer).unwrap();
    assert!(batch_norm(2, 1e-5, f64s().1).unwrap().with_semantics(&layer).is_err());
}

#[test]
fn pooled_averages_are_the_statistics_of_all_batches() {
    let layer = batch_norm(3, 1e-5, f64s().1).unwrap().with_momentum(Momentum::Pooled).unwrap();
    let mut arrays = BatchNormConfig::new(3).momentum(Momentum::Pooled).init().unwrap();
    for seed in 0..4 {
        let x = (tensor(&[4, 3, 5], seed, DType::F64) + 4.0 * seed as f64).unwrap();
        layer.forward_train(&x).unwrap();
        arrays.forward(array(&x).view()).unwrap();
    }
    let running = arrays.running.unwrap();
    assert_eq!(values(layer.running_mean()), elements(&running.mean));
    assert_eq!(values(layer.running_var()), elements(&running.variance));
    // batches lie 4 apart: the variance of all is more than the mean of theirs, by 16 · 5 / 4
    assert!(values(layer.running_var()).iter().all(|variance| *variance > 15.0));
}

/// PyTorch's `track_running_stats=False`.
#[test]
fn without_running_statistics_inference_is_training() {
    let torch = Semantics::preset("pytorch-2", Normalization::Batch).unwrap();
    let bare = Semantics { running_statistics: false, ..torch };
    let (map, vb) = f64s();
    let made = rule_norm(BatchNormConfig::new(3).semantics(&bare), vb).unwrap();
    let mut names: Vec<_> = map.data().lock().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["bias", "weight"]);
    // a checkpoint of such a layer
    let checkpoint = [("weight", 2.0), ("bias", 1.0)]
        .map(|(name, value)| (name.to_owned(), Tensor::full(value, 3, CPU).unwrap()));
    let vb = VarBuilder::from_tensors(checkpoint.into(), DType::F64, CPU);
    let loaded = rule_norm(BatchNormConfig::new(3).running_statistics(false), vb).unwrap();
    let later = batch_norm(3, 1e-5, f64s().1).unwrap().with_semantics(&bare).unwrap();
    let x = tensor(&[4, 3, 5], 1, DType::F64);
    let expected = batch_norm(3, 1e-5, f64s().1).unwrap().forward_train(&x).unwrap();
    let twice = (&expected * 2.0).and_then(|y| y + 1.0).unwrap();
    for (layer, expected) in [(made, expected.clone()), (loaded, twice), (later, expected)] {
        for mode in [Mode::training(), Mode::inference(), Mode::frozen(Frozen::Inference)] {
            let y = layer.forward_mode(&x, mode).unwrap();
            assert!(difference(&y, &expected) < 1e-12, "{mode:?}");
        }
        assert!(layer.running().is_none());
        assert_eq!(layer.num_batches_tracked(), 0);
        let one = layer.forward_t(&tensor(&[1, 3], 1, DType::F64), false).unwrap_err().to_string();
        assert!(one.contains("one value for each statistic"), "{one}");
        // semantics that keep some have no variables to keep them in
        let layer = layer.with_semantics(&torch).unwrap();
        assert!(layer.running().is_none());
        let refused = layer.with_one_value(OneValue::UseRunning).unwrap_err().to_string();
        assert!(refused.contains("no running statistics to use"), "{refused}");
    }
}

/// The batch renormalization of Keras corrects toward averages of their own pace.
#[test]
fn kerass_renormalization_has_two_pairs() {
    let keras = Semantics::preset("keras-3", Normalization::Batch).unwrap();
    let slow = Semantics { momentum: Momentum::Keep(0.5), ..keras };
    let config = || BatchRenormConfig::new(3).semantics(&slow).channel_axis(1);
    let (map, vb) = f64s();
    let layer = rule_norm(config(), vb).unwrap();
    let mut arrays = config().init().unwrap();
    for seed in 0..5 {
        let x = var(&[4, 3, 5], seed, DType::F64);
        let dy = tensor(&[4, 3, 5], seed + 9, DType::F64);
        let y = layer.forward_t(&x, true).unwrap();
        let (expected, saved) = arrays.forward(array(&x).view()).unwrap();
        assert_eq!(values(&y), elements(&expected));
        let gradients = arrays.backward(&saved, array(&x).view(), array(&dy)).unwrap();
        assert_eq!(values(backward(&y, &dy).get(&x).unwrap()), elements(&gradients.dx));
        let y = layer.forward_t(&x, false).unwrap();
        assert_eq!(values(&y), elements(&arrays.infer(array(&x).view()).unwrap()));
        let own = [layer.running().unwrap(), layer.correction().unwrap()];
        let averages = &arrays.correction.as_ref().unwrap().averages;
        for ((mean, variance), expected) in
            own.into_iter().zip([arrays.running.as_ref().unwrap(), averages])
        {
            assert_eq!(values(mean), elements(&expected.mean));
            assert_eq!(values(variance), elements(&expected.variance));
        }
        assert_ne!(values(layer.running().unwrap().0), values(layer.correction().unwrap().0));
        assert_eq!(layer.num_batches_tracked(), arrays.steps);
    }
    let loss = layer.forward_t(&tensor(&[4, 3], 1, DType::F64), true).unwrap().sum_all().unwrap();
    assert!(unreached(&loss, &map).unwrap().is_empty());
    let data = map.data().lock().unwrap();
    assert_eq!(values(&data["correction_mean"]), values(layer.correction().unwrap().0));

    let plain = rule_norm(BatchRenormConfig::new(3), f64s().1).unwrap();
    assert!(plain.correction().is_none());
    let refused = plain.with_semantics(&keras).unwrap_err().to_string();
    assert!(refused.contains("make it by rule_norm with a config"), "{refused}");
    assert!(layer.clone().with_semantics(&keras).unwrap().correction().is_some());
    let torch = Semantics::preset("pytorch-2", Normalization::Batch).unwrap();
    assert!(layer.with_semantics(&torch).is_err(), "PyTorch has none");
}

#[test]
fn modes() {
    let x = var(&[6, 3], 1, DType::F64);
    let dy = tensor(&[6, 3], 2, DType::F64);
    let (weight, bias) = (var(&[3], 3, DType::F64), var(&[3], 4, DType::F64));
    let new = || {
        let (mean, variance) =
            (tensor(&[3], 5, DType::F64), tensor(&[3], 6, DType::F64).abs().unwrap());
        BatchNorm::new(
            3,
            mean,
            variance,
            weight.as_tensor().clone(),
            bias.as_tensor().clone(),
            1e-5,
        )
        .unwrap()
    };
    let modes =
        [Frozen::Inference, Frozen::BatchStatistics, Frozen::ParametersOnly].map(Mode::frozen);
    for mode in modes.into_iter().chain([Mode::training(), Mode::inference()]) {
        let layer = new();
        let start = (values(layer.running_mean()), values(layer.running_var()));
        let mut arrays = BatchNormConfig::new(3).init().unwrap();
        let of = |t: &Tensor| ArrayD::from_shape_vec(IxDyn(t.dims()), values(t)).unwrap();
        (arrays.gamma, arrays.beta) = (Some(of(&weight)), Some(of(&bias)));
        let [mean, variance] = [layer.running_mean(), layer.running_var()].map(of);
        arrays.running = Some(Running { mean, variance });
        arrays.mode = mode;
        let (expected, saved) = arrays.forward(array(&x).view()).unwrap();
        let y = layer.forward_mode(&x, mode).unwrap();
        assert_eq!(values(&y), expected.into_raw_vec_and_offset().0, "{mode:?}");
        let running = arrays.running.as_ref().unwrap();
        assert_eq!(values(layer.running_mean()), elements(&running.mean), "{mode:?}");
        assert_eq!(values(layer.running_mean()) != start.0, mode.update, "{mode:?}");
        let (gradients, expected) =
            (backward(&y, &dy), arrays.backward(&saved, array(&x).view(), array(&dy)).unwrap());
        assert_eq!(
            values(gradients.get(&x).unwrap()),
            expected.dx.into_raw_vec_and_offset().0,
            "{mode:?}"
        );
        let of_weight = gradients.get(&weight).map(values);
        assert_eq!(of_weight, expected.dgamma.map(|g| g.into_raw_vec_and_offset().0), "{mode:?}");
        assert_eq!(of_weight.is_some(), mode.train_parameters);
    }
}

#[test]
fn averages_that_were_loaded_are_used() {
    let of = |values: [f32; 2]| Tensor::new(&values, CPU).unwrap();
    let tensors = [
        ("running_mean", of([3.0, 2.0])),
        ("running_var", of([4.0, 25.0])),
        ("weight", of([1.0; 2])),
        ("bias", of([0.0; 2])),
    ];
    let vb = VarBuilder::from_tensors(
        tensors.map(|(name, t)| (name.to_owned(), t)).into(),
        DType::F32,
        CPU,
    );
    let layer = batch_norm(2, 1e-12, vb).unwrap();
    let y = layer.forward_t(&Tensor::new(&[[5f32, 7.0]], CPU).unwrap(), false).unwrap();
    assert_eq!(values(&y), [1.0, 1.0]);
    // a step leaves those of the checkpoint alone, and moves the layer's
    let before = Var::from_tensor(layer.running_mean()).unwrap();
    layer.forward_train(&tensor(&[4, 2], 1, DType::F32)).unwrap();
    assert_eq!(values(&before), values(layer.running_mean()));
}

#[test]
fn averages_in_half_precision_are_widened() {
    let new = |dtype| {
        let [zero, one] = [0.0, 1.0].map(|value: f32| Tensor::full(value, 1, CPU).unwrap());
        let [zero, one] = [zero, one].map(|tensor| tensor.to_dtype(dtype).unwrap());
        BatchNorm::new(1, zero.clone(), one.clone(), one, zero, 1e-5).unwrap()
    };
    let layer = new(DType::F16);
    let x = Tensor::new(&[[-2000_f32], [2000.0]], CPU).unwrap().to_dtype(DType::F16).unwrap();
    for expected in [0.9 + 0.1 * 8e6, 0.81 + 0.19 * 8e6] {
        layer.forward_t(&x, true).unwrap();
        assert!((values(layer.running_var())[0] / expected - 1.0).abs() < 1e-6);
    }
    assert!(layer.forward_t(&x, false).is_ok());

    // a step of bf16 from 1 is 1/128, and a batch asks for a tenth of 2.5 of them at most
    let layer = new(DType::BF16);
    let x = Tensor::new(&[[0.01953125], [2.01953125]], CPU).unwrap();
    (0..300).for_each(|_| drop(layer.forward_t(&x, true).unwrap()));
    assert!((values(layer.running_mean())[0] - 1.01953125).abs() < 1e-5);
    // a variance that f32 does not hold
    let layer = new(DType::F32);
    let x = Tensor::new(&[[-1e30_f32], [1e30]], CPU).unwrap();
    let message = layer.forward_t(&x, true).unwrap_err().to_string();
    assert!(message.contains("running_var would be 2.0e59, too large for f32"), "{message}");
    let [mean, variance] = [layer.running_mean(), layer.running_var()].map(values);
    assert_eq!((mean, variance, layer.num_batches_tracked()), (vec![0.0], vec![1.0], 0));
    let running = [DType::F16, DType::BF16, DType::F32, DType::F64]
        .map(|dtype| new(dtype).running_mean().dtype());
    assert_eq!(running, [DType::F32, DType::F32, DType::F32, DType::F64]);
}
