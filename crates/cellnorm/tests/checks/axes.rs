//! Batch normalization over several axes is batch normalization of the channels that these axes
//! make together.

use cellnorm::{BatchNorm, BatchNormConfig, Error, Mask, norms::StepBatchNormConfig};
use ndarray::{ArrayD, IxDyn};

use crate::common::{Numbers, distance, running};

fn assert_same<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
    what: &str,
) {
    let worst = distance(a.into_iter().copied(), b.into_iter().copied());
    assert!(worst < 1e-12, "{what}: {worst:e}");
}

fn layer(axes: &[isize], lengths: &[usize]) -> Result<BatchNorm, Error> {
    let mut layer = BatchNormConfig::over(axes, lengths).init()?;
    let mut numbers = Numbers::new(8);
    for name in ["gamma", "beta"] {
        layer.parameter_mut(name).unwrap().mapv_inplace(|_| numbers.uniform());
    }
    Ok(layer)
}

#[test]
fn several_axes_are_one_of_all_their_indices() -> Result<(), Error> {
    let mut numbers = Numbers::new(31);
    let shape = [4, 3, 5, 2];
    let (x, dy) = (numbers.tensor(&shape, 1.0), numbers.tensor(&shape, 0.0));
    // axes 1 and 3 together, in that order whichever way they are named
    for axes in [[1, 3], [-1, 1]] {
        let mut layer = layer(&axes, &[3, 2])?;
        let joined = |of: &ArrayD<f64>| {
            let of = of.view().permuted_axes(IxDyn(&[0, 2, 1, 3]));
            of.as_standard_layout().into_owned().into_shape_with_order((4, 5, 6)).unwrap()
        };
        let mut expected = BatchNormConfig::new(6).channel_axis(-1).init()?;
        let flat = |of: &ArrayD<f64>| of.clone().into_shape_with_order(IxDyn(&[6])).unwrap();
        expected.gamma = layer.gamma.as_ref().map(flat);
        expected.beta = layer.beta.as_ref().map(flat);
        let (y, saved) = layer.forward(x.view())?;
        let (y_expected, saved_expected) = expected.forward(joined(&x).view())?;
        assert_same(&joined(&y), &y_expected, "y");
        let (ours, theirs) = (running(&layer), running(&expected));
        assert_same(&ours.mean, &theirs.mean, "running mean");
        assert_same(&ours.variance, &theirs.variance, "running variance");
        let gradients = layer.backward(&saved, x.view(), dy.view())?;
        let gradients_expected =
            expected.backward(&saved_expected, joined(&x).view(), joined(&dy))?;
        assert_same(&joined(&gradients.dx), &gradients_expected.dx, "dx");
        assert_same(
            gradients.parameter("gamma").unwrap(),
            &gradients_expected.dgamma.unwrap(),
            "dgamma",
        );
        assert_same(
            gradients.parameter("beta").unwrap(),
            &gradients_expected.dbeta.unwrap(),
            "dbeta",
        );
        assert_same(&joined(&layer.infer(x.view())?), &expected.infer(joined(&x))?, "inference");
        // the same numbers however memory lies
        let reversed = x.t().as_standard_layout().into_owned().reversed_axes();
        assert_same(&layer.infer(reversed.view())?, &layer.infer(x.view())?, "reversed axes");
    }
    Ok(())
}

/// Time and channel as axes are per-time-step batch normalization, under masks, too.
#[test]
fn time_and_channel_are_steps() -> Result<(), Error> {
    let x = Numbers::new(6).tensor(&[4, 3, 2], 2.0);
    let mask = Mask::lengths(&[3, 1, 2, 3], 1);
    let (mut axes, mut steps) =
        (BatchNormConfig::over(&[1, 2], &[3, 2]).init()?, StepBatchNormConfig::new(2, 3).init()?);
    let (y, expected) =
        (axes.forward_masked(x.view(), &mask)?.0, steps.forward_masked(x.view(), &mask)?.0);
    assert_same(&y, &expected, "y");
    assert_eq!(axes.running, steps.running);
    Ok(())
}

#[test]
fn axes_that_do_not_suit() -> Result<(), Error> {
    let message = |axes: &[isize], lengths: &[usize]| {
        BatchNormConfig::over(axes, lengths).init().unwrap_err()
    };
    assert_eq!(
        message(&[1, 2], &[3]).to_string(),
        "1 length, [3], for 2 axes, [1, 2]; give one for each"
    );
    let x = ArrayD::<f32>::zeros(IxDyn(&[4, 3, 2]));
    let message = |axes: &[isize], lengths: &[usize]| {
        BatchNormConfig::over(axes, lengths)
            .init()
            .unwrap()
            .forward(x.view())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message(&[1, 2], &[2, 3]),
        "the axes [1, 2] of the shape [4, 3, 2] have the lengths [3, 2]; the layer was made for \
         [2, 3]"
    );
    assert!(message(&[1, -2], &[3, 3]).starts_with("axis 1 is named twice in [1, -2]"));
    assert!(message(&[1, 3], &[3, 2]).starts_with("axis 3 does not exist in a tensor of 3 axes"));
    assert!(message(&[0, 1, 2], &[4, 3, 2]).contains("has one value for each statistic"));
    Ok(())
}
