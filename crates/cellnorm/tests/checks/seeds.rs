//! Worked examples with known numbers, and what one layer has to do with another.

use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Momentum, RunningVariance, get_stats,
};
use ndarray::{Array, Array4, array};

use crate::common::{Numbers, distance};

fn close(a: f64, b: f64, bar: f64) {
    assert!((a - b).abs() <= bar, "{a} is not {b} ± {bar:e}");
}

/// 64 images of 16 channels with values uniform in (0, 1), through group normalization with 4 groups.
#[test]
fn uniform_images_get_deviation_one() -> Result<(), Error> {
    let mut numbers = Numbers::new(20);
    let x = Array4::from_shape_simple_fn((64, 16, 112, 112), || numbers.uniform());
    let before = get_stats(x.view())?;
    assert_eq!((before.element, &before.shape[..]), ("f64", &[64, 16, 112, 112][..]));
    close(before.mean, 0.5, 1e-4);
    close(before.std, 0.2887, 1e-4);
    assert!(before.min > 0.0 && before.min < 1e-5 && before.max < 1.0 && before.max > 1.0 - 1e-5);

    let after = get_stats(GroupNormConfig::new(4, 16).init()?.infer(x)?.view())?;
    close(after.mean, 0.0, 1e-12);
    close(after.std, 0.99994, 1e-5);
    // dividing by the variance instead of its root would give this
    close(before.std / (before.std.powi(2) + 1e-5), 3.46, 0.01);
    println!("before\n{before}\n\nafter\n{after}");
    Ok(())
}

/// The worked example of batch normalization in MXNet Gluon's tutorial.
#[test]
fn sixteen_numbers_through_batch_normalization() -> Result<(), Error> {
    let x = Array::from_iter((0..16).map(f64::from)).into_shape_with_order((2, 2, 2, 2)).unwrap();
    let mut layer =
        BatchNormConfig::new(2).momentum(Momentum::Keep(0.9)).running_variance(RunningVariance::Biased).init()?;
    // not trained: only ε shows
    let untrained = layer.infer(x.view())?;
    assert!(distance(untrained, x.mapv(|x| x / (1.0_f64 + 1e-5).sqrt())) <= 1e-14);

    let (y, saved) = layer.forward(x.view())?;
    close(y[[0, 0, 0, 0]], -1.324_244_0, 1e-6);
    assert!(distance(layer.running_mean.clone(), [0.55, 0.95]) <= 1e-15);
    assert!(distance(layer.running_var.clone(), [2.625, 2.625]) <= 1e-14);
    let gradients = layer.backward(&saved, x.view(), y.mapv(f64::signum))?;
    for dgamma in gradients.dgamma.unwrap() {
        close(dgamma, 7.7047, 1e-4);
    }
    assert!(gradients.dbeta.unwrap().iter().all(|dbeta| *dbeta == 0.0));

    for _ in 0..100 {
        layer.forward(x.view())?;
    }
    assert!(distance(layer.running_mean.clone(), [5.4999, 9.4998]) <= 1e-4);
    assert!(distance(layer.running_var.clone(), [17.2496, 17.2496]) <= 1e-4);
    Ok(())
}

#[test]
fn layer_normalization_of_pairs_and_rows() -> Result<(), Error> {
    let x = Array::from_iter((0..16).map(f64::from)).into_shape_with_order((2, 4, 2)).unwrap();
    let y = LayerNormConfig::new(&[2]).init()?.infer(x.view())?;
    for (index, y) in y.indexed_iter() {
        close(*y, if index.2 == 0 { -0.99998 } else { 0.99998 }, 1e-6);
    }
    // one value to a set in inference gives β
    let mut layer = LayerNormConfig::new(&[1]).init()?;
    layer.beta = Some(array![0.25].into_dyn());
    assert_eq!(layer.infer(array![[3.0_f32], [-9.0]])?, array![[0.25], [0.25]]);
    Ok(())
}

#[test]
fn groups_lie_between_layer_and_instance() -> Result<(), Error> {
    let mut numbers = Numbers::new(3);
    for shape in [[3, 6, 5, 7], [2, 6, 64, 65]] {
        let x = numbers.tensor(&shape, 2.0);
        let (all, each) = (GroupNormConfig::new(1, 6).init()?, GroupNormConfig::new(6, 6).init()?);
        let layer = LayerNormConfig::per_channel(6).init()?;
        assert_eq!(all.infer(x.view())?, layer.infer(x.view())?);
        assert_eq!(each.infer(x.view())?, InstanceNormConfig::new(6).init()?.infer(x.view())?);
        let per_element = LayerNormConfig::new(&shape[1..]).init()?;
        assert!(distance(per_element.infer(x.view())?, layer.infer(x.view())?) <= 1e-14);
        // and channels-last gives what channels-first gives
        let last =
            |x: &ndarray::ArrayD<f64>| x.view().permuted_axes(&[0, 2, 3, 1][..]).as_standard_layout().into_owned();
        let group = GroupNormConfig::new(3, 6);
        let first = group.clone().init()?.infer(x.view())?;
        assert!(distance(group.channel_axis(-1).init()?.infer(last(&x))?, last(&first)) <= 1e-13);
    }
    Ok(())
}
