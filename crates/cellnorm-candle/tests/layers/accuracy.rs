//! Outputs beside an f64 twin, where the mean is far from 0: there candle-nn's fused layer
//! normalization gives NaN.

use candle_core::{DType, Tensor};
use candle_nn::Module;
use cellnorm_candle::{BatchNorm, GroupNorm, LayerNorm};

use super::common::*;

/// (x − mean) / √(variance + ε) of rows, two passes in f64.
fn twin(x: &[f64], width: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        row.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt()).collect::<Vec<f64>>()
    };
    x.chunks(width).flat_map(row).collect()
}

/// Rows of N(10⁴, 1) in f32, and what they should become.
fn far_rows(rows: usize, width: usize) -> (Tensor, Vec<f64>) {
    let x: Vec<f32> = numbers(rows * width, 7).into_iter().map(|v| (1e4 + v) as f32).collect();
    let expected = twin(&x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(), width);
    (Tensor::from_vec(x, (rows, width), CPU).unwrap(), expected)
}

fn error(y: &Tensor, expected: &[f64]) -> f64 {
    values(y).iter().zip(expected).map(|(y, e)| (y - e).abs()).fold(0.0, nan_max)
}

#[test]
fn rows_far_from_zero() {
    let (x, expected) = far_rows(64, 768);
    let (gamma, beta) =
        (Tensor::ones(768, DType::F32, CPU).unwrap(), Tensor::zeros(768, DType::F32, CPU).unwrap());
    let theirs = candle_nn::LayerNorm::new(gamma.clone(), beta.clone(), 1e-5).forward(&x).unwrap();
    assert!(error(&theirs, &expected).is_nan(), "candle-nn has mended its layer normalization");
    let ours = error(&LayerNorm::new(gamma, beta, 1e-5).forward(&x).unwrap(), &expected);
    println!(
        "layer normalization of N(10⁴, 1), f32: off by {ours:.1e} at most; candle-nn gives NaN"
    );
    assert!(ours < 1.5e-6, "{ours}");
}

#[test]
fn channels_far_from_zero() {
    let (rows, expected) = far_rows(6, 640);
    // [samples, channels, positions]: a group is a row, and so is a channel of the batch below
    let groups = GroupNorm::new_no_affine(4, 2, 1e-5)
        .unwrap()
        .forward(&rows.reshape((3, 4, 320)).unwrap())
        .unwrap();
    let (zeros, ones) =
        (Tensor::zeros(6, DType::F32, CPU).unwrap(), Tensor::ones(6, DType::F32, CPU).unwrap());
    let batch = BatchNorm::new_no_bias(6, zeros, ones, 1e-5)
        .unwrap()
        .forward_train(&rows.t().unwrap())
        .unwrap();
    let errors = [error(&groups, &expected), error(&batch.t().unwrap(), &expected)];
    assert!(errors.into_iter().fold(0.0, nan_max) < 1.5e-6, "{errors:?}");
}
