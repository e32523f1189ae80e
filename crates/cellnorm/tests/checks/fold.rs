//! Folding, beside layers written as sums over outputs, groups, inputs and taps.

use cellnorm::fold::{Affine, Folding, Kernel};
use proptest::prelude::*;

/// A convolution of taps without positions: x[input, tap], y[output]. `transposed` lays the weight
/// out the other way round.
#[derive(Clone, Debug)]
struct Layer {
    groups: usize,
    /// Inputs and outputs of a group.
    inputs: usize,
    outputs: usize,
    taps: usize,
    transposed: bool,
}

impl Layer {
    fn kernel(&self) -> Kernel {
        let Self { groups, inputs, outputs, taps, .. } = *self;
        if self.transposed {
            Kernel::transposed_convolution(&[groups * inputs, outputs, taps], groups).unwrap()
        } else {
            Kernel::convolution(&[groups * outputs, inputs, taps], groups).unwrap()
        }
    }

    fn run(&self, weight: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
        let Self { groups, inputs, outputs, taps, .. } = *self;
        let mut y = bias.to_vec();
        for group in 0..groups {
            for output in 0..outputs {
                for input in 0..inputs {
                    for tap in 0..taps {
                        let place = if self.transposed {
                            ((group * inputs + input) * outputs + output) * taps + tap
                        } else {
                            ((group * outputs + output) * inputs + input) * taps + tap
                        };
                        y[group * outputs + output] +=
                            weight[place] * x[(group * inputs + input) * taps + tap];
                    }
                }
            }
        }
        y
    }
}

fn numbers(count: usize, seed: usize) -> Vec<f64> {
    (0..count).map(|place| ((place * 7 + seed * 13 + 5) as f64).sin()).collect()
}

fn norm(channels: usize, seed: usize) -> (Affine, impl Fn(usize, f64) -> f64) {
    let [gamma, beta, mean] = [0, 1, 2].map(|part| numbers(channels, seed + part));
    let variance: Vec<f64> =
        numbers(channels, seed + 3).iter().map(|value| value * value).collect();
    let map = Affine::of_batch_norm(Some(&gamma), Some(&beta), &mean, &variance, 1e-3).unwrap();
    let by_hand = move |channel: usize, x: f64| {
        gamma[channel] * (x - mean[channel]) / (variance[channel] + 1e-3).sqrt() + beta[channel]
    };
    (map, by_hand)
}

proptest! {
    #[test]
    fn maps_ahead_and_behind_become_part_of_any_layer(
        groups in 1..4_usize, inputs in 1..4_usize, outputs in 1..4_usize, taps in 1..5_usize,
        transposed in any::<bool>(), seed in 0..1000_usize,
    ) {
        let layer = Layer { groups, inputs, outputs, taps, transposed };
        let kernel = layer.kernel();
        prop_assert_eq!((kernel.inputs(), kernel.outputs()), (groups * inputs, groups * outputs));
        let weight = numbers(kernel.elements(), seed);
        let bias = numbers(kernel.outputs(), seed + 20);
        let ((first, first_by_hand), (second, second_by_hand)) =
            (norm(kernel.inputs(), seed + 30), norm(kernel.inputs(), seed + 40));
        let ((third, third_by_hand), (fourth, fourth_by_hand)) =
            (norm(kernel.outputs(), seed + 50), norm(kernel.outputs(), seed + 60));
        // the map nearest to the layer is folded first, on either side
        let folding = kernel.fold_after(&third).unwrap().fold_before(&second).unwrap();
        let folding = folding.fold_after(&fourth).unwrap().fold_before(&first).unwrap();
        let folded = folding.fold(&weight, Some(&bias)).unwrap();

        let x = numbers(kernel.inputs() * taps, seed + 70);
        let mapped: Vec<f64> = x.iter().enumerate()
            .map(|(place, x)| second_by_hand(place / taps, first_by_hand(place / taps, *x))).collect();
        let before = layer.run(&weight, &bias, &mapped).into_iter().enumerate()
            .map(|(output, y)| fourth_by_hand(output, third_by_hand(output, y)));
        let after = layer.run(&folded.weight, &folded.bias, &x);
        for (before, after) in before.zip(after) {
            prop_assert!((before - after).abs() <= 1e-10 * (1.0 + before.abs()) * 100.0, "{} {}", before, after);
        }
    }

    #[test]
    fn runs_can_begin_anywhere(groups in 1..4_usize, inputs in 1..4_usize, outputs in 1..4_usize, transposed in any::<bool>()) {
        let kernel = Layer { groups, inputs, outputs, taps: 2, transposed }.kernel();
        let all: Vec<_> = kernel.runs(0).collect();
        prop_assert_eq!(all.len() * 2, kernel.elements());
        for start in 0..=all.len() {
            prop_assert_eq!(kernel.runs(start).collect::<Vec<_>>(), &all[start..]);
        }
    }
}

#[test]
fn what_cannot_be_folded_says_why() {
    let message = |error: cellnorm::Error| error.to_string();
    let affine = |scale: &[f64], shift: &[f64]| Affine::new(scale.to_vec(), shift.to_vec());
    assert_eq!(
        message(affine(&[1.0], &[]).unwrap_err()),
        "shift has the shape [0]; it must be [1]"
    );
    assert_eq!(
        message(affine(&[f64::NAN], &[0.0]).unwrap_err()),
        "scale is NaN; it must be finite in every channel"
    );
    let negative = Affine::of_batch_norm(None, None, &[0.0], &[-1.0], 1e-5).unwrap_err();
    assert_eq!(
        message(negative),
        "variance is -1; it must be at least 0, and above 0 with epsilon"
    );
    assert!(Affine::of_batch_norm(None, None, &[0.0], &[0.0], 0.0).is_err());
    assert!(Affine::standardize(&[0.5], &[0.0]).is_err());
    let groups = Kernel::convolution(&[6, 2], 4).unwrap_err();
    assert_eq!(message(groups), "6 channels cannot be split into 4 groups; possible: 1, 2, 3, 6");
    let kernel = Kernel::dense([2, 3]).unwrap();
    assert!(
        kernel.fold_after(&Affine::identity(3)).is_err()
            && kernel.fold_before(&Affine::identity(2)).is_err()
    );
    assert!(Folding::none(kernel).fold(&[0.0; 5], None).is_err());
    let huge = kernel.fold_after(&affine(&[1e200; 2], &[0.0; 2]).unwrap()).unwrap();
    assert!(huge.fold(&[1e200; 6], None).is_err());
}
