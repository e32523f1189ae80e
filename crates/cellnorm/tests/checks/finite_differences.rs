//! The gradients of x, γ and β in f64 against differences of the loss, for every layer on random
//! shapes.
//!
//! Loss = Σ w · y with random w, so dy = w. Central differences of fourth order: f′ ≈ (f(−2h) − 8
//! f(−h) + 8 f(h) − f(2h)) / 12h, with an error of h⁴ f⁽⁵⁾ / 30. With ε = 0.1 no set is so narrow
//! that f⁽⁵⁾ spoils that, and ε counts in every gradient.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::common::{AnyLayer, Numbers, Parameters, Spec, Which, check, distance, largest, specs};
use ndarray::{ArrayD, IxDyn};

const STEP: f64 = 1e-3;
const BAR: f64 = 1e-9;
/// Gradients that vanish are measured against this instead of their own size.
const FLOOR: f64 = 1e-2;

/// The slope of the loss along each value.
pub fn differences(values: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut moved = values.to_vec();
    let mut at = |i: usize, steps: f64| {
        moved[i] = values[i] + steps * STEP;
        let loss = loss(&moved);
        moved[i] = values[i];
        loss
    };
    let slope = |i| (at(i, -2.0) - at(i, 2.0) + 8.0 * (at(i, 1.0) - at(i, -1.0))) / (12.0 * STEP);
    (0..values.len()).map(slope).collect()
}

/// The relative errors of dx, dγ and dβ.
fn compare(spec: &Spec, seed: u64) -> [f64; 3] {
    let mut numbers = Numbers::new(seed);
    let parameters = Parameters::random(spec, &mut numbers, 0.0);
    let (x, w) = (numbers.tensor(&spec.shape, 0.0), numbers.tensor(&spec.shape, 0.0));
    let outcome = AnyLayer::new(spec, &parameters).unwrap().run(x.view(), w.view()).unwrap();
    let loss = |x: &[f64], parameters: &Parameters| {
        let x = ArrayD::from_shape_vec(IxDyn(&spec.shape), x.to_vec()).unwrap();
        (AnyLayer::new(spec, parameters).unwrap().forward(x.view()).unwrap().0 * &w).sum()
    };
    let x = x.into_raw_vec_and_offset().0;
    let error = |analytic: Option<ArrayD<f64>>, numeric: &dyn Fn() -> Vec<f64>| {
        let Some(analytic) = analytic else { return 0.0 };
        let numeric = numeric();
        assert_eq!(analytic.len(), numeric.len());
        distance(numeric, analytic.iter().copied()) / largest(analytic).max(FLOOR)
    };
    let errors = [
        error(Some(outcome.dx), &|| differences(&x, |x| loss(x, &parameters))),
        error(outcome.dgamma, &|| {
            differences(&parameters.gamma, |gamma| {
                loss(&x, &Parameters { gamma: gamma.to_vec(), ..parameters.clone() })
            })
        }),
        error(outcome.dbeta, &|| {
            differences(&parameters.beta, |beta| {
                loss(&x, &Parameters { beta: beta.to_vec(), ..parameters.clone() })
            })
        }),
    ];
    for (error, name) in errors.iter().zip(["dx", "dgamma", "dbeta"]) {
        assert!(*error <= BAR, "{name} is off by {error:e}: {spec:?}");
    }
    errors
}

#[test]
fn gradients_are_slopes_of_the_loss() {
    let worst = RefCell::new(BTreeMap::<&str, (u32, [f64; 3])>::new());
    let add = |spec: &Spec, errors: [f64; 3]| {
        let mut worst = worst.borrow_mut();
        let (count, row) = worst.entry(spec.name()).or_default();
        *count += 1;
        for (worst, error) in row.iter_mut().zip(errors) {
            *worst = worst.max(error);
        }
    };
    check(400, specs(60), |(spec, seed)| {
        let spec = Spec { epsilon: 0.1, ..spec };
        add(&spec, compare(&spec, seed));
    });
    // rows and cells longer than a vector, and columns that are not whole vectors
    let longer = [
        Spec::new(Which::LayerLast(1), &[3, 35]),
        Spec::new(Which::Instance, &[2, 2, 33]),
        Spec::new(Which::Batch { fixed: false }, &[9, 19]).channels_last(),
        Spec::new(Which::Group(3), &[2, 3, 18]).channels_last(),
        Spec::new(Which::RmsLast(2), &[2, 5, 7]),
    ];
    for spec in longer {
        let spec = Spec { epsilon: 0.1, ..spec };
        add(&spec, compare(&spec, 3));
    }
    println!("{:20} {:>6} {:>9} {:>9} {:>9}", "", "cases", "dx", "dgamma", "dbeta");
    for (name, (count, [dx, dgamma, dbeta])) in worst.into_inner() {
        println!("{name:20} {count:6} {dx:9.1e} {dgamma:9.1e} {dbeta:9.1e}");
    }
}
