//! The three switches of batch normalization, freezing, and cumulative momentum.

use crate::common::{Numbers, averages, distance, running, running_distance};
use cellnorm::rule::Running;
use cellnorm::{
    BatchNorm, BatchNormConfig, Error, InstanceNormConfig, Mode, Momentum, RunningVariance,
    momentum::{Frozen, StatisticsFrom},
};
use ndarray::{Array3, ArrayD, Axis, array};

/// A layer that has seen something, so that its running statistics are those of no batch.
fn layer() -> BatchNorm {
    let mut layer = BatchNormConfig::new(3).init().unwrap();
    layer.gamma = Some(array![0.5, -2.0, 3.0].into_dyn());
    layer.beta = Some(array![1.0, 2.0, 3.0].into_dyn());
    layer.running = Some(averages(&[0.3, -0.2, 0.1], &[2.0, 0.5, 1.5]));
    layer
}

fn batch(seed: u64) -> ArrayD<f64> {
    Numbers::new(seed).tensor(&[4, 3, 5], 1.0)
}

#[test]
fn all_eight_modes() -> Result<(), Error> {
    let (x, dy) = (batch(1), batch(2));
    let fresh = layer();
    let (by_batch, by_running) = (layer().forward(x.view())?.0, fresh.infer(x.view())?);
    let mut trained = layer();
    trained.forward(x.view())?;
    for statistics in [StatisticsFrom::Batch, StatisticsFrom::Running] {
        for update in [false, true] {
            for train_parameters in [false, true] {
                let mut layer = layer();
                layer.mode = Mode { statistics, update, train_parameters };
                let (y, saved) = layer.forward(x.view())?;
                let fixed = statistics == StatisticsFrom::Running;
                assert_eq!(&y, if fixed { &by_running } else { &by_batch });
                let moved = if update { &trained } else { &fresh };
                assert!(running_distance(&layer, moved) < 1e-14);
                assert_eq!(layer.steps, u64::from(update));

                let gradients = layer.backward(&saved, x.view(), dy.view())?;
                assert_eq!(gradients.dgamma.is_some(), train_parameters);
                assert_eq!(gradients.dbeta.is_some(), train_parameters);
                layer.mode.train_parameters = true;
                let trainable = layer.backward(&saved, x.view(), dy.view())?;
                assert!(distance(gradients.dx, trainable.dx) < 1e-14, "{:?}", layer.mode);
            }
        }
    }
    Ok(())
}

/// A layer frozen as inference is a fixed scaling: dx = γ r dy.
#[test]
fn frozen_gradient_is_a_scaling() -> Result<(), Error> {
    let mut layer = layer();
    layer.freeze(Frozen::Inference);
    for shape in [[4, 3, 5], [2, 3, 1]] {
        let (x, dy) = (Numbers::new(3).tensor(&shape, 0.0), Numbers::new(4).tensor(&shape, 0.0));
        let (_, saved) = layer.forward(x.view())?;
        let transposed = dy.t().as_standard_layout().into_owned().reversed_axes();
        for dy in [dy, transposed] {
            let dx = layer.backward(&saved, x.view(), dy.view())?.dx;
            for (index, dx) in dx.indexed_iter() {
                let channel = index[1];
                let scale = layer.gamma.as_ref().unwrap()[[channel]]
                    / (running(&layer).variance[channel] + 1e-5).sqrt();
                assert!((dx - scale * dy[&index]).abs() < 1e-14);
            }
            let owned = layer.backward(&saved, x.view(), dy.clone())?.dx;
            assert_eq!(owned, dx);
        }
    }
    Ok(())
}

#[test]
fn frozen_stays_frozen_whatever_the_parent_sets() {
    let regimes = [Frozen::Inference, Frozen::BatchStatistics, Frozen::ParametersOnly];
    for regime in regimes {
        let mut layer = layer();
        layer.freeze(regime);
        for training in [true, false, true] {
            layer.train(training);
            assert_eq!(layer.frozen(), Some(regime));
            assert!(!layer.mode.train_parameters);
            let expected = if training { regime } else { Frozen::Inference };
            assert_eq!(layer.mode, Mode::frozen(expected));
        }
        layer.train(false);
        layer.unfreeze();
        assert_eq!(layer.mode, Mode::inference());
        layer.train(true);
        assert_eq!(layer.mode, Mode::training());
    }
}

#[test]
fn each_regime_does_what_it_says() -> Result<(), Error> {
    let x = batch(5);
    let (by_batch, by_running) = (layer().forward(x.view())?.0, layer().infer(x.view())?);
    for (regime, expected, moves) in [
        (Frozen::Inference, &by_running, false),
        (Frozen::BatchStatistics, &by_batch, false),
        (Frozen::ParametersOnly, &by_batch, true),
    ] {
        let mut layer = layer();
        let before = layer.running.clone();
        layer.freeze(regime);
        let (y, saved) = layer.forward(x.view())?;
        assert_eq!(&y, expected, "{regime:?}");
        assert_eq!(layer.running != before, moves, "{regime:?}");
        let gradients = layer.backward(&saved, x.view(), x.view())?;
        assert_eq!((gradients.dgamma, gradients.dbeta), (None, None));
        layer.train(false);
        assert_eq!(layer.forward(x.view())?.0, layer.infer(x.view())?);
    }
    Ok(())
}

/// PyTorch's `momentum=None`: after k batches the running statistics are the plain means of the k
/// batches' statistics.
#[test]
fn cumulative_momentum_is_the_plain_mean() -> Result<(), Error> {
    let mut layer = BatchNormConfig::new(3).momentum(Momentum::Cumulative).init()?;
    let (mut means, mut variances) = (array![0.0, 0.0, 0.0], array![0.0, 0.0, 0.0]);
    for k in 1..=7_u64 {
        let x = batch(10 + k);
        layer.forward(x.view())?;
        for channel in 0..3 {
            let of = x.index_axis(Axis(1), channel);
            let mean = of.sum() / 20.0;
            means[channel] += mean;
            variances[channel] += of.mapv(|v| (v - mean).powi(2)).sum() / 19.0;
        }
        assert_eq!(layer.steps, k);
        let Running { mean, variance } = running(&layer);
        assert!(distance(mean.iter().copied(), means.iter().map(|m| m / k as f64)) < 1e-14);
        assert!(distance(variance.iter().copied(), variances.iter().map(|v| v / k as f64)) < 1e-13);
    }
    Ok(())
}

/// Statistics may follow the data while the running ones normalize; what a batch may not do changes
/// nothing.
#[test]
fn failures_change_nothing_in_any_mode() -> Result<(), Error> {
    let mut layer = layer();
    layer.mode = Mode { statistics: StatisticsFrom::Running, ..Mode::training() };
    let before = layer.running.clone();
    let mut bad = batch(1);
    bad[[3, 2, 4]] = f64::NAN;
    assert!(layer.forward(bad.view()).is_err());
    assert!(layer.forward(ArrayD::<f64>::zeros(&[1, 3][..]).view()).is_err(), "one value");
    layer.running_variance = RunningVariance::KerasLegacy;
    layer.epsilon = 1.5;
    assert!(
        layer.forward(batch(1).view()).is_err(),
        "a legacy variance of two values would be negative"
    );
    assert_eq!((layer.running, layer.steps), (before, 0));
    Ok(())
}

/// `torch.nn.InstanceNorm1d(2, track_running_stats=True)` of PyTorch 2.15 after two batches: its
/// running statistics and its eval().
#[test]
fn instance_normalization_with_running_statistics() -> Result<(), Error> {
    let mean = [0.04940680095862625, 0.0022747900308892344];
    let variance = [1.624834773197986, 1.9954533802549927];
    let inference = [0.1982785606651017, 1.650997800720861, 0.5222852060770217, 1.7143072926908909];
    for (axis, shape) in [(1, [2, 2, 3]), (-1, [2, 3, 2])] {
        let mut layer =
            InstanceNormConfig::new(2).channel_axis(axis).init()?.track(Momentum::Step(0.1))?;
        let values =
            |n: usize, c: usize, s: usize| ((n * 6 + c * 3 + s * s) as f64 * 0.7).sin() * 3.0;
        let at = |i: [usize; 3], k: usize| {
            if axis == 1 { values(i[0] + k, i[1], i[2]) } else { values(i[0] + k, i[2], i[1]) }
        };
        for k in [0, 5] {
            let x = Array3::from_shape_fn(shape, |(a, b, c)| at([a, b, c], k));
            let (y, saved) = layer.forward(x.view())?;
            assert_eq!(y, InstanceNormConfig::new(2).channel_axis(axis).init()?.infer(x.view())?);
            assert!(layer.backward(&saved, x.view(), x.view()).is_ok());
        }
        let ours = running(&layer);
        assert!(distance(ours.mean.iter().copied(), mean) < 1e-14, "{ours:?}");
        assert!(distance(ours.variance.iter().copied(), variance) < 1e-14, "{ours:?}");
        let x = Array3::from_shape_fn(shape, |(a, b, c)| at([a, b, c], 9));
        let y = layer.infer(x.view())?;
        let first = [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0]];
        let y = first.map(|i| if axis == 1 { y[i] } else { y[[i[0], i[2], i[1]]] });
        assert!(distance(y, inference) < 1e-14, "{y:?}");
    }
    Ok(())
}
