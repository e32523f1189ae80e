//! Operations fused with a normalization: an activation after it and a residual before it, on every
//! form of plan.
//!
//! The twin applies them outside: y = act(z) with the z of the plain layer, h = x + residual with a
//! plain addition.

use cellnorm::kernels::Buffers;
use cellnorm::rule::ClosedForm;
use cellnorm::{
    Activation,
    kernels::Parameters,
    rule::Statistics,
    shape::{Axis, Centering, Plan},
};

use crate::common::Numbers;

const EPSILON: f64 = 1e-5;
const ACTIVATIONS: [Activation; 4] =
    [Activation::Relu, Activation::LeakyRelu(0.2), Activation::Silu, Activation::Gelu];

/// Name, plan, and what values are measured from: rows, cells side by side, cells apart,
/// interleaved cells.
fn plans() -> Vec<(&'static str, Plan, Centering)> {
    let plan = |shape: &[usize], role: &dyn Fn(usize) -> (bool, bool)| {
        Plan::new(&Axis::row_major(shape, role)).expect("a plan")
    };
    vec![
        ("layer", plan(&[5, 37], &|axis| (axis == 1, axis == 1)), Centering::Mean),
        ("rms", plan(&[3, 9], &|axis| (axis == 1, axis == 1)), Centering::Zero),
        ("instance", plan(&[3, 4, 25], &|axis| (axis == 2, axis == 1)), Centering::Mean),
        ("layer per channel", plan(&[3, 4, 49], &|axis| (axis > 0, axis == 1)), Centering::Mean),
        ("batch", plan(&[6, 5, 21], &|axis| (axis != 1, axis == 1)), Centering::Mean),
        (
            "batch, channels last",
            plan(&[6, 21, 37], &|axis| (axis != 2, axis == 2)),
            Centering::Mean,
        ),
        (
            "instance, channels last",
            plan(&[6, 21, 5], &|axis| (axis == 1, axis == 2)),
            Centering::Mean,
        ),
    ]
}

/// x, dy, γ and β of a plan; the number of elements is that of its sets.
struct Case {
    x: Vec<f64>,
    dy: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
}

impl Case {
    fn new(plan: &Plan, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let mut draw =
            |len: usize, mean: f64| (0..len).map(|_| mean + numbers.normal()).collect::<Vec<f64>>();
        let len = (plan.values_per_set() * plan.sets() as f64) as usize;
        Self {
            x: draw(len, 3.0),
            dy: draw(len, 0.0),
            gamma: draw(plan.channels(), 1.0),
            beta: draw(plan.channels(), 0.2),
        }
    }

    fn form(&self, centering: Centering, activation: Activation) -> ClosedForm<'_> {
        let parameters =
            Parameters { gamma: Some(&self.gamma), beta: Some(&self.beta), activation };
        ClosedForm { centering, epsilon: EPSILON, parameters }
    }
}

fn naive(activation: Activation, z: f64) -> f64 {
    match activation {
        Activation::Identity => z,
        Activation::Relu => z.max(0.0),
        Activation::LeakyRelu(slope) => {
            if z > 0.0 {
                z
            } else {
                slope * z
            }
        }
        Activation::Silu => z / (1.0 + (-z).exp()),
        Activation::Gelu => {
            // Φ by Simpson's rule from −10
            let (steps, density) =
                (4000, |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt());
            let h = (z + 10.0) / f64::from(steps);
            let weight = |i: i32| {
                if i == 0 || i == steps {
                    1.0
                } else if i % 2 == 1 {
                    4.0
                } else {
                    2.0
                }
            };
            z * (0..=steps).map(|i| weight(i) * density(-10.0 + f64::from(i) * h)).sum::<f64>() * h
                / 3.0
        }
    }
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn an_activation_is_applied_to_what_the_plain_layer_gives() {
    for (name, plan, centering) in plans() {
        let case = Case::new(&plan, 3);
        let run = |activation| {
            let mut y = Vec::new();
            let form = case.form(centering, activation);
            let statistics = plan.forward(Buffers::Into(&case.x, &mut y), form);
            (y, statistics)
        };
        let (z, plain) = run(Activation::Identity);
        for activation in ACTIVATIONS {
            let (y, statistics) = run(activation);
            assert_eq!(statistics, plain, "{name}");
            let expected: Vec<f64> = z.iter().map(|z| naive(activation, *z)).collect();
            assert!(
                worst(&y, &expected) < 1e-10,
                "{name} {activation:?}: {:e}",
                worst(&y, &expected)
            );
        }
    }
}

/// L = Σ w · y and its slopes by central differences.
#[test]
fn slopes_through_an_activation_agree_with_finite_differences() {
    for (name, plan, centering) in plans() {
        for activation in ACTIVATIONS {
            let mut case = Case::new(&plan, 11);
            let forward = |case: &Case| -> (f64, Statistics) {
                let mut y = Vec::new();
                let form = case.form(centering, activation);
                let statistics = plan.forward(Buffers::Into(&case.x, &mut y), form);
                (y.iter().zip(&case.dy).map(|(y, w)| y * w).sum(), statistics)
            };
            let (_, statistics) = forward(&case);
            let mut dx = Vec::new();
            let (buffers, form) =
                (Buffers::Into(&case.dy, &mut dx), case.form(centering, activation));
            let gradients = plan.backward(&case.x, buffers, &statistics, form, false);
            let mut slope = |part: fn(&mut Case) -> &mut Vec<f64>, i: usize| {
                let (h, at) = (1e-6, part(&mut case)[i]);
                let mut loss = |value: f64| {
                    part(&mut case)[i] = value;
                    forward(&case).0
                };
                let slope = (loss(at + h) - loss(at - h)) / (2.0 * h);
                part(&mut case)[i] = at;
                slope
            };
            for i in (0..dx.len()).step_by(7) {
                let numeric = slope(|case| &mut case.x, i);
                assert!(
                    (numeric - dx[i]).abs() < 1e-6,
                    "{name} {activation:?} dx[{i}]: {} {numeric}",
                    dx[i]
                );
            }
            for c in 0..gradients.gamma.len().min(9) {
                let (dgamma, dbeta) =
                    (slope(|case| &mut case.gamma, c), slope(|case| &mut case.beta, c));
                assert!(
                    (dgamma - gradients.gamma[c]).abs() < 1e-6,
                    "{name} {activation:?} dγ[{c}]"
                );
                assert!((dbeta - gradients.beta[c]).abs() < 1e-6, "{name} {activation:?} dβ[{c}]");
            }
        }
    }
}

#[test]
fn a_residual_is_added_before() {
    for (name, plan, centering) in plans() {
        let (case, other) = (Case::new(&plan, 5), Case::new(&plan, 6));
        let form = case.form(centering, Activation::Silu);
        let (mut h, mut y, mut dx) =
            (vec![0.0; case.x.len()], vec![0.0; case.x.len()], vec![0.0; case.x.len()]);
        let statistics = plan.forward_add([&case.x, &other.x], [&mut h, &mut y], form);
        let expected_h: Vec<f64> = case.x.iter().zip(&other.x).map(|(x, r)| x + r).collect();
        assert_eq!(h, expected_h, "{name}");
        let mut plain = Vec::new();
        assert_eq!(plan.forward(Buffers::Into(&h, &mut plain), form), statistics, "{name}");
        assert_eq!(y, plain, "{name}");

        let gradients = plan.backward_add(&h, [&case.dy, &other.dy], &mut dx, &statistics, form);
        let mut alone = Vec::new();
        let buffers = Buffers::Into(&case.dy, &mut alone);
        let plain = plan.backward(&h, buffers, &statistics, form, false);
        let sum: Vec<f64> = alone.iter().zip(&other.dy).map(|(dx, dh)| dx + dh).collect();
        assert!(worst(&dx, &sum) < 1e-15, "{name}");
        assert_eq!(gradients, plain, "{name}");
    }
}

/// y does not depend on the size of x, and dx is inverse to it: at 2⁶⁰ of this size, x − mean does
/// not overflow.
#[test]
fn the_largest_numbers_give_what_smaller_ones_do() {
    let size = 2_f32.powi(60);
    for (name, plan, centering) in plans() {
        let case = Case::new(&plan, 8);
        let largest: Vec<f32> =
            (0..case.x.len()).map(|i| if i % 3 == 1 { -3.1e38 } else { 3.3e38 }).collect();
        let smaller: Vec<f32> = largest.iter().map(|x| x / size).collect();
        let dy: Vec<f32> = case.dy.iter().map(|dy| *dy as f32).collect();
        for activation in [&[Activation::Identity], &ACTIVATIONS[..]].concat() {
            let form = case.form(centering, activation);
            let run = |x: &[f32]| {
                let mut y = Vec::new();
                let statistics = plan.forward(Buffers::Into(x, &mut y), form);
                let mut dx = dy.clone();
                let gradients = plan.backward(x, Buffers::Over(&mut dx), &statistics, form, false);
                (y, dx, gradients)
            };
            let ((y, dx, gradients), (small_y, small_dx, small)) = (run(&largest), run(&smaller));
            let wide = |of: &[f32], size: f32| {
                of.iter().map(|of| f64::from(of * size)).collect::<Vec<f64>>()
            };
            let most = |of: &[f64]| of.iter().fold(0.0, |most: f64, of| most.max(of.abs()));
            let compare = |what: &str, ours: &[f64], expected: &[f64]| {
                let error = worst(ours, expected) / most(expected);
                assert!(error < 2e-6, "{name} {activation:?} {what}: {error:e}");
            };
            compare("y", &wide(&y, 1.0), &wide(&small_y, 1.0));
            compare("dx", &wide(&dx, size), &wide(&small_dx, 1.0));
            compare("dγ", &gradients.gamma, &small.gamma);
            compare("dβ", &gradients.beta, &small.beta);
        }
    }
}

/// Their scale, γ / deviation, is so small that an f32 has few digits of it.
#[test]
fn the_largest_numbers_come_through_a_small_gamma() {
    for (name, plan, centering) in plans() {
        let case = Case::new(&plan, 8);
        let largest: Vec<f32> =
            (0..case.x.len()).map(|i| if i % 2 == 1 { -3.3e38 } else { 3.3e38 }).collect();
        let smaller: Vec<f32> = largest.iter().map(|x| x / 2_f32.powi(60)).collect();
        let gamma = vec![1e-6; case.gamma.len()];
        let parameters = Parameters { gamma: Some(&gamma[..]), ..Parameters::default() };
        let form = ClosedForm { centering, epsilon: EPSILON, parameters };
        let [y, expected] = [largest, smaller].map(|x| {
            let mut y = Vec::new();
            plan.forward(Buffers::Into(&x, &mut y), form);
            y.into_iter().map(f64::from).collect::<Vec<f64>>()
        });
        let error =
            worst(&y, &expected) / expected.iter().fold(0.0, |most: f64, y| most.max(y.abs()));
        assert!(error < 1e-6, "{name}: {error:e}");
    }
}
