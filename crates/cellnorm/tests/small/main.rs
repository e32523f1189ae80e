//! The smallest layers that reach every pass and every way to hold its buffers, for Miri, which
//! checks the unsafe code of the passes but takes seconds for a hundred numbers:
//!
//! ```sh
//! MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows -Zmiri-ignore-leaks -Zmiri-deterministic-floats -Zmiri-num-cpus=3" cargo +nightly miri test -p cellnorm --test small
//! ```
//!
//! Tree Borrows and leaks, because of rayon: its queues do not keep to Stacked Borrows, and its
//! threads outlive `main`. Deterministic floats, because Miri otherwise changes the last bit of
//! `powi` and `exp2` at random, and this compares bits.
//!
//! Under Miri the passes share even these among threads.
//!
//! The assertions need no twin: without γ and β the values of y that share statistics have mean
//! 0 and variance 1, and a gradient has neither a part along 1 nor, ε aside, along y.

use cellnorm::kernels::Buffers;
use cellnorm::norms::Lines;
use cellnorm::rule::ClosedForm;
use cellnorm::{
    Activation, Element,
    kernels::{Parameters, Real},
    norms::LpNormConfig,
    shape::{Axis, Cells, Plan},
};

/// About the mean, without γ and β.
fn form() -> ClosedForm<'static> {
    ClosedForm { epsilon: 1e-5, ..ClosedForm::default() }
}

/// The values that share statistics are those with the same `set(index)`.
fn normalized<T: Element>(axes: &[Axis], sets: usize, set: impl Fn(usize) -> usize, error: f64) {
    let plan = Plan::new(axes).expect("row-major");
    let len = axes.iter().map(|axis| axis.len).product();
    let tensor = |step: usize| -> Vec<T> {
        let value = |i: usize| T::narrow(T::Acc::from_f64(((i * step) % 23) as f64 - 9.0));
        (0..len).map(value).collect()
    };
    let (x, dy) = (tensor(7), tensor(5));
    let (mut y, mut dx) = (Vec::new(), dy.clone());
    let statistics = plan.forward(Buffers::Into(&x, &mut y), form());
    let mut overwritten = x.clone();
    plan.forward(Buffers::Over(&mut overwritten), form());
    assert_eq!(overwritten, y);
    plan.backward(&x, Buffers::Over(&mut dx), &statistics, form(), false);
    let mut apart = vec![T::default(); len];
    plan.backward(&x, Buffers::Apart(&dy, &mut apart), &statistics, form(), false);
    assert_eq!(apart, dx);

    let wide = |values: &[T], i: usize| values[i].widen().to_f64();
    for s in 0..sets {
        let mean = |value: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = (0..len).filter(|i| set(*i) == s).map(value).collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        assert!(mean(&|i| wide(&y, i)).abs() <= error);
        assert!((mean(&|i| wide(&y, i).powi(2)) - 1.0).abs() <= error);
        assert!(mean(&|i| wide(&dx, i)).abs() <= error);
        assert!(mean(&|i| wide(&dx, i) * wide(&y, i)).abs() <= error);
        assert!(mean(&|i| wide(&dx, i).powi(2)) > 1e-3);
    }
}

#[test]
fn rows() {
    normalized::<f32>(
        &Axis::row_major(&[2, 19], |axis| (axis == 1, axis == 1)),
        2,
        |i| i / 19,
        1e-5,
    );
}

#[test]
fn runs_of_memory() {
    normalized::<half::bf16>(
        &Axis::row_major(&[2, 2, 17], |axis| (axis != 1, axis == 1)),
        2,
        |i| i / 17 % 2,
        2e-2,
    );
}

#[test]
fn groups_side_by_side() {
    normalized::<f32>(&groups(&[2, 4, 5], 1), 4, |i| i / 10, 1e-5);
}

#[test]
fn groups_of_interleaved_cells() {
    normalized::<f32>(&groups(&[2, 5, 4], 2), 4, |i| i / 20 * 2 + i % 4 / 2, 1e-5);
}

/// The channels at `channel` in two groups; samples lie apart.
fn groups(shape: &[usize], channel: usize) -> Vec<Axis> {
    let axes = Axis::row_major(shape, |axis| (axis != 0 && axis != channel, axis == channel));
    let split = |(at, axis): (usize, Axis)| {
        if at == channel { axis.grouped(2).to_vec() } else { vec![axis] }
    };
    axes.into_iter().enumerate().flat_map(split).collect()
}

#[test]
fn neighbours() {
    for (shape, shared) in [([4, 19], [false, true]), ([19, 2], [true, false])] {
        let plan = Plan::new(&Axis::row_major(&shape, |axis| (shared[axis], axis == 1)))
            .expect("row-major");
        let len = shape[0] * shape[1];
        let x: Vec<f32> = (0..len).map(|i| ((i * 7) % 23) as f32 - 9.0).collect();
        let (mut h, mut y, mut dx) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
        let parameters = Parameters { activation: Activation::Relu, ..Parameters::default() };
        let relu = ClosedForm { parameters, ..form() };
        let statistics = plan.forward_add([&x, &x], [&mut h, &mut y], relu);
        assert!(h.iter().zip(&x).all(|(h, x)| *h == 2.0 * x));
        assert!(y.iter().all(|y| *y >= 0.0) && y.iter().any(|y| *y > 0.0));
        plan.backward_add(&h, [&y, &x], &mut dx, &statistics, relu);
        assert!(dx.iter().all(|dx| dx.is_finite()) && dx != x);
    }
}

#[test]
fn lines() {
    // vectors of 3 values that are runs of memory, and 3 of them interleaved
    let x: Vec<f32> = (0..36).map(|i| ((i * 7) % 23) as f32 - 9.0).collect();
    for cells in [Cells::channels_first(12, 1, 3), Cells::channels_last(4, 3, 3)] {
        let layer = LpNormConfig::new(&[0]).init().unwrap();
        let (mut y, mut dx) = (vec![0.0; 36], vec![1.0; 36]);
        assert_eq!(layer.forward_lines(&x, &mut y, &cells), Ok(()));
        assert_eq!(layer.backward_lines(&x, &mut dx, &cells), Ok(()));
        let squares: f32 = y.iter().map(|y| y * y).sum();
        assert!((squares - 12.0).abs() < 1e-5);
        let across: f32 = dx.iter().zip(&x).map(|(dx, x)| dx * x).sum();
        assert!(across.abs() < 1e-4);
    }
}

#[test]
fn interleaved_cells() {
    normalized::<f64>(
        &Axis::row_major(&[2, 9, 3], |axis| (axis == 1, axis == 2)),
        6,
        |i| i / 27 * 3 + i % 3,
        1e-5,
    );
}
