//! Training: weights before a normalization, running statistics, and the gradient of γ.

use cellnorm::rule::Running;
use cellnorm::{BatchNormConfig, Error, Momentum, RunningVariance};
use ndarray::{Array, Array1, Array2, Array4, ArrayD};

use crate::{Erratum, Numbers, close, distance, running};

/// The gradient of Σ c · BN(x w) by w, and its output.
fn behind(
    x: &Array2<f64>,
    w: &Array1<f64>,
    c: &Array2<f64>,
) -> Result<(Array1<f64>, ArrayD<f64>), Error> {
    let z = x.dot(&w.view().insert_axis(ndarray::Axis(1)));
    let mut layer = BatchNormConfig::new(1).epsilon(1e-30).init()?;
    let (y, saved) = layer.forward(z.view())?;
    let dz = layer.backward(&saved, z.view(), c.view())?.dx;
    Ok((x.t().dot(&dz).remove_axis(ndarray::Axis(1)), y.into_dyn()))
}

/// E10: weights before a batch normalization may be any size: the output is the same and the
/// gradient 1/‖w‖ as large.
#[test]
fn weights_before_a_normalization_may_grow() -> Result<(), Error> {
    let numbers = |seed, shape: &[usize]| Numbers::new(seed).tensor(shape, 0.0);
    let x: Array2<f64> = numbers(1, &[20, 5]).into_dimensionality().unwrap();
    let c: Array2<f64> = numbers(2, &[20, 1]).into_dimensionality().unwrap();
    let mut w: Array1<f64> = numbers(3, &[5]).into_dimensionality().unwrap();
    let norm = |v: &Array1<f64>| v.dot(v).sqrt();

    let ((small, y), (large, y_of_large)) = (behind(&x, &w, &c)?, behind(&x, &(&w * 1000.0), &c)?);
    assert!(distance(&y, &y_of_large) < 1e-12);
    close(norm(&large) / norm(&small), 1e-3, 1e-12);

    // the gradient is orthogonal to w: each step of gradient descent, here on ever new losses,
    // makes w longer
    let (start, mut losses) = (norm(&w), Numbers::new(4));
    for _ in 0..1000 {
        let c = losses.tensor(&[20, 1], 0.0).into_dimensionality().unwrap();
        let (dw, _) = behind(&x, &w, &c)?;
        close(dw.dot(&w) / (norm(&dw) * norm(&w)), 0.0, 1e-10);
        let before = norm(&w);
        w.scaled_add(-0.05, &dw);
        assert!(norm(&w) > before);
    }
    let within_its_range = 1.0;
    let growth = norm(&w) / start;
    Erratum {
        cellnorm: growth,
        right: 1.888,
        tutorial: within_its_range,
        wrong: 1.0,
        within: 1e-3,
    }
    .check();
    Ok(())
}

fn sixteen_numbers() -> Array4<f64> {
    Array::from_iter((0..16).map(f64::from)).into_shape_with_order((2, 2, 2, 2)).unwrap()
}

fn gluon() -> BatchNormConfig {
    BatchNormConfig::new(2).momentum(Momentum::Keep(0.9)).running_variance(RunningVariance::Biased)
}

/// E29: the running variance starts at 1, not at 0, so that one step leaves it at 2.625.
#[test]
fn the_running_variance_starts_at_one() -> Result<(), Error> {
    let mut layer = gluon().init()?;
    let (_, saved) = layer.forward(sixteen_numbers().view())?;
    let tutorial = 0.9 * 0.0 + 0.1 * saved.statistics.variance[0];
    let Running { mean, variance } = running(&layer);
    Erratum { cellnorm: variance[0], right: 2.625, tutorial, wrong: 1.725, within: 1e-14 }.check();
    // the running mean does start at 0: there, a tenth is right
    assert!(distance(mean, &ndarray::array![0.55, 0.95].into_dyn()) < 1e-15);
    // PyTorch's rule follows the unbiased variance
    let mut pytorch = BatchNormConfig::new(2).init()?;
    pytorch.forward(sixteen_numbers().view())?;
    close(running(&pytorch).variance[0], 0.9 + 0.1 * 17.25 * 8.0 / 7.0, 1e-14);
    Ok(())
}

/// E30: the gradient of γ for the loss Σ |y| is Σ |x̂| of each channel, not the number of values.
#[test]
fn the_gradient_of_gamma_is_the_sum_of_sizes() -> Result<(), Error> {
    let (x, mut layer) = (sixteen_numbers(), gluon().init()?);
    let (y, saved) = layer.forward(x.view())?;
    let gradients = layer.backward(&saved, x.view(), y.mapv(f64::signum))?;
    let dgamma = gradients.dgamma.unwrap();
    let points = x.len() as f64;
    Erratum { cellnorm: dgamma[[0]], right: 7.7047, tutorial: points, wrong: 16.0, within: 1e-4 }
        .check();
    Erratum { cellnorm: dgamma.sum(), right: 15.4094, tutorial: points, wrong: 16.0, within: 1e-4 }
        .check();
    assert!(gradients.dbeta.unwrap().iter().all(|dbeta| *dbeta == 0.0));
    Ok(())
}

/// The rest of the worked example: outputs before, in and after training.
#[test]
fn sixteen_numbers_through_batch_normalization() -> Result<(), Error> {
    let (x, mut layer) = (sixteen_numbers(), gluon().init()?);
    // not trained: only ε shows
    let untrained = layer.infer(x.view())?.into_dyn();
    assert!(distance(&untrained, &x.mapv(|x| x / (1.0_f64 + 1e-5).sqrt()).into_dyn()) <= 1e-14);
    let (y, saved) = layer.forward(x.view())?;
    close(y[[0, 0, 0, 0]], -1.324_244_0, 1e-6);
    assert_eq!(
        (&saved.statistics.mean[..], &saved.statistics.variance[..]),
        (&[5.5, 9.5][..], &[17.25, 17.25][..])
    );

    for _ in 0..100 {
        layer.forward(x.view())?;
    }
    // 0.9¹⁰¹ = 2.4e-5 of the start is left
    let Running { mean, variance } = running(&layer);
    let near = |(mean, expected): (&f64, f64)| (mean - expected).abs() <= 1e-4;
    assert!(mean.iter().zip([5.4999, 9.4998]).all(near));
    assert!(variance.iter().all(|variance| (variance - 17.2496).abs() <= 1e-4));
    assert!(distance(&layer.infer(x.view())?.into_dyn(), &y.into_dyn()) < 1e-4);
    Ok(())
}
