//! Two pairs of running averages: what renormalization is corrected toward, at a pace of its own,
//! and what inference takes.

use cellnorm::{
    BatchNormConfig, Error, Mask, Momentum, OneValue,
    momentum::Frozen,
    norms::{BatchRenorm, BatchRenormConfig},
    rule::Tracked,
};
use ndarray::{ArrayD, IxDyn};

use crate::common::{Numbers, averages, distance};

fn batches() -> [ArrayD<f64>; 3] {
    let mut numbers = Numbers::new(21);
    [0.5, -1.0, 2.0].map(|mean| numbers.tensor(&[5, 3, 2], mean))
}

fn layer(momentum: Momentum, correction: Option<Momentum>) -> Result<BatchRenorm, Error> {
    let config = BatchRenormConfig::new(3).momentum(momentum);
    match correction {
        Some(correction) => config.correction_momentum(correction).init(),
        None => config.init(),
    }
}

fn assert_same(a: &ArrayD<f64>, b: &ArrayD<f64>, what: &str) {
    let worst = distance(a.iter().copied(), b.iter().copied());
    assert!(a.shape() == b.shape() && worst < 1e-12, "{what}: {worst:e}");
}

#[test]
fn training_takes_one_pair_and_inference_the_other() -> Result<(), Error> {
    let (slow, fast) = (Momentum::Keep(0.9), Momentum::Step(0.5));
    let mut both = layer(slow, Some(fast))?;
    let (mut of_inference, mut of_training) = (layer(slow, None)?, layer(fast, None)?);
    for x in batches() {
        let y = both.forward(x.view())?.0;
        of_inference.forward(x.view())?;
        assert_same(
            &y,
            &of_training.forward(x.view())?.0,
            "training is that of a layer of the correction's pace",
        );
        assert_eq!(both.running, of_inference.running);
        assert_eq!(
            both.correction.as_ref().map(|correction| &correction.averages),
            of_training.running.as_ref()
        );
        assert_same(
            &both.infer(x.view())?,
            &of_inference.infer(x.view())?,
            "inference is that of the layer's pace",
        );
    }
    let mut same = layer(slow, Some(slow))?;
    let mut one = layer(slow, None)?;
    for x in batches() {
        assert_eq!(same.forward(x.view())?.0, one.forward(x.view())?.0, "one pace, one pair");
    }
    Ok(())
}

#[test]
fn a_correction_that_follows_at_once_is_batch_normalization_on_the_same_batch() -> Result<(), Error>
{
    let [x, ..] = batches();
    let config = BatchRenormConfig::new(3).bounds(f64::INFINITY, f64::INFINITY).epsilon(1e-5);
    let mut renorm = config.correction_momentum(Momentum::Step(1.0)).init()?;
    renorm.forward(x.view())?;
    let expected = BatchNormConfig::new(3).init()?.forward(x.view())?.0;
    assert_same(&renorm.forward(x.view())?.0, &expected, "r = 1 and d = 0");
    Ok(())
}

#[test]
fn what_does_not_move_the_averages_moves_neither_pair() -> Result<(), Error> {
    let [x, ..] = batches();
    let mut layer = layer(Momentum::Step(0.1), Some(Momentum::Step(0.5)))?;
    layer.forward(x.view())?;
    let before = (layer.running.clone(), layer.correction.clone());
    layer.freeze(Frozen::Inference);
    assert_same(&layer.forward(x.view())?.0, &layer.infer(x.view())?, "frozen is inference");
    layer.freeze(Frozen::BatchStatistics);
    layer.forward(x.view())?;
    layer.unfreeze();
    // a channel without a valid value
    let mask = ArrayD::from_shape_fn(IxDyn(&[1, 3, 1]), |index| index[1] != 1);
    assert_eq!((&layer.running, &layer.correction), (&before.0, &before.1));
    layer.forward_masked(x.view(), &Mask::new(mask.view()))?;
    let (moved, kept) = (layer.correction.as_ref().unwrap(), before.1.as_ref().unwrap());
    assert_eq!(moved.averages.mean[[1]], kept.averages.mean[[1]]);
    assert!(moved.averages.mean[[0]] != kept.averages.mean[[0]]);
    // where one value a statistic calls for inference, training takes its averages
    let config = BatchRenormConfig::new(3).one_value(OneValue::UseRunning);
    let mut single = config.correction_momentum(Momentum::Step(0.5)).init()?;
    (single.running, single.correction) = (layer.running.clone(), layer.correction.clone());
    let x = Numbers::new(4).tensor(&[1, 3], 0.0);
    assert_same(&single.forward(x.view())?.0, &single.infer(x.view())?, "one value a statistic");
    assert_eq!(single.correction, layer.correction);
    Ok(())
}

#[test]
fn averages_that_do_not_suit() -> Result<(), Error> {
    let error = layer(Momentum::Step(0.1), Some(Momentum::Keep(1.5))).unwrap_err();
    assert_eq!(error.to_string(), "momentum is 1.5; it must be between 0 and 1");
    let [x, ..] = batches();
    let mut layer = layer(Momentum::Step(0.1), Some(Momentum::Step(0.5)))?;
    layer.correction.as_mut().unwrap().averages.mean = ArrayD::zeros(IxDyn(&[2]));
    let error = layer.forward(x.view()).unwrap_err();
    assert_eq!(error.to_string(), "correction_mean has the shape [2]; it must be [3]");
    layer.correction.as_mut().unwrap().averages = averages(&[0.0; 3], &[-1.0; 3]);
    let error = layer.forward(x.view()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "correction_var is -1; it must be finite, and a variance not negative"
    );
    Ok(())
}

/// As those of a device may be: the variance by n − 1 is beyond f64 though that by n is not.
#[test]
fn a_target_that_is_not_finite_is_no_step() -> Result<(), Error> {
    let mut layer = BatchNormConfig::new(1).init()?;
    let before = layer.running.clone();
    let (mean, values) = (vec![0.0], vec![2.0]);
    layer.follow(&Tracked { mean, variance: vec![1.7e308], values });
    assert_eq!((layer.running.clone(), layer.steps), (before, 0));
    layer.forward(ndarray::array![[1.0], [3.0]].view())?;
    assert_eq!(layer.steps, 1);
    Ok(())
}
