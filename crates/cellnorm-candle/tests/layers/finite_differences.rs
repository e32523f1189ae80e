//! Gradients in f64 beside central differences, of every layer, for inputs however they lie in
//! memory.

use candle_core::{DType, Result, Tensor, Var};

use super::common::*;

const STEP: f64 = 1e-5;
/// Of the difference quotient: its own error is about STEP² and 1e-16 / STEP.
const TOLERANCE: f64 = 2e-9;

/// A way for an input to lie in memory: the shape that it is made from, and how.
type Layout = (&'static str, fn(&[usize]) -> Vec<usize>, fn(&Tensor) -> Result<Tensor>);

const LAYOUTS: [Layout; 4] = [
    ("contiguous", |s| s.to_vec(), |x| Ok(x.clone())),
    ("transposed", |s| vec![s[2], s[1], s[0]], |x| x.transpose(0, 2)),
    (
        "sliced",
        |s| vec![s[0], s[1] + 2, s[2] + 1],
        |x| x.narrow(1, 1, x.dim(1)? - 2)?.narrow(2, 1, x.dim(2)? - 1),
    ),
    ("broadcast", |s| vec![1, s[1], s[2]], |x| x.broadcast_as((3, x.dim(1)?, x.dim(2)?))),
];

fn check(what: &str, loss: &dyn Fn() -> f64, var: &Var, gradient: &Tensor) {
    assert_eq!(gradient.dims(), var.dims(), "{what}");
    let (start, gradient) = (values(var), values(gradient));
    let at = |i: usize, by: f64| {
        let mut moved = start.clone();
        moved[i] += by;
        var.set(&Tensor::from_vec(moved, var.shape(), CPU).unwrap()).unwrap();
        loss()
    };
    for (i, slope) in gradient.into_iter().enumerate() {
        let quotient = (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP);
        let error = (quotient - slope).abs() / quotient.abs().max(1.0);
        assert!(error < TOLERANCE, "{what}, {i}: {slope} beside {quotient}");
    }
    at(0, 0.0);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for case in cases(DType::F64) {
        for (layout, base, lie) in LAYOUTS {
            // batch statistics of equal samples have no slope to see, but that is fine: it is 0 in
            // both
            let base = var(&base(&case.shape), 1, DType::F64);
            let dy = tensor(&case.shape, 2, DType::F64);
            let y = || (case.layer)(&lie(&base).unwrap()).unwrap();
            let loss = || values(&(y() * &dy).unwrap()).iter().sum::<f64>();
            let gradients = backward(&y(), &dy);
            let what = format!("{}, {layout}", case.name);
            assert!(y().is_contiguous(), "{what}");
            check(&format!("{what}: x"), &loss, &base, gradients.get(&base).unwrap());
            for (name, parameter) in &case.parameters {
                let gradient = gradients
                    .get(parameter)
                    .unwrap_or_else(|| panic!("{what}: no gradient of {name}"));
                check(&format!("{what}: {name}"), &loss, parameter, gradient);
            }
        }
    }
}

#[test]
fn a_gradient_that_lies_otherwise_is_taken() {
    for case in cases(DType::F64) {
        let x = var(&case.shape, 1, DType::F64);
        let y = (case.layer)(&x).unwrap();
        // dy of all ones, which Candle broadcasts
        let summed = y.sum_all().unwrap().backward().unwrap();
        let ones = backward(&y, &y.ones_like().unwrap());
        assert!(
            difference(summed.get(&x).unwrap(), ones.get(&x).unwrap()) < 1e-15,
            "{}",
            case.name
        );
        // transposed
        let dy = tensor(&[case.shape[2], case.shape[1], case.shape[0]], 2, DType::F64);
        let transposed =
            (y.transpose(0, 2).unwrap() * &dy).and_then(|l| l.sum_all()?.backward()).unwrap();
        let straight = backward(&y, &dy.transpose(0, 2).unwrap());
        assert_eq!(
            values(transposed.get(&x).unwrap()),
            values(straight.get(&x).unwrap()),
            "{}",
            case.name
        );
    }
}

#[test]
fn only_what_trains_has_a_gradient() {
    let (x, dy) = (tensor(&[3, 5], 1, DType::F64), tensor(&[3, 5], 2, DType::F64));
    let (gamma, beta) = (var(&[5], 3, DType::F64), var(&[5], 4, DType::F64));
    let frozen = gamma.as_detached_tensor();
    let layer = cellnorm_candle::LayerNorm::new(frozen.clone(), beta.as_tensor().clone(), 1e-5);
    let gradients = backward(&candle_nn::Module::forward(&layer, &x).unwrap(), &dy);
    assert!(
        gradients.get(&x).is_none()
            && gradients.get(&frozen).is_none()
            && gradients.get(&gamma).is_none()
    );
    let of_columns = values(&dy.sum(0).unwrap());
    assert!(
        values(gradients.get(&beta).unwrap())
            .iter()
            .zip(of_columns)
            .all(|(a, b)| (a - b).abs() < 1e-12)
    );
}
