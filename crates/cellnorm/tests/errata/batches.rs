//! The batch: of one sample, of several machines, of the test set, and what inference takes from
//! it.

use cellnorm::rule::Running;
use cellnorm::{BatchNormConfig, Error, Moments, Momentum, batch_normalization, moments};
use ndarray::{Array2, ArrayD, Axis, array, s};

use crate::{Erratum, Numbers, running};

/// E8 and E34: one sample has a variance as soon as a channel has two values.
#[test]
fn one_sample_has_a_variance() -> Result<(), Error> {
    let mut layer = BatchNormConfig::new(1).init()?;
    let x = array![1.0, 2.0, 3.0, 4.0].into_shape_with_order((1, 1, 2, 2)).unwrap();
    let (y, saved) = layer.forward(x.view())?;
    // over the samples alone, without the positions
    let over_samples = moments(x.view(), &[0], false)?.1[[0, 0, 0]];
    let cellnorm = saved.statistics.variance[0];
    Erratum { cellnorm, right: 1.25, tutorial: over_samples, wrong: 0.0, within: 1e-15 }.check();
    crate::close(y[[0, 0, 0, 0]], -1.34164, 1e-5);
    // one value a channel has none, and says so
    assert!(matches!(layer.forward(array![[3.0]].view()), Err(Error::OneValue { .. })));
    Ok(())
}

/// E9: two machines with 3 samples and 1: their moments are merged by count, not averaged.
#[test]
fn uneven_machines_merge_by_count() -> Result<(), Error> {
    let (a, b) = (array![[1.0], [2.0], [3.0]], array![[10.0]]);
    let of = |x: &Array2<f64>| Moments::of(x.as_slice().unwrap());
    let all = of(&a).merge(of(&b));
    let average = |part: fn(&Moments) -> f64| (part(&of(&a)) + part(&of(&b))) / 2.0;
    Erratum {
        cellnorm: all.mean,
        right: 4.0,
        tutorial: average(|m| m.mean),
        wrong: 6.0,
        within: 1e-14,
    }
    .check();
    let (cellnorm, tutorial) = (all.variance(), average(Moments::variance));
    Erratum { cellnorm, right: 12.5, tutorial, wrong: 0.33333, within: 1e-5 }.check();

    // the gradients of γ and β add up to those of the whole batch, so that they stay equal on all
    // machines
    let x = array![[1.0], [2.0], [3.0], [10.0]];
    let dy = array![[0.5], [-1.0], [2.0], [0.25]];
    let layer = &mut BatchNormConfig::new(1).init()?;
    let (_, saved) = layer.forward(x.view())?;
    let whole = layer.backward(&saved, x.view(), dy.view())?;
    let (mean, variance) = (array![all.mean].into_dyn(), array![all.variance()].into_dyn());
    let (mut dgamma, mut dbeta) = (0.0, 0.0);
    for rows in [s![..3, ..], s![3.., ..]] {
        let xhat = batch_normalization(
            x.slice(rows),
            mean.view(),
            variance.view(),
            None,
            None,
            layer.epsilon,
        )?;
        dgamma += (&xhat * &dy.slice(rows)).sum();
        dbeta += dy.slice(rows).sum();
    }
    crate::close(dgamma, whole.dgamma.unwrap()[[0]], 1e-14);
    crate::close(dbeta, whole.dbeta.unwrap()[[0]], 1e-14);
    Ok(())
}

/// E19: inference could take the statistics of its batch, but then a sample's result would hang on
/// its companions.
#[test]
fn inference_does_not_depend_on_companions() -> Result<(), Error> {
    let mut layer = BatchNormConfig::new(1).momentum(Momentum::Step(1.0)).init()?;
    layer.forward(array![[-1.0], [1.0]].view())?;
    layer.running = Some(Running { variance: array![1.0].into_dyn(), ..running(&layer).clone() });
    let (calm, wild) = (array![[0.5_f64], [0.0], [1.0]], array![[0.5], [-20.0], [40.0]]);
    let cellnorm = (layer.infer(wild.view())?[[0, 0]] - layer.infer(calm.view())?[[0, 0]]).abs();
    // the batch's own statistics exist, and give the first sample two results
    let mut own =
        |x: &Array2<f64>| -> Result<f64, Error> { Ok(layer.forward(x.view())?.0[[0, 0]]) };
    let tutorial = (own(&wild)? - own(&calm)?).abs();
    Erratum { cellnorm, right: 0.0, tutorial, wrong: 0.25434, within: 1e-5 }.check();
    Ok(())
}

/// E25: a layer that was fitted to the test images hides that they are brighter than the training
/// images.
#[test]
fn fitting_to_the_test_set_hides_its_shift() -> Result<(), Error> {
    let images = |seed, mean| Numbers::new(seed).tensor(&[400, 1, 5, 5], mean);
    let (train, test) = (images(1, 0.0), images(2, 0.5));
    let mean_after_fitting_to = |x: &ArrayD<f64>| -> Result<f64, Error> {
        let mut layer = BatchNormConfig::new(1).momentum(Momentum::Step(1.0)).init()?;
        layer.forward(x.view())?;
        Ok(moments(layer.infer(test.view())?.view(), &[0, 1, 2, 3], false)?.0[[]])
    };
    let (cellnorm, tutorial) = (mean_after_fitting_to(&train)?, mean_after_fitting_to(&test)?);
    Erratum { cellnorm, right: 0.5, tutorial, wrong: 0.0, within: 0.05 }.check();
    Ok(())
}

/// The statistics of a data set, per channel and per pixel, merged from chunks, then used on other
/// images.
#[test]
fn a_data_set_is_normalized_by_its_training_part() -> Result<(), Error> {
    let scale = array![50.0, 20.0, 5.0].into_shape_with_order((3, 1, 1)).unwrap();
    let images = |seed| Numbers::new(seed).tensor(&[60, 3, 4, 4], 2.0) * &scale;
    let (train, test) = (images(3), images(4));
    let (mean, variance) = moments(train.view(), &[0, 2, 3], true)?;
    let chunks = train.axis_chunks_iter(Axis(0), 7);
    let of_first: Vec<Moments> = chunks
        .map(|chunk| Moments::of(&chunk.index_axis(Axis(1), 0).iter().copied().collect::<Vec<_>>()))
        .collect();
    let merged = Moments::merge_all(&of_first);
    crate::close(merged.mean, mean[[0, 0, 0, 0]], 1e-11);
    crate::close(merged.variance(), variance[[0, 0, 0, 0]], 1e-9);

    let y = batch_normalization(test.view(), mean.view(), variance.view(), None, None, 1e-5)?;
    let (mean, variance) = moments(y.view(), &[0, 2, 3], false)?;
    assert!(mean.iter().all(|mean| mean.abs() < 0.15), "{mean}");
    assert!(variance.iter().all(|variance| (variance - 1.0).abs() < 0.2), "{variance}");
    assert_eq!(moments(train.view(), &[0], false)?.0.shape(), [3, 4, 4]);
    Ok(())
}
