//! What a caller may get wrong gives an error, not a panic and not a wrong number.

use cellnorm::norms::{Kind, NormConfig, Roles};
use cellnorm::parameters::{Constraint, Initializer, ParameterRules, Rules};
use cellnorm::tables::Mask;
use cellnorm::{
    About, BatchNormConfig, Error, GroupNormConfig, LayerNormConfig, Momentum, RmsNormConfig, StepBatchNormConfig,
};
use ndarray::{Array3, array};

fn all(shape: (usize, usize, usize)) -> Mask {
    Mask::new(Array3::from_elem(shape, true).view())
}

/// A mask that leaves all values leaves the statistics, too: about zero, 0 and the mean square.
#[test]
fn masked_rms_saves_what_it_divided_by() -> Result<(), Error> {
    let x = array![[3.0_f64, 4.0], [0.0, 2.0]];
    let layer = RmsNormConfig::new(&[2]).init()?;
    let (_, plain) = layer.forward(x.view())?;
    let (_, masked) = layer.forward_masked(x.view(), &Mask::lengths(&[2, 2], 1))?;
    assert_eq!(masked.statistics, plain.statistics);
    Ok(())
}

/// Cells that are each finite, but whose common variance overflows f64.
#[test]
fn numbers_too_large_for_a_common_variance() -> Result<(), Error> {
    let x = array![[[1e200_f64], [-1e200]]];
    let layer = GroupNormConfig::new(1, 2).init()?;
    let plain = layer.forward(x.view()).unwrap_err();
    assert_eq!(layer.forward_masked(x.view(), &all((1, 2, 1))).unwrap_err().to_string(), plain.to_string());
    Ok(())
}

/// What one layer saved, handed to another that x suits as well.
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

/// With momentum 1, and in the first step of the plain mean, the running statistics are those of the batch, exactly.
#[test]
fn a_full_step_forgets_what_was_there() -> Result<(), Error> {
    let x = array![[[1e-12_f64], [-1e-12]], [[1e-12], [-1e-12]]];
    let exact = (1e-12_f64 * 1e-12) * (4.0 / 3.0);
    for momentum in [Momentum::Step(1.0), Momentum::Keep(0.0), Momentum::Cumulative] {
        let mut batch = BatchNormConfig::new(1).channel_axis(-1).momentum(momentum).init()?;
        batch.running_mean.fill(1e30);
        batch.forward(x.view())?;
        assert_eq!(batch.running_mean[0], 0.0);
        assert!((batch.running_var[0] / exact - 1.0).abs() < 1e-12, "{momentum:?}");
        let mut step = StepBatchNormConfig::new(1, 1).momentum(momentum).init()?;
        step.forward(x.view())?;
        assert!((step.running.unwrap().variance[[0, 0]] / exact - 1.0).abs() < 1e-12, "{momentum:?}");
    }
    Ok(())
}

/// A batch without a valid value is none: the plain mean is over the others.
#[test]
fn a_batch_of_nothing_is_no_step() -> Result<(), Error> {
    let x = Array3::from_shape_fn((3, 2, 2), |(n, t, c)| (n * n + 3 * t + 5 * c) as f64);
    let none = Mask::lengths(&[0, 0, 0], 1);
    let mut batch = BatchNormConfig::new(2).channel_axis(-1).momentum(Momentum::Cumulative).init()?;
    let mut step = StepBatchNormConfig::new(2, 2).momentum(Momentum::Cumulative).init()?;
    let (mut only_batch, mut only_step) = (batch.clone(), step.clone());
    batch.forward_masked(x.view(), &none)?;
    step.forward_masked(x.view(), &none)?;
    assert_eq!((batch.steps, step.steps), (0, 0));
    batch.forward(x.view())?;
    step.forward(x.view())?;
    only_batch.forward(x.view())?;
    only_step.forward(x.view())?;
    assert_eq!((batch.running_mean, step.running), (only_batch.running_mean, only_step.running));
    Ok(())
}

/// Three channels in two groups: the rule behind a mask says what the layer without one says.
#[derive(Clone, Debug)]
struct Uneven;

impl Kind for Uneven {
    const NAME: &'static str = "uneven normalization";
    const ABOUT: About = About::Mean;

    fn parameter_shape(&self) -> Vec<usize> {
        vec![3]
    }

    fn roles(&self, shape: &[usize], _affine: bool) -> Result<Roles, Error> {
        Ok(Roles::new((0..shape.len()).map(|axis| (axis != 0, axis == 1))).grouped(1, 2))
    }
}

#[test]
fn groups_of_a_kind_that_do_not_divide() -> Result<(), Error> {
    let x = Array3::<f64>::zeros((2, 3, 4));
    let layer = NormConfig::of(Uneven).init()?;
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
    assert!(Initializer::Ones.init(&[half, 3, 0]).is_err(), "a length of 0 does not make the others countable");
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
