//! A caller's mistake gives an error, not a panic and not a wrong number.

use cellnorm::parameters::{Constraint, Initializer};
use cellnorm::rule::{NormConfig, ParameterRules, ParameterSpec, Rule, Rules};
use cellnorm::shape::Roles;
use cellnorm::weights::WeightDirection;
use cellnorm::{
    BatchNormConfig, Error, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Mask, Momentum,
    Normalization, OneValue, RmsNormConfig, RunningVariance, Semantics,
    norms::{
        BatchInstanceNormConfig, BatchRenormConfig, FilterResponseNormConfig, GhostBatchNormConfig,
        MeanVarianceNormConfig, StepBatchNormConfig, TluConfig,
    },
    semantics::EpsilonAt,
};
use ndarray::{Array3, array};

use crate::common::{averages, running};

fn all(shape: (usize, usize, usize)) -> Mask {
    Mask::new(Array3::from_elem(shape, true).view())
}

/// A mask that leaves all values leaves the statistics, too: about zero, 0 and the mean square.
#[test]
fn masked_rms_saves_what_it_divided_by() -> Result<(), Error> {
    let x = array![[3.0_f64, 4.0], [0.0, 2.0]];
    let mut layer = RmsNormConfig::new(&[2]).init()?;
    let (_, plain) = layer.forward(x.view())?;
    let (_, masked) = layer.forward_masked(x.view(), &Mask::lengths(&[2, 2], 1))?;
    assert_eq!(masked.statistics, plain.statistics);
    Ok(())
}

/// Cells that are each finite, but whose common variance overflows f64.
#[test]
fn numbers_too_large_for_a_common_variance() -> Result<(), Error> {
    let x = array![[[1e200_f64], [-1e200]]];
    let mut layer = GroupNormConfig::new(1, 2).init()?;
    let plain = layer.forward(x.view()).unwrap_err();
    assert_eq!(
        layer.forward_masked(x.view(), &all((1, 2, 1))).unwrap_err().to_string(),
        plain.to_string()
    );
    Ok(())
}

/// The numbers that one layer saved, handed to another that x suits as well.
#[test]
fn saved_of_another_layer() -> Result<(), Error> {
    let x = Array3::from_shape_fn((2, 3, 4), |(n, c, s)| (5 * n + c * s) as f64);
    let mut one = BatchNormConfig::new(3).init()?;
    one.train(false);
    let (_, saved) = one.forward_masked(x.view(), &all((2, 3, 4)))?;
    let other = BatchNormConfig::new(4).channel_axis(2).init()?;
    let expected = "the saved mean has the shape [3]; it must be [4]";
    assert_eq!(other.backward(&saved, x.view(), x.view()).unwrap_err().to_string(), expected);

    let one = StepBatchNormConfig::new(4, 1).init()?;
    let (_, saved) = one.forward_fixed(x.view())?;
    let other = StepBatchNormConfig::new(4, 3).init()?;
    let expected = "the saved mean has the shape [4]; it must be [12]";
    assert_eq!(other.backward(&saved, x.view(), x.view()).unwrap_err().to_string(), expected);
    Ok(())
}

/// One valid value has no unbiased variance: the running variance waits for a second one, and does
/// not shrink.
#[test]
fn one_valid_value_leaves_the_running_variance() -> Result<(), Error> {
    let x = Array3::from_shape_fn((2, 3, 1), |(n, t, _)| (5 * n + 3 * t) as f64);
    let mask = Mask::lengths(&[3, 2], 1);
    let variances = |policy, variance| -> Result<Vec<f64>, Error> {
        let config = StepBatchNormConfig::new(1, 3).one_value(policy).running_variance(variance);
        let mut layer = config.momentum(Momentum::Step(0.5)).init()?;
        layer.forward_masked(x.view(), &mask)?;
        let running = layer.running.expect("kept");
        assert_eq!(running.mean[[2, 0]], 3.0);
        Ok(running.variance.into_iter().collect())
    };
    // two values 5 apart, and one
    let (unbiased, biased) = (RunningVariance::Unbiased, RunningVariance::Biased);
    assert_eq!(variances(OneValue::Error, unbiased)?, [6.75, 6.75, 1.0]);
    assert_eq!(variances(OneValue::Error, biased)?, [3.625, 3.625, 0.5]);
    assert_eq!(variances(OneValue::Beta, unbiased)?, [6.75, 6.75, 0.5]);

    let mut layer = BatchNormConfig::new(3).momentum(Momentum::Step(0.5)).init()?;
    layer.forward_masked(x.view(), &mask)?;
    assert_eq!(running(&layer).variance, array![6.75, 6.75, 1.0].into_dyn());
    Ok(())
}

/// A rule refuses semantics and policies that it cannot follow.
#[test]
fn semantics_that_do_not_suit_a_rule() -> Result<(), Error> {
    let inside = Semantics::preset("pytorch-2", Normalization::Batch)?;
    let outside = Semantics { epsilon_at: EpsilonAt::OutsideRoot, ..inside };
    let message = |refused: Result<(), Error>| refused.unwrap_err().to_string();
    let refused = BatchInstanceNormConfig::new(3).semantics(&outside).init().map(drop);
    assert!(message(refused).contains("inside the root only"));
    let refused = MeanVarianceNormConfig::new(&[0]).semantics(&inside).init().map(drop);
    assert!(message(refused).contains("outside the root only"));
    let refused = FilterResponseNormConfig::new(3).one_value(OneValue::UseRunning).init().map(drop);
    assert!(message(refused).contains("no running statistics"));
    assert!(MeanVarianceNormConfig::new(&[0]).semantics(&outside).init().is_ok());
    Ok(())
}

/// Changes of a rule and a layer after they were made are checked like the settings that they are
/// made of.
#[test]
fn rules_changed_since_their_layer_was_made() -> Result<(), Error> {
    let x = Array3::from_shape_fn((2, 3, 4), |(n, c, s)| (5 * n + c * s) as f64);
    let mut ghost = GhostBatchNormConfig::new(3, 2).init()?;
    ghost.rule_mut().size = 0;
    assert!(ghost.forward(x.view()).unwrap_err().to_string().contains("at least 1"));
    let mut renorm = BatchRenormConfig::new(3).init()?;
    for (r_max, d_max) in [(0.5, 1.0), (f64::NAN, 1.0), (2.0, -0.5)] {
        (renorm.rule_mut().r_max, renorm.rule_mut().d_max) = (r_max, d_max);
        assert!(renorm.forward(x.view()).is_err());
    }
    let mut renorm = BatchRenormConfig::new(3).init()?;
    renorm.running = None;
    assert!(renorm.infer(x.view()).unwrap_err().to_string().contains("running"));
    let direction = WeightDirection { axis: None, outputs: 7 };
    assert!(
        NormConfig::custom(direction).init().unwrap_err().to_string().contains("1 for one norm")
    );
    assert!(
        TluConfig::new(usize::MAX).init().unwrap_err().to_string().contains("too many elements")
    );
    Ok(())
}

/// A layer without running statistics does not drop those of a checkpoint.
#[test]
fn statistics_that_a_layer_has_no_place_for() -> Result<(), Error> {
    let state = BatchNormConfig::new(3).init()?.state();
    let message = InstanceNormConfig::new(3).init()?.load(&state).unwrap_err().to_string();
    assert!(message.contains("running_mean") && message.contains("track"), "{message}");
    Ok(())
}

/// The axis that training refuses is refused in inference.
#[test]
fn tracked_instances_on_the_axis_of_the_samples() -> Result<(), Error> {
    let layer = InstanceNormConfig::new(3).channel_axis(0).init()?.track(Momentum::Step(0.1))?;
    let x = Array3::<f64>::zeros((3, 2, 4));
    assert_eq!(
        layer.infer(x.view()).unwrap_err().to_string(),
        layer.clone().forward(x.view()).unwrap_err().to_string()
    );
    Ok(())
}

/// With momentum 1, and in the first step of the plain mean, the running statistics are those of
/// the batch, exactly.
#[test]
fn a_full_step_forgets_what_was_there() -> Result<(), Error> {
    let x = array![[[1e-12_f64], [-1e-12]], [[1e-12], [-1e-12]]];
    let exact = (1e-12_f64 * 1e-12) * (4.0 / 3.0);
    for momentum in [Momentum::Step(1.0), Momentum::Keep(0.0), Momentum::Cumulative] {
        let mut batch = BatchNormConfig::new(1).channel_axis(-1).momentum(momentum).init()?;
        batch.running = Some(averages(&[1e30], &[1.0]));
        batch.forward(x.view())?;
        assert_eq!(running(&batch).mean[0], 0.0);
        assert!((running(&batch).variance[0] / exact - 1.0).abs() < 1e-12, "{momentum:?}");
        let mut step = StepBatchNormConfig::new(1, 1).momentum(momentum).init()?;
        step.forward(x.view())?;
        assert!((running(&step).variance[[0, 0]] / exact - 1.0).abs() < 1e-12, "{momentum:?}");
    }
    Ok(())
}

/// A batch without a valid value is none: the plain mean is over the others.
#[test]
fn a_batch_of_nothing_is_no_step() -> Result<(), Error> {
    let x = Array3::from_shape_fn((3, 2, 2), |(n, t, c)| (n * n + 3 * t + 5 * c) as f64);
    let none = Mask::lengths(&[0, 0, 0], 1);
    let mut batch =
        BatchNormConfig::new(2).channel_axis(-1).momentum(Momentum::Cumulative).init()?;
    let mut step = StepBatchNormConfig::new(2, 2).momentum(Momentum::Cumulative).init()?;
    let (mut only_batch, mut only_step) = (batch.clone(), step.clone());
    batch.forward_masked(x.view(), &none)?;
    step.forward_masked(x.view(), &none)?;
    assert_eq!((batch.steps, step.steps), (0, 0));
    batch.forward(x.view())?;
    step.forward(x.view())?;
    only_batch.forward(x.view())?;
    only_step.forward(x.view())?;
    assert_eq!((batch.running, step.running), (only_batch.running, only_step.running));
    Ok(())
}

/// Three channels in two groups: the rule behind a mask says what the layer without one says.
#[derive(Clone, Debug)]
struct Uneven;

impl Rule for Uneven {
    const NAME: &'static str = "uneven normalization";

    fn parameters(&self) -> Vec<ParameterSpec> {
        ParameterSpec::affine(&[3])
    }

    fn roles(&self, shape: &[usize], _affine: bool) -> Result<Option<Roles>, Error> {
        let roles = Roles::new((0..shape.len()).map(|axis| (axis != 0, axis == 1)));
        Ok(Some(roles.grouped(1, 2)))
    }
}

#[test]
fn groups_of_a_rule_that_do_not_divide() -> Result<(), Error> {
    let x = Array3::<f64>::zeros((2, 3, 4));
    let mut layer = NormConfig::custom(Uneven).init()?;
    let plain = layer.forward(x.view()).unwrap_err();
    assert_eq!(plain, Error::Groups { channels: 3, groups: 2 });
    assert_eq!(layer.forward_masked(x.view(), &all((2, 3, 4))).unwrap_err(), plain);
    Ok(())
}

#[test]
fn parameters_that_no_memory_holds() {
    let half = usize::MAX / 2;
    let refused = [
        LayerNormConfig::new(&[half, 3]).init().map(|_| ()),
        GroupNormConfig::new(1, half).init().map(|_| ()),
        BatchNormConfig::new(half).init().map(|_| ()),
        BatchNormConfig::new(half).scale(false).center(false).init().map(|_| ()),
        StepBatchNormConfig::new(half, 3).scale(false).center(false).init().map(|_| ()),
        Initializer::Ones.init(&[3, half]).map(|_| ()),
    ];
    for result in refused {
        assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    }
    assert!(
        Initializer::Ones.init(&[half, 3, 0]).is_err(),
        "a length of 0 does not make the others countable"
    );
}

/// Where β cannot be constrained, γ is not either.
#[test]
fn constraints_hold_for_both_or_none() -> Result<(), Error> {
    let mut layer = LayerNormConfig::new(&[2]).init()?;
    layer.gamma = Some(array![-1.0, 1.0].into_dyn());
    layer.beta = Some(array![f64::NAN, 1.0].into_dyn());
    let rules = Rules { constraint: Some(Constraint::NonNegative), ..Rules::default() };
    assert!(ParameterRules { gamma: rules, beta: rules }.constrain(&mut layer).is_err());
    assert_eq!(layer.gamma, Some(array![-1.0, 1.0].into_dyn()));
    Ok(())
}

/// A table that leaves a cell out leaves it 0, whatever block of memory the cell lies in and
/// whoever maps it.
#[test]
fn cells_that_a_table_leaves_out() {
    use cellnorm::kernels::{Activation, Affine, Buffers};
    use cellnorm::shape::{Cells, Sets};
    let (cells, sets) = (
        Cells::channels_last(8, 3, 4),
        Sets::new(&(0..32).map(|cell| cell / 2).collect::<Vec<u32>>()),
    );
    let (x, mut y) = (vec![1.0_f32; 96], Vec::new());
    let buffers = Buffers::Into(&x, &mut y);
    cellnorm::kernels::forward(buffers, &cells, &sets, Activation::Identity, &|set, _, affines| {
        if set % 4 < 2 {
            affines.fill(Affine { center: 0.0, scale: 2.0, offset: 0.0 });
        }
        (0.0, 0.0)
    });
    for (i, y) in y.iter().enumerate() {
        let set = (i / 12 * 4 + i % 4) / 2;
        assert_eq!(*y, if set % 4 < 2 { 2.0 } else { 0.0 }, "set {set}");
    }
}
