//! f16 and bf16: batch normalization trains and infers, which in candle-nn either does or the
//! other; beside f32 and f64 parameters.

use candle_core::{DType, Tensor};
use candle_nn::{ModuleT, VarBuilder, VarMap};
use cellnorm_candle::batch_norm;

use super::common::*;

/// The error of rounding once, relative to the value.
fn rounding(dtype: DType) -> f64 {
    1.001 * if dtype == DType::F16 { 2.0_f64.powi(-11) } else { 2.0_f64.powi(-8) }
}

/// The largest difference relative to the value, or to a thousandth where it is smaller.
fn relative(y: &Tensor, exact: &Tensor) -> f64 {
    let error = |(y, e): (&f64, f64)| (y - e).abs() / e.abs().max(1e-3);
    values(y).iter().zip(values(exact)).map(error).fold(0.0, nan_max)
}

#[test]
fn batch_norm_trains_and_infers() {
    for dtype in [DType::F16, DType::BF16] {
        let x = (tensor(&[8, 3, 5], 1, DType::F32) + 2.0).unwrap().to_dtype(dtype).unwrap();
        let wide = x.to_dtype(DType::F64).unwrap();
        for parameters in [dtype, DType::F32, DType::F64] {
            let [half, exact] = [parameters, DType::F64].map(|of| {
                batch_norm(3, 1e-5, VarBuilder::from_varmap(&VarMap::new(), of, CPU)).unwrap()
            });
            for train in [true, false] {
                let (y, expected) =
                    (half.forward_t(&x, train).unwrap(), exact.forward_t(&wide, train).unwrap());
                assert_eq!(y.dtype(), dtype);
                let apart = relative(&y, &expected);
                assert!(
                    apart <= rounding(dtype),
                    "{dtype:?} beside {parameters:?}, training {train}: {apart}"
                );
            }
            assert!(
                half.running_mean().dtype() != dtype,
                "an average in half precision stands still"
            );
            assert!(difference(half.running_var(), exact.running_var()) < 1e-6);
        }
    }
}

#[test]
fn candle_nn_does_one_of_the_two() {
    let x = tensor(&[8, 3, 5], 1, DType::BF16);
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::BF16, CPU);
    let theirs = candle_nn::batch_norm(3, 1e-5, vb).unwrap();
    assert!(theirs.forward_t(&x, false).is_ok() && theirs.forward_t(&x, true).is_err());
}

#[test]
fn gradients_beside_wide_parameters() {
    for dtype in [DType::F16, DType::BF16] {
        for case in cases(DType::F32) {
            let x = var(&case.shape, 1, dtype);
            let y = (case.layer)(&x).unwrap();
            let dy = tensor(&case.shape, 2, dtype);
            let gradients = backward(&y, &dy);
            let wide = candle_core::Var::from_tensor(&x.to_dtype(DType::F64).unwrap()).unwrap();
            let expected =
                backward(&(case.layer)(&wide).unwrap(), &dy.to_dtype(DType::F64).unwrap());
            let (dx, exact) = (gradients.get(&x).unwrap(), expected.get(&wide).unwrap());
            let error = relative(dx, exact);
            assert!(error <= rounding(dtype), "{}, {dtype:?}: {error}", case.name);
            for (name, var) in &case.parameters {
                let (gradient, exact) = (gradients.get(var).unwrap(), expected.get(var).unwrap());
                assert_eq!(gradient.dtype(), DType::F32);
                // the values are the same, and only sums over them differ, in f32 and in f64
                assert!(relative(gradient, exact) < 1e-4, "{} {name}, {dtype:?}", case.name);
            }
        }
    }
}
