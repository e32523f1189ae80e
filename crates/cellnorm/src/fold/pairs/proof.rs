//! Proof that a folded layer gives the results of the layer and its normalizations: both are
//! computed on random input, the normalizations by their own formula.

use half::{bf16, f16};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::layer::Layer;
use super::{Norm, Side};
use crate::state::{DType, State};

/// Inputs that are tried.
const TRIES: u64 = 4;

/// The largest difference as a share of what rounding each new number once explains; the taps of
/// one output, with nothing padded.
pub(super) fn share(old: &Layer, norms: &[Norm], new: &Layer) -> f64 {
    (0..TRIES).map(|seed| share_of(old, norms, new, seed)).fold(0.0, f64::max)
}

fn share_of(old: &Layer, norms: &[Norm], new: &Layer, seed: u64) -> f64 {
    let kernel = &old.kernel;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    // of each input channel, a number for each tap
    let x: Vec<f64> =
        (0..kernel.inputs() * kernel.taps()).map(|_| random.random_range(-1.0..1.0)).collect();
    let normalized = |side: Side, values: &[f64], taps: usize| {
        let mut values = values.to_vec();
        for norm in norms.iter().filter(|norm| norm.side == side) {
            for (place, value) in values.iter_mut().enumerate() {
                *value = formula(&norm.state, norm.epsilon, place / taps, *value);
            }
        }
        values
    };
    let mapped = normalized(Side::Before, &x, kernel.taps());
    let expected = normalized(Side::After, &outputs(old, &mapped).0, 1);
    let (given, sizes) = outputs(new, &x);
    let tensors = [Some(&new.weight), new.bias.as_ref()].into_iter().flatten();
    let types = tensors.map(|tensor| rounding(tensor.dtype));
    let (unit, smallest) = types.fold((0.0, 0.0), |a: (f64, f64), b| (a.0.max(b.0), a.1.max(b.1)));
    // each is off by at most half the smallest number where it is next to 0
    let terms = kernel.elements() as f64 / kernel.outputs().max(1) as f64 + 1.0;
    let shares = expected.iter().zip(given).zip(sizes).map(|((expected, given), size)| {
        // the rounding of the stored numbers, and of the sums here in f64
        let bound = size * (unit + 1e-13) + terms * smallest;
        (expected - given).abs() / bound
    });
    shares.fold(0.0, f64::max)
}

/// The outputs of a layer for one position's taps, and the sums of the absolute terms.
fn outputs(layer: &Layer, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (kernel, weight) = (&layer.kernel, layer.numbers());
    let mut sums = layer.bias_numbers().unwrap_or_else(|| vec![0.0; kernel.outputs()]);
    let mut sizes: Vec<f64> = sums.iter().map(|bias| bias.abs()).collect();
    let taps = kernel.taps();
    for ((output, input), run) in kernel.runs(0).zip(weight.chunks_exact(taps.max(1))) {
        for (weight, x) in run.iter().zip(&x[input * taps..]) {
            sums[output] += weight * x;
            sizes[output] += (weight * x).abs();
        }
    }
    (sums, sizes)
}

/// γ·(x − mean)/√(variance + ε) + β.
fn formula(state: &State, epsilon: f64, channel: usize, x: f64) -> f64 {
    let at = |values: &Option<ndarray::ArrayD<f64>>, absent| {
        values.as_ref().map_or(absent, |values| values[[channel]])
    };
    let deviation = (at(&state.variance, 1.0) + epsilon).sqrt();
    at(&state.gamma, 1.0) * (x - at(&state.mean, 0.0)) / deviation + at(&state.beta, 0.0)
}

/// The largest relative error of rounding once, and the smallest number.
fn rounding(dtype: DType) -> (f64, f64) {
    let (epsilon, smallest) = match dtype {
        DType::F16 => (f16::EPSILON.to_f64(), f16::MIN_POSITIVE_SUBNORMAL.to_f64()),
        DType::Bf16 => (bf16::EPSILON.to_f64(), bf16::MIN_POSITIVE_SUBNORMAL.to_f64()),
        DType::F32 => (f32::EPSILON.into(), f32::from_bits(1).into()),
        _ => (f64::EPSILON, f64::from_bits(1)),
    };
    (0.5 * epsilon, smallest)
}
