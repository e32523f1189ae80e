//! How γ and β start and what they must keep to, against numbers of Keras 3.15.1 (TensorFlow
//! 2.21.0, float64) and differences.

use cellnorm::parameters::{Constraint, Initializer, Regularizer};
use cellnorm::rule::{ParameterRules, Rules};
use cellnorm::{BatchNormConfig, Error, GroupNormConfig, LayerNormConfig, rule::Gradients};
use ndarray::{Array1, ArrayD, Ix2, IxDyn, array};

use crate::common::{Numbers, distance};

fn matrix() -> ArrayD<f64> {
    array![[3.0, 0.1, -1.0], [4.0, -0.2, 2.0]].into_dyn()
}

fn constrained(constraint: Constraint, mut parameter: ArrayD<f64>) -> Result<ArrayD<f64>, Error> {
    constraint.apply(&mut parameter)?;
    Ok(parameter)
}

#[test]
fn a_seed_gives_the_same_numbers_everywhere() -> Result<(), Error> {
    // xoshiro256++ seeded by SplitMix64, written apart from this library
    let shares =
        [0.05536043647833311, 0.17211585444811772, 0.7175761283586594, 0.42720981929150526];
    let uniform = Initializer::Uniform { low: -1.0, high: 3.0, seed: 7 }.init(&[2, 2])?;
    assert_eq!(
        uniform,
        ArrayD::from_shape_vec(IxDyn(&[2, 2]), shares.map(|share| 4.0 * share - 1.0).to_vec())
            .unwrap()
    );

    let normal = |seed| Initializer::Normal { mean: 1.0, std: 0.5, seed }.init(&[40_000]).unwrap();
    let (first, second) = (normal(1), normal(2));
    assert_eq!(first, normal(1));
    assert!(first != second);
    assert!((first.mean().unwrap() - 1.0).abs() < 0.01 && (first.std(0.0) - 0.5).abs() < 0.01);
    // what rand_distr 0.6 gives; another number would mean that seeds no longer name the same
    // layers
    assert_eq!(first[[0]], 1.421999306811088);
    Ok(())
}

#[test]
fn layers_start_as_they_are_told() -> Result<(), Error> {
    let batch = BatchNormConfig::new(3).gamma_initializer(Initializer::Zeros).init()?;
    assert_eq!(
        (batch.gamma, batch.beta),
        (Some(ArrayD::zeros(IxDyn(&[3]))), Some(ArrayD::zeros(IxDyn(&[3]))))
    );
    let layer =
        LayerNormConfig::new(&[2, 3]).beta_initializer(Initializer::Constant(0.5)).init()?;
    assert_eq!(layer.gamma, Some(ArrayD::ones(IxDyn(&[2, 3]))));
    assert_eq!(layer.beta, Some(ArrayD::from_elem(IxDyn(&[2, 3]), 0.5)));
    Ok(())
}

/// U(−0.05, 0.05), the `"random_uniform"` of Keras, where a user wants γ = 1.
#[test]
fn the_warning_names_what_happens() -> Result<(), Error> {
    let keras = Initializer::Uniform { low: -0.05, high: 0.05, seed: 3 };
    let warning = keras.warning().expect("near 0");
    assert!(
        warning.contains("35 times smaller") && warning.contains("at least 20 times"),
        "{warning}"
    );
    let channels = 4096;
    let x = Numbers::new(1).tensor(&[8, channels], 0.0);
    let output = |initializer| -> Result<ArrayD<f64>, Error> {
        Ok(BatchNormConfig::new(channels)
            .gamma_initializer(initializer)
            .init()?
            .forward(x.view())?
            .0)
    };
    let (usual, shrunk) = (output(Initializer::Ones)?, output(keras)?);
    let times = usual.std(0.0) / shrunk.std(0.0);
    assert!((times - 1.0 / (0.1 / 12_f64.sqrt())).abs() < 1.0, "{times}");
    let turned =
        usual.iter().zip(&shrunk).filter(|(a, b)| *a * *b < 0.0).count() as f64 / x.len() as f64;
    assert!((turned - 0.5).abs() < 0.03, "{turned}");

    let normal = |mean, std| Initializer::Normal { mean, std, seed: 0 }.warning();
    assert!(
        normal(0.0, 0.02)
            .is_some_and(|text| text.contains("50 times smaller") && text.contains("half"))
    );
    assert!(
        normal(0.05, 0.0)
            .is_some_and(|text| text.contains("20 times smaller") && !text.contains("half"))
    );
    assert!(Initializer::Constant(-0.05).warning().is_some());
    assert!(Initializer::Zeros.warning().is_some_and(|text| text.contains("output is beta")));
    for fine in [Initializer::Constant(0.2), Initializer::Uniform { low: -1.0, high: 1.0, seed: 0 }]
    {
        assert_eq!(fine.warning(), None);
    }
    assert_eq!(normal(1.0, 0.02), None);
    Ok(())
}

#[test]
fn constraints_give_the_numbers_of_keras() -> Result<(), Error> {
    let columns = [
        [1.1999999760000004, 0.09999995527866046, -0.8944271509999177],
        [1.5999999680000005, -0.19999991055732091, 1.7888543019998353],
    ];
    let rows = [
        [1.8964185637829838, 0.06321395212609947, -0.6321395212609946],
        [1.7870681665149222, -0.08935340832574612, 0.8935340832574611],
    ];
    for (axis, expected) in [(0, columns), (1, rows), (-1, rows)] {
        let ours = constrained(Constraint::MaxNorm { max: 2.0, axis }, matrix())?;
        assert!(distance(ours, expected.into_iter().flatten()) <= 1e-15);
    }
    let gamma =
        constrained(Constraint::MaxNorm { max: 2.0, axis: 0 }, array![1.0, -2.0, 2.0].into_dyn())?;
    assert!(
        distance(gamma, [0.6666666444444452, -1.3333332888888905, 1.3333332888888905]) <= 1e-15
    );
    // a vector of zeros has no direction, and stays
    let zeros = ArrayD::zeros(IxDyn(&[3]));
    assert_eq!(constrained(Constraint::MaxNorm { max: 2.0, axis: 0 }, zeros.clone())?, zeros);

    let positive = array![[3.0, 0.1, 0.0], [4.0, 0.0, 2.0]].into_dyn();
    assert_eq!(constrained(Constraint::NonNegative, matrix())?, positive);
    let clipped = array![[2.5, 0.1, -0.5], [2.5, -0.2, 2.0]].into_dyn();
    assert_eq!(constrained(Constraint::Clip { low: -0.5, high: 2.5 }, matrix())?, clipped);
    Ok(())
}

#[test]
fn regularizers_give_the_numbers_of_keras_and_their_slopes() -> Result<(), Error> {
    // Keras holds the factors in f32
    for (regularizer, loss) in [
        (Regularizer::L1(0.01), 0.1029999976977706),
        (Regularizer::L2(0.01), 0.3004999932833016),
        (Regularizer::L1L2 { l1: 0.02, l2: 0.03 }, 1.107499975245446),
    ] {
        assert!((regularizer.loss(&matrix())? - loss).abs() <= 1e-7 * loss);
        let mut gradient = ArrayD::from_elem(matrix().raw_dim(), 5.0);
        regularizer.add_gradient(&matrix(), &mut gradient)?;
        for (index, gradient) in gradient.indexed_iter() {
            let at = |step: f64| {
                let mut moved = matrix();
                moved[&index] += step;
                regularizer.loss(&moved).unwrap()
            };
            // exact but for rounding: |w| is linear on either side of 0, w² has no third derivative
            let slope = (at(1e-3) - at(-1e-3)) / 2e-3;
            assert!((gradient - 5.0 - slope).abs() <= 1e-11, "{regularizer:?} at {index:?}");
        }
    }
    let mut gradient = array![0.0, 0.0].into_dyn();
    Regularizer::L1(1.0).add_gradient(&array![0.0, -0.0].into_dyn(), &mut gradient)?;
    assert_eq!(gradient, array![0.0, 0.0].into_dyn());
    Ok(())
}

/// Gradients with these of γ and β.
fn gradients(dgamma: &[f64], dbeta: &[f64]) -> Result<Gradients<f64, Ix2>, Error> {
    let x = array![[1.0, 2.0]];
    let mut layer = LayerNormConfig::new(&[2]).init()?;
    let (_, saved) = layer.forward(x.view())?;
    let mut gradients = layer.backward(&saved, x.view(), x.view())?;
    let table = |values: &[f64]| Some(Array1::from_vec(values.to_vec()).into_dyn());
    (gradients.dgamma, gradients.dbeta) = (table(dgamma), table(dbeta));
    Ok(gradients)
}

#[test]
fn a_step_keeps_the_rules() -> Result<(), Error> {
    let rules = ParameterRules {
        gamma: Rules {
            regularizer: Some(Regularizer::L2(0.25)),
            constraint: Some(Constraint::NonNegative),
            rate: 0.5,
        },
        beta: Rules::default(),
    };
    let mut layer = GroupNormConfig::new(1, 2).init()?;
    assert_eq!(rules.penalty(&layer)?, 0.5);
    rules.step(&mut layer, &gradients(&[1.5, 19.5], &[3.0, -1.0])?, 0.2)?;
    // γ: 1 − 0.2 · 0.5 · (1.5 + 2 · 0.25 · 1) and 1 − 0.1 · 20 < 0; β: −0.2 dβ
    assert!(distance(layer.gamma.clone().unwrap(), [0.8, 0.0]) <= 1e-15);
    assert!(distance(layer.beta.clone().unwrap(), [-0.6, 0.2]) <= 1e-15);

    layer.gamma = Some(array![-1.0, 2.0].into_dyn());
    rules.constrain(&mut layer)?;
    assert_eq!(layer.gamma, Some(array![0.0, 2.0].into_dyn()));
    Ok(())
}

#[test]
fn a_frozen_parameter_stays() -> Result<(), Error> {
    let frozen = Rules {
        regularizer: Some(Regularizer::L1(1.0)),
        constraint: Some(Constraint::NonNegative),
        rate: 0.0,
    };
    let rules = ParameterRules { gamma: frozen, beta: frozen };
    let mut layer = BatchNormConfig::new(2).init()?;
    layer.gamma = Some(array![-1.0, 2.0].into_dyn());
    let before = (layer.gamma.clone(), layer.beta.clone());
    rules.step(&mut layer, &gradients(&[1.0, 1.0], &[1.0, 1.0])?, 0.1)?;
    rules.constrain(&mut layer)?;
    assert_eq!(rules.penalty(&layer)?, 0.0);
    assert_eq!((layer.gamma, layer.beta), before);
    Ok(())
}

#[test]
fn rules_that_cannot_be_kept() -> Result<(), Error> {
    let message = |result: Result<ArrayD<f64>, Error>| result.unwrap_err().to_string();
    let uniform = |low, high| message(Initializer::Uniform { low, high, seed: 0 }.init(&[2]));
    assert_eq!(uniform(2.0, 1.0), "the initializer's low is 2; it must be no more than high");
    assert_eq!(uniform(f64::NAN, 1.0), "the initializer's low is NaN; it must be finite");
    assert!(uniform(-1e308, 1e308).ends_with("so near to low that high - low is finite"));
    let normal = message(Initializer::Normal { mean: 0.0, std: -1.0, seed: 0 }.init(&[2]));
    assert_eq!(normal, "the initializer's std is -1; it must be finite and at least 0");
    let config = LayerNormConfig::new(&[2]).gamma_initializer(Initializer::Constant(f64::INFINITY));
    assert_eq!(
        config.init().unwrap_err().to_string(),
        "the initializer's constant is inf; it must be finite"
    );

    let constraint = |constraint| message(constrained(constraint, matrix()));
    let axis = constraint(Constraint::MaxNorm { max: 1.0, axis: 2 });
    assert_eq!(axis, "axis 2 does not exist in a tensor of 2 axes; possible: -2 to 1");
    let max = constraint(Constraint::MaxNorm { max: f64::NAN, axis: 0 });
    assert_eq!(max, "the constraint's max is NaN; it must be finite and at least 0");
    let clip = constraint(Constraint::Clip { low: 1.0, high: -1.0 });
    assert_eq!(clip, "the constraint's low is 1; it must be no more than high");
    let nan = message(constrained(Constraint::NonNegative, array![1.0, f64::NAN].into_dyn()));
    assert_eq!(nan, "the constrained parameter is NaN; it must be finite");

    let factor = Regularizer::L2(-0.1).loss(&matrix()).unwrap_err().to_string();
    assert_eq!(factor, "the regularizer's l2 is -0.1; it must be finite and at least 0");
    let mut layer = BatchNormConfig::new(2).init()?;
    let shape = ParameterRules::default()
        .step(&mut layer, &gradients(&[1.0, 1.0], &[1.0])?, 0.1)
        .unwrap_err();
    assert_eq!(shape.to_string(), "the parameter's gradient has the shape [1]; it must be [2]");
    let nan = ParameterRules::default()
        .step(&mut layer, &gradients(&[1.0, 1.0], &[f64::NAN, 1.0])?, 0.1)
        .unwrap_err();
    assert_eq!(nan.to_string(), "a parameter after the step is NaN; it must be finite");
    assert_eq!(layer.gamma, Some(array![1.0, 1.0].into_dyn()), "nothing has changed");
    Ok(())
}
