//! Options that few frameworks have: what a mask excludes, no running statistics, frozen
//! parameters, accumulated statistics. Each value is the framework's, by its formula in f64.

use cellnorm::data::{Normalize, NormalizeConfig};
use cellnorm::norms::{
    BatchInstanceNormConfig, GhostBatchNormConfig, RmsScalingNormConfig, StepBatchNormConfig,
    SwitchableNormConfig, TrackedInstanceNormConfig,
};
use cellnorm::parameters::{Constraint, Regularizer};
use cellnorm::ranks::Threads;
use cellnorm::rule::{NormConfig, ParameterRules, Rule, Rules};
use cellnorm::shape::Excluded;
use cellnorm::state::{DType, State, Tensor, Tensors};
use cellnorm::{
    BatchNormConfig, Error, InstanceNormConfig, LayerNormConfig, Mask, Momentum, Normalization,
    OneValue, RmsNormConfig, RunningVariance, Semantics,
};
use ndarray::{Array2, Array3, ArrayD, Axis, IxDyn, array, s};

use crate::common::{Numbers, averages, distance, message, preset, running};

/// Keras 3 and Flax take the statistics of valid values, and normalize all; here 0 is the default.
#[test]
fn excluded_values_are_normalized_as_in_keras_and_flax() -> Result<(), Error> {
    let x = Numbers::new(1).tensor(&[2, 3, 4], 1.0);
    let mask = Mask::lengths(&[4, 1], 2);
    let valid = mask.over(&[2, 3, 4])?;
    for (name, excluded) in [
        ("keras-3", Excluded::Normalized),
        ("flax-0.12", Excluded::Normalized),
        ("pytorch-2", Excluded::Zero),
    ] {
        let semantics = preset(name, Normalization::Batch);
        assert_eq!(semantics.excluded, excluded);
        let config = BatchNormConfig::new(3).semantics(&semantics).channel_axis(1);
        let (y, _) = config.init()?.forward_masked(x.view(), &mask)?;
        for c in 0..3 {
            let [x, y] = [&x, &y].map(|a| a.index_axis(Axis(1), c).to_owned());
            let pairs: Vec<(f64, bool)> =
                x.into_iter().zip(valid.index_axis(Axis(1), c).iter().copied()).collect();
            let values: Vec<f64> =
                pairs.iter().filter(|(_, valid)| *valid).map(|(x, _)| *x).collect();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let expected = pairs.iter().map(|(x, valid)| {
                let normalized = (x - mean) / (variance + semantics.epsilon).sqrt();
                if *valid || excluded == Excluded::Normalized { normalized } else { 0.0 }
            });
            assert!(distance(y, expected) < 1e-12, "{name}");
        }
    }
    Ok(())
}

/// Its own dy has no part in dx: what is left is that of the values which it normalizes.
#[test]
fn the_only_valid_value_moves_the_excluded_ones_alone() -> Result<(), Error> {
    let x = array![[1e4 / 3.0, 1e4 / 3.0 + 1.0, 1e4 / 3.0 - 2.0]];
    let mask = Mask::lengths(&[1], 1);
    let mut layer = LayerNormConfig::new(&[3]).excluded(Excluded::Normalized).init()?;
    let (y, saved) = layer.forward_masked(x.view(), &mask)?;
    let r = 1.0 / 1e-5_f64.sqrt();
    assert!(distance(y, [0.0, r, -2.0 * r]) < 1e-9);
    let dx = |dy| layer.backward(&saved, x.view(), dy).map(|gradients| gradients.dx);
    assert_eq!(dx(array![[1.0 / 3.0, 0.0, 0.0]])?, array![[0.0, 0.0, 0.0]]);
    // y₁ = r (x₁ − x₀): with one valid value its variance has no slope
    assert!(distance(dx(array![[1.0 / 3.0, 2.0, 0.0]])?, [-2.0 * r, 2.0 * r, 0.0]) < 1e-9);
    Ok(())
}

/// With several valid values a channel, and with one on all ranks, where most have none.
#[test]
fn excluded_values_are_normalized_over_ranks() -> Result<(), Error> {
    let mut numbers = Numbers::new(3);
    let (x, dy) = (numbers.tensor(&[4, 2, 3], 0.5), numbers.tensor(&[4, 2, 3], 0.0));
    for lengths in [[3, 1, 0, 2], [0, 0, 1, 0]] {
        let config = BatchNormConfig::new(2).excluded(Excluded::Normalized);
        let mut whole = config.clone().init()?;
        let (y, saved) = whole.forward_masked(x.view(), &Mask::lengths(&lengths, 2))?;
        let dx = whole.backward(&saved, x.view(), dy.view())?.dx;
        let run = |(rank, ranks): (usize, Threads)| {
            let part = 2 * rank..2 * rank + 2;
            let [x, dy] = [&x, &dy].map(|of| of.slice_axis(Axis(0), part.clone().into()));
            let mask = Mask::lengths(&lengths[part.clone()], 2);
            let mut layer = config.clone().init()?;
            let (y, saved) = layer.forward_over(x.view(), Some(&mask), &ranks)?;
            let dx = layer.backward_over(&saved, x, dy, &ranks)?.dx;
            Ok::<_, Error>([y, dx])
        };
        let parts: Vec<_> = std::thread::scope(|scope| {
            let ranks = Threads::split(2).into_iter().enumerate();
            let threads: Vec<_> = ranks
                .map(|rank| {
                    scope.spawn({
                        let run = &run;
                        move || run(rank)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        for (i, expected) in [y, dx].iter().enumerate() {
            let joined = ndarray::concatenate![Axis(0), parts[0][i], parts[1][i]];
            let scale = expected.iter().fold(1.0, |most: f64, v| most.max(v.abs()));
            assert!(distance(joined, expected.iter().copied()) < 1e-12 * scale);
        }
    }
    Ok(())
}

/// PyTorch's `track_running_stats=False`: `eval()` takes the statistics of x as well, one value is
/// an error there, too, and the checkpoint holds γ and β alone.
#[test]
fn without_running_statistics_inference_is_training() -> Result<(), Error> {
    let torch = preset("pytorch-2", Normalization::Batch);
    let bare = Semantics { running_statistics: false, ..torch };
    let mut layer = BatchNormConfig::new(2).semantics(&bare).init()?;
    let x = Numbers::new(5).tensor(&[4, 2, 3], 2.0);
    let (y, _) = layer.forward(x.view())?;
    layer.train(false);
    let (again, saved) = layer.forward(x.view())?;
    assert_eq!((&y, &y), (&again, &layer.infer(x.view())?));
    assert!(layer.running.is_none());
    let gradients = layer.backward(&saved, x.view(), x.view())?;
    let mut tracked = BatchNormConfig::new(2).init()?;
    let (expected, saved) = tracked.forward(x.view())?;
    assert_eq!(expected, y);
    assert_eq!(gradients, tracked.backward(&saved, x.view(), x.view())?);
    assert!(message(layer.infer(array![[1.0, 2.0]])).contains("one value"));

    let mut tensors = Tensors::new();
    layer.state().put(&mut tensors, "bn.", &bare, DType::F32)?;
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["bn.bias", "bn.weight"]);
    layer.load(&State::find(&tensors, "bn.", &bare)?)?;
    let refused = message(layer.load(&tracked.state()));
    assert!(
        refused.ends_with("no running statistics; make it with running_statistics(true)"),
        "{refused}"
    );
    assert!(message(State::find(&tensors, "bn.", &torch)).contains("bn.running_mean"));

    let refused =
        message(cellnorm::norms::BatchRenormConfig::new(2).running_statistics(false).init());
    assert!(refused.contains("make it with running_statistics(true)"), "{refused}");
    let uses = BatchNormConfig::new(2).running_statistics(false).one_value(OneValue::UseRunning);
    assert!(message(uses.init()).contains("no running statistics to use"));
    Ok(())
}

/// `InstanceNorm*d(track_running_stats=True)`: its checkpoint has running statistics, which
/// Semantics that say so find and put.
#[test]
fn tracked_instances_keep_their_statistics_in_checkpoints() -> Result<(), Error> {
    let torch = preset("pytorch-2", Normalization::Instance);
    let tracked = Semantics { running_statistics: true, scale: true, center: true, ..torch };
    let number = |name: &str, value| {
        (format!("norm.{name}"), Tensor::new(array![value, value].into_dyn(), DType::F32))
    };
    let mut tensors: Tensors = [
        number("weight", 2.0),
        number("bias", 1.0),
        number("running_mean", 3.0),
        number("running_var", 4.0),
    ]
    .into();
    let steps = Tensor::new(ndarray::arr0(0.0).into_dyn(), DType::I64);
    tensors.insert("norm.num_batches_tracked".into(), steps);
    let mut layer = TrackedInstanceNormConfig::new(2).semantics(&tracked).epsilon(1e-12).init()?;
    layer.load(&State::find(&tensors, "norm.", &tracked)?)?;
    let y = layer.infer(array![[[5.0], [1.0]]])?;
    assert!(distance(y, [3.0, -1.0]) < 1e-9);
    let mut again = Tensors::new();
    layer.state().put(&mut again, "norm.", &tracked, DType::F32)?;
    assert_eq!(again, tensors);
    Ok(())
}

/// In inference the running statistics are constants: dx = γ r dy.
#[test]
fn tracked_instances_have_gradients_in_inference() -> Result<(), Error> {
    let mut numbers = Numbers::new(8);
    let (x, dy) = (numbers.tensor(&[3, 2, 4], 1.0), numbers.tensor(&[3, 2, 4], 0.0));
    let mut layer = TrackedInstanceNormConfig::new(2).epsilon(1e-12).init()?;
    layer.running = Some(averages(&[1.0, -1.0], &[4.0, 0.25]));
    layer.gamma = Some(array![3.0, 0.5].into_dyn());
    layer.train(false);
    let (_, saved) = layer.forward(x.view())?;
    let gradients = layer.backward(&saved, x.view(), dy.view())?;
    let slopes = [1.5, 1.0];
    for c in 0..2 {
        let of = |a: &ArrayD<f64>| a.index_axis(Axis(1), c).to_owned();
        assert!(distance(of(&gradients.dx), of(&dy) * slopes[c]) < 1e-9);
        let normalized = (of(&x) - [1.0, -1.0][c]) / [2.0, 0.5][c];
        let dgamma = (normalized * of(&dy)).sum();
        assert!((gradients.dgamma.as_ref().unwrap()[c] - dgamma).abs() < 1e-9);
    }
    Ok(())
}

/// `momentum=None` of PyTorch's instance normalization leaves the running statistics as they are:
/// a step of 0 here.
#[test]
fn a_step_of_zero_is_pytorchs_instance_momentum_of_none() -> Result<(), Error> {
    let x = Numbers::new(2).tensor(&[2, 2, 5], 3.0);
    let mut layer = TrackedInstanceNormConfig::new(2).momentum(Momentum::Step(0.0)).init()?;
    layer.forward(x.view())?;
    assert_eq!(layer.running, Some(averages(&[0.0; 2], &[1.0; 2])));
    Ok(())
}

/// The authors' `SwitchNorm2d` in f64: y, and the batch's mean and variance.
fn switch_norm(
    x: &Array3<f64>,
    running: Option<(&[f64], &[f64])>,
) -> (Array3<f64>, Vec<f64>, Vec<f64>) {
    let (n, c, p) = x.dim();
    let of = |i: usize, k: usize| x.slice(s![i, k, ..]).to_owned();
    let mean = Array2::from_shape_fn((n, c), |(i, k)| of(i, k).sum() / p as f64);
    let variance = Array2::from_shape_fn((n, c), |(i, k)| {
        of(i, k).mapv(|x| (x - mean[[i, k]]).powi(2)).sum() / (p as f64 - 1.0)
    });
    let square = &variance + &mean.mapv(|m| m * m);
    let over = |table: &Array2<f64>, axis| table.mean_axis(Axis(axis)).unwrap();
    let (mean_ln, mean_bn) = (over(&mean, 1), over(&mean, 0));
    let variance_ln = over(&square, 1) - mean_ln.mapv(|m| m * m);
    let variance_bn = over(&square, 0) - mean_bn.mapv(|m| m * m);
    let (batch_mean, batch_variance) = (mean_bn.to_vec(), variance_bn.to_vec());
    let (used_mean, used_variance) = match running {
        Some((mean, variance)) => (mean.to_vec(), variance.to_vec()),
        None => (batch_mean.clone(), batch_variance.clone()),
    };
    let y = Array3::from_shape_fn((n, c, p), |(i, k, j)| {
        let mean = (mean[[i, k]] + mean_ln[i] + used_mean[k]) / 3.0;
        let variance = (variance[[i, k]] + variance_ln[i] + used_variance[k]) / 3.0;
        (x[[i, k, j]] - mean) / (variance + 1e-5).sqrt()
    });
    (y, batch_mean, batch_variance)
}

#[test]
fn switchable_norm_as_its_authors_code() -> Result<(), Error> {
    let batch = |seed| -> Array3<f64> {
        Numbers::new(seed).tensor(&[3, 2, 4], 2.0).into_dimensionality().unwrap()
    };
    let mut layer = SwitchableNormConfig::preset("switchnorm-2d", 2)?.init()?;
    let (mut mean, mut variance) = (vec![0.0; 2], vec![0.0; 2]);
    for seed in 1..4 {
        let x = batch(seed);
        let (expected, means, variances) = switch_norm(&x, None);
        assert!(distance(layer.forward(x.view())?.0, expected) < 1e-12);
        for k in 0..2 {
            mean[k] = 0.9 * mean[k] + 0.1 * means[k];
            variance[k] = 0.9 * variance[k] + 0.1 * variances[k];
        }
    }
    assert!(distance(running(&layer).mean.iter().copied(), mean.clone()) < 1e-12);
    assert!(distance(running(&layer).variance.iter().copied(), variance.clone()) < 1e-12);
    let (expected, ..) = switch_norm(&batch(9), Some((&mean, &variance)));
    assert!(distance(layer.infer(batch(9))?, expected) < 1e-12);
    let one = layer.forward(Array3::<f64>::zeros((2, 2, 1)).view());
    assert!(message(one).contains("one value"));
    Ok(())
}

/// `using_moving_average=False` adds up means, and variances + means².
#[test]
fn accumulated_statistics_are_those_of_all_batches() -> Result<(), Error> {
    let config = SwitchableNormConfig::preset("switchnorm-2d", 2)?.momentum(Momentum::Pooled);
    let mut layer = config.init()?;
    let (mut mean, mut square) = (vec![0.0; 2], vec![0.0; 2]);
    for seed in 1..6 {
        let x: Array3<f64> =
            Numbers::new(seed).tensor(&[3, 2, 4], seed as f64).into_dimensionality().unwrap();
        layer.forward(x.view())?;
        let (_, means, variances) = switch_norm(&x, None);
        for k in 0..2 {
            mean[k] += means[k];
            square[k] += variances[k] + means[k] * means[k];
        }
    }
    let table =
        |values: &[f64]| Some(ArrayD::from_shape_vec(IxDyn(&[2]), values.to_vec()).unwrap());
    let sums = State { mean: table(&mean), variance: table(&square), ..State::default() };
    let expected = sums.clone().averaged(5)?;
    let Some(ours) = &layer.running else { panic!("it keeps running averages") };
    assert!(distance(ours.mean.iter().copied(), expected.mean.unwrap()) < 1e-12);
    assert!(distance(ours.variance.iter().copied(), expected.variance.unwrap()) < 1e-12);
    assert!(message(sums.clone().averaged(0)).contains("at least 1"));
    let twice = State { mean: table(&[9.0, 9.0]), ..sums };
    assert!(message(twice.averaged(1)).contains("count all batches"));
    Ok(())
}

/// The variance of all values, where batches have as many each.
#[test]
fn pooled_momentum_is_the_variance_of_all_values() -> Result<(), Error> {
    let mut layer = BatchNormConfig::new(2)
        .momentum(Momentum::Pooled)
        .running_variance(RunningVariance::Biased)
        .init()?;
    let all = Numbers::new(4).tensor(&[12, 2, 3], 5.0);
    for part in all.axis_chunks_iter(Axis(0), 4) {
        layer.forward(part)?;
    }
    let (_, saved) = BatchNormConfig::new(2).init()?.forward(all.view())?;
    assert!(distance(running(&layer).variance.iter().copied(), saved.statistics.variance) < 1e-12);
    Ok(())
}

/// Keras' `LayerNormalization(rms_scaling=True)`: x / √(variance + ε) · γ, the mean being kept.
#[test]
fn rms_scaling_keeps_the_mean() -> Result<(), Error> {
    let x = Numbers::new(6).tensor(&[4, 5], 3.0);
    let keras = preset("keras-3", Normalization::Layer);
    let mut layer = RmsScalingNormConfig::new(&[5]).semantics(&keras).center(false).init()?;
    let gamma = array![1.0, 2.0, 0.5, -1.0, 3.0];
    layer.gamma = Some(gamma.clone().into_dyn());
    let y = layer.infer(x.view())?;
    for (x, y) in x.outer_iter().zip(y.outer_iter()) {
        let mean = x.sum() / 5.0;
        let variance = x.mapv(|x| (x - mean).powi(2)).sum() / 5.0;
        let expected = &x / (variance + 1e-3).sqrt() * &gamma;
        assert!(distance(y.iter().copied(), expected) < 1e-12);
    }
    Ok(())
}

/// The order in which axes are named says nothing; γ is in the tensor's order. Keras before 3.16
/// stores it in theirs, and applies the values as they lie.
#[test]
fn axes_in_any_order_have_gamma_in_the_tensors_order() -> Result<(), Error> {
    let x = Numbers::new(7).tensor(&[2, 2, 4, 3], 1.0);
    let stored = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].into_dyn();
    let state = State { gamma: Some(stored.clone()), ..State::default() };
    let outputs = [&[3, 1], &[1, 3], &[-1, -3]].map(|axes: &[isize; 2]| {
        let mut layer = LayerNormConfig::over(axes, &[2, 3]).center(false).init()?;
        assert!(message(layer.load(&state)).contains("[3, 2]"));
        layer.load(&state.clone().reshaped(&[2, 3])?)?;
        layer.infer(x.view())
    });
    let [first, second, third] = outputs.map(Result::unwrap);
    assert_eq!((&first, &first), (&second, &third));
    let plain = LayerNormConfig::over(&[1, 3], &[2, 3])
        .scale(false)
        .center(false)
        .init()?
        .infer(x.view())?;
    let gamma = stored.to_shape(IxDyn(&[1, 2, 1, 3])).unwrap().to_owned();
    assert!(distance(first, plain * gamma) < 1e-12);
    assert!(message(state.reshaped(&[4])).contains("gamma has the shape [3, 2]"));
    Ok(())
}

/// γ of an RMS normalization along axis 1 lies along axis 1.
#[test]
fn rms_along_axis_one_has_gamma_along_axis_one() -> Result<(), Error> {
    let x = array![[[3.0, 1.0], [4.0, 1.0]]];
    let mut layer = RmsNormConfig::over(&[1], &[2]).epsilon(1e-12).init()?;
    layer.gamma = Some(array![1.0, 10.0].into_dyn());
    let (a, b) = (12.5_f64.sqrt(), 1.0);
    let expected = [3.0 / a, 1.0 / b, 40.0 / a, 10.0 / b];
    assert!(distance(layer.infer(x)?, expected) < 1e-9);
    Ok(())
}

/// A frozen parameter is applied, has no gradient, and no step moves it.
#[test]
fn one_parameter_is_frozen_alone() -> Result<(), Error> {
    let x = Numbers::new(3).tensor(&[4, 3], 1.0);
    for (frozen, other) in [("gamma", "beta"), ("beta", "gamma")] {
        let mut layer = LayerNormConfig::new(&[3]).init()?;
        let (_, saved) = layer.forward(x.view())?;
        let all = layer.backward(&saved, x.view(), x.view())?;
        layer.freeze_parameter(frozen)?;
        layer.freeze_parameter(frozen)?;
        let some = layer.backward(&saved, x.view(), x.view())?;
        assert_eq!((some.parameter(frozen), some.parameter(other)), (None, all.parameter(other)));
        assert_eq!(some.dx, all.dx);
        let rules = Rules { regularizer: Some(Regularizer::L2(0.1)), ..Rules::default() };
        let before = layer.clone();
        ParameterRules { gamma: rules, beta: rules }.step(&mut layer, &some, 0.1)?;
        assert_eq!(layer.parameter(frozen), before.parameter(frozen));
        assert_ne!(layer.parameter(other), before.parameter(other));
        layer.unfreeze_parameter(frozen);
        assert!(!layer.is_frozen(frozen));
    }
    let refused = message(LayerNormConfig::new(&[3]).init()?.freeze_parameter("rho"));
    assert!(refused.ends_with("which has: gamma, beta"), "{refused}");
    Ok(())
}

#[test]
fn data_are_normalized_by_one_layer() -> Result<(), Error> {
    let x = Numbers::new(12).tensor(&[5, 3, 4, 2], 7.0);
    let layer = NormalizeConfig::default().adapt(x.view())?;
    let y = layer.forward(x.view())?;
    for c in 0..3 {
        let of = x.index_axis(Axis(1), c);
        let mean = of.sum() / 40.0;
        let deviation = (of.mapv(|x| (x - mean).powi(2)).sum() / 40.0).sqrt();
        assert!(
            distance(y.index_axis(Axis(1), c).iter().copied(), of.mapv(|x| (x - mean) / deviation))
                < 1e-12
        );
    }
    assert!(distance(layer.invert(y.view())?, x.iter().copied()) < 1e-12);
    // the slope of y
    let h = 1e-3;
    let slope = (layer.forward(&x + h)? - &y) / h;
    assert!(distance(layer.backward(ArrayD::<f64>::ones(x.raw_dim()))?, slope) < 1e-9);
    // Keras: channels last, and at least 1e-7
    let keras = NormalizeConfig::preset("keras-3")?.adapt(array![[2.0, 1.0], [2.0, 3.0]].view())?;
    assert_eq!((keras.mean(), keras.deviation()), (&[2.0, 2.0][..], &[1e-7, 1.0][..]));

    assert!(message(Normalize::new(&[1.0], &[0.0])).contains("least_deviation"));
    assert!(message(Normalize::new(&[1.0], &[1.0, 2.0])).contains("the deviation"));
    assert!(message(Normalize::new(&[f64::NAN], &[1.0])).contains("NaN"));
    assert!(message(layer.forward(array![[1.0, 2.0]])).contains("3 channels"));
    assert!(
        message(NormalizeConfig::default().adapt(array![[1.0], [f64::NAN]].view()))
            .starts_with("x holds NaN")
    );
    let none = layer.forward(Array3::<f32>::zeros((0, 3, 2)))?;
    assert_eq!(none.dim(), (0, 3, 2));
    Ok(())
}

/// A cell whose values are all excluded is measured from its set's mean: in f32 nothing cancels.
#[test]
fn excluded_values_far_from_zero_keep_their_digits() -> Result<(), Error> {
    let wide = Numbers::new(31).tensor(&[3, 8], 1e4).mapv(|x| x as f32);
    let mask = Mask::lengths(&[5, 8, 2], 1);
    let mut layer = LayerNormConfig::new(&[8]).excluded(Excluded::Normalized).init()?;
    let dy = Numbers::new(32).tensor(&[3, 8], 0.0).mapv(|x| x as f32);
    let (y, saved) = layer.forward_masked(wide.view(), &mask)?;
    let gradients = layer.backward(&saved, wide.view(), dy.view())?;
    let exact = wide.mapv(f64::from);
    let (expected, saved) = layer.forward_masked(exact.view(), &mask)?;
    let exact = layer.backward(&saved, exact.view(), dy.mapv(f64::from))?;
    let f64s = |a: &ArrayD<f32>| a.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    assert!(distance(f64s(&y), expected) < 2e-6);
    assert!(distance(f64s(&gradients.dx), exact.dx) < 5e-6);
    assert!(distance(gradients.dgamma.unwrap(), exact.dgamma.unwrap()) < 5e-6);
    let inferred = layer.infer_masked(wide.view(), &mask)?;
    assert_eq!(f64s(&inferred), f64s(&y));
    Ok(())
}

/// A set without valid values has mean 0 and variance 0, and moves no running average.
#[test]
fn a_set_without_valid_values_is_divided_by_the_root_of_epsilon() -> Result<(), Error> {
    let x = array![[2.0, 4.0], [1.0, 3.0]];
    let mask = Mask::lengths(&[0, 2], 1);
    let mut layer =
        LayerNormConfig::new(&[2]).epsilon(0.25).excluded(Excluded::Normalized).init()?;
    let (y, saved) = layer.forward_masked(x.view(), &mask)?;
    assert_eq!(y.row(0).to_vec(), [4.0, 8.0]);
    let dx = layer.backward(&saved, x.view(), array![[1.0, 3.0], [0.0, 0.0]])?.dx;
    assert_eq!(dx.row(0).to_vec(), [2.0, 6.0]);
    let mut batch = BatchNormConfig::new(2).excluded(Excluded::Normalized).init()?;
    batch.forward_masked(x.view(), &Mask::new(array![[false], [false]].view()))?;
    assert_eq!(batch.running, Some(averages(&[0.0; 2], &[1.0; 2])));
    Ok(())
}

/// NaN in an excluded value is in y, and backward names x.
#[test]
fn nan_in_an_excluded_value_is_named() -> Result<(), Error> {
    let x = array![[1.0, 3.0, f64::NAN], [1.0, 2.0, 3.0]];
    let mut layer = LayerNormConfig::new(&[3]).excluded(Excluded::Normalized).init()?;
    let (y, saved) = layer.forward_masked(x.view(), &Mask::lengths(&[2, 3], 1))?;
    assert!(y[[0, 2]].is_nan() && y.iter().filter(|y| y.is_nan()).count() == 1);
    let refused = message(layer.backward(&saved, x.view(), Array2::<f64>::ones((2, 3))));
    assert!(refused.starts_with("x holds NaN"), "{refused}");
    Ok(())
}

/// Rules whose averages are those of parts take the statistics of x as well.
#[test]
fn rules_without_running_statistics_infer_as_they_train() -> Result<(), Error> {
    fn check<R: Rule>(config: NormConfig<R>) -> Result<(), Error> {
        let x = Numbers::new(41).tensor(&[4, 3, 3], 1.0);
        let mut layer = config.running_statistics(false).init()?;
        let (y, _) = layer.forward(x.view())?;
        layer.train(false);
        let (again, saved) = layer.forward(x.view())?;
        assert_eq!((&y, &y), (&again, &layer.infer(x.view())?), "{}", R::NAME);
        layer.backward(&saved, x.view(), y)?;
        Ok(())
    }
    check(GhostBatchNormConfig::new(3, 2))?;
    check(StepBatchNormConfig::new(3, 2).channel_axis(-1))?;
    check(BatchInstanceNormConfig::new(3))?;
    check(SwitchableNormConfig::new(3))?;
    check(TrackedInstanceNormConfig::new(3))?;
    // averages that are taken away later are no other case
    let mut ghost = GhostBatchNormConfig::new(1, 1).one_value(OneValue::UseRunning).init()?;
    ghost.running = None;
    let refused = message(ghost.forward(array![[1.0], [5.0]].view()));
    assert!(refused.contains("no running statistics to use"), "{refused}");
    Ok(())
}

#[test]
fn tracking_an_instance_norm_keeps_its_settings() -> Result<(), Error> {
    let gluon = preset("mxnet-1.9-gluon", Normalization::Instance);
    let config = InstanceNormConfig::new(2).semantics(&gluon).excluded(Excluded::Normalized);
    let layer =
        config.running_variance(RunningVariance::Biased).init()?.track(Momentum::Step(0.5))?;
    assert!(layer.is_frozen("gamma") && layer.excluded == Excluded::Normalized);
    assert_eq!(layer.running_variance, RunningVariance::Biased);
    Ok(())
}

/// Keras has γ and no β with `rms_scaling`, whatever `scale` and `center` are.
#[test]
fn rms_scaling_reads_a_checkpoint_of_keras() -> Result<(), Error> {
    let keras = preset("keras-3", Normalization::Layer);
    let config = RmsScalingNormConfig::new(&[2]);
    let mut layer = config.semantics(&Semantics { scale: false, ..keras }).init()?;
    assert!(layer.beta.is_none());
    let gamma = Tensor::new(array![2.0, 3.0].into_dyn(), DType::F32);
    let tensors = Tensors::from([("ln/gamma".to_owned(), gamma)]);
    layer.load(&State::find(&tensors, "ln/", &Semantics { center: false, ..keras })?)?;
    assert_eq!(layer.gamma, Some(array![2.0, 3.0].into_dyn()));
    Ok(())
}

/// A softmax knows differences of its weights alone, however large they are.
#[test]
fn weights_of_any_size_blend() -> Result<(), Error> {
    let x = Numbers::new(51).tensor(&[2, 3, 4], 1.0);
    let infer = |weights: [f64; 3]| {
        let mut layer = SwitchableNormConfig::new(3).init()?;
        for name in ["mean_weight", "variance_weight"] {
            layer.parameter_mut(name).unwrap().assign(&ndarray::arr1(&weights));
        }
        layer.infer(x.view())
    };
    let equal = infer([0.0; 3])?;
    for weight in [709.0, 1e4, -746.0, -1e4] {
        assert!(distance(infer([weight; 3])?, equal.iter().copied()) < 1e-12, "{weight}");
    }
    let apart = infer([0.0, 0.5, -1.0])?;
    assert!(distance(infer([1000.0, 1000.5, 999.0])?, apart.iter().copied()) < 1e-12);
    let instance = InstanceNormConfig::new(3).init()?.infer(x.view())?;
    assert!(distance(infer([1e4, 0.0, 0.0])?, instance.iter().copied()) < 1e-12);
    Ok(())
}

/// A parameter that is frozen by itself or with its layer has no penalty and no constraint, and a
/// step with older gradients leaves it.
#[test]
fn rules_leave_a_frozen_parameter() -> Result<(), Error> {
    let gamma = Rules {
        regularizer: Some(Regularizer::L2(0.5)),
        constraint: Some(Constraint::Clip { low: 0.0, high: 0.5 }),
        ..Rules::default()
    };
    let rules = ParameterRules { gamma, ..ParameterRules::default() };
    let x = array![[1.0, 3.0]];
    let mut layer = LayerNormConfig::new(&[2]).init()?;
    let (_, saved) = layer.forward(x.view())?;
    let gradients = layer.backward(&saved, x.view(), x.view())?;
    let mut alone = layer.clone();
    alone.freeze_parameter("gamma")?;
    layer.freeze(cellnorm::momentum::Frozen::Inference);
    for mut layer in [alone, layer] {
        assert_eq!(rules.penalty(&layer)?, 0.0);
        rules.constrain(&mut layer)?;
        rules.step(&mut layer, &gradients, 0.1)?;
        assert_eq!(layer.gamma, Some(array![1.0, 1.0].into_dyn()));
    }
    Ok(())
}

/// Counts and sums at the ends of their types.
#[test]
fn averages_at_the_ends() -> Result<(), Error> {
    let table = |value: f64| Some(array![value].into_dyn());
    let state =
        |mean, variance| State { mean: table(mean), variance: table(variance), ..State::default() };
    assert!(message(state(1.0, f64::INFINITY).averaged(2)).starts_with("running_var is inf"));
    assert!(message(state(f64::NAN, 1.0).averaged(2)).starts_with("running_mean is NaN"));
    let state = State { gamma: table(1.0), beta: table(0.0), ..state(1.0, 2.0).averaged(1)? };
    let mut layer = BatchNormConfig::new(1).momentum(Momentum::Cumulative).init()?;
    layer.load(&State { steps: Some(u64::MAX), ..state })?;
    layer.forward(array![[1.0], [2.0]].view())?;
    assert_eq!(layer.steps, u64::MAX);
    let mixed = preset("pytorch-2", Normalization::Batch);
    let pooled = Semantics { momentum: Momentum::Pooled, ..mixed };
    let cumulative = Semantics { momentum: Momentum::Cumulative, ..mixed };
    assert!(pooled.diff(&cumulative)[0].effect.contains("the spread of the batches' means"));
    Ok(())
}
