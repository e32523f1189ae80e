//! Common parts of the tests: seeded numbers, the five layers as one type, a naive twin.

mod layer;
mod numbers;
mod spec;
mod twin;

pub use layer::{AnyLayer, Outcome, Parameters};
pub use numbers::Numbers;
pub use spec::{Spec, Which, specs};
pub use twin::{Twin, place};

use std::fmt::Debug;

use cellnorm::rule::{Norm, Running};
use cellnorm::{Error, Normalization, Semantics};
use ndarray::{ArrayD, IxDyn};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Runs `test` on `cases` values, the same in every run, and on failure on ever simpler ones.
pub fn check<V: Debug>(cases: u32, values: impl Strategy<Value = V>, test: impl Fn(V)) {
    let config = Config { cases, failure_persistence: None, ..Default::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&values, |value| {
        test(value);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// The running averages of a layer that keeps them.
pub fn running<R>(layer: &Norm<R>) -> &Running {
    layer.running.as_ref().expect("a layer with running averages")
}

/// max |a − b| of the running means and the running variances of two layers.
pub fn running_distance<A, B>(a: &Norm<A>, b: &Norm<B>) -> f64 {
    let tables = |of: &Running| of.mean.iter().chain(&of.variance).copied().collect::<Vec<f64>>();
    distance(tables(running(a)), tables(running(b)))
}

/// Running averages of one axis.
pub fn averages(mean: &[f64], variance: &[f64]) -> Running {
    let table = |values: &[f64]| {
        ArrayD::from_shape_vec(IxDyn(&[values.len()]), values.to_vec()).expect("one axis")
    };
    Running { mean: table(mean), variance: table(variance) }
}

/// The semantics of a framework's layer, which has to be there.
pub fn preset(name: &str, normalization: Normalization) -> Semantics {
    Semantics::preset(name, normalization).unwrap()
}

/// The message of a result that has to be an error.
pub fn message<T>(result: Result<T, Error>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

/// max |a − b|.
pub fn distance(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) -> f64 {
    let [a, b]: [Vec<f64>; 2] = [a.into_iter().collect(), b.into_iter().collect()];
    assert_eq!(a.len(), b.len(), "distances are those of equally many numbers");
    // a NaN must show, and f64::max would drop it
    a.iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, d| if d <= worst { worst } else { d })
}

/// max |a|.
pub fn largest(a: impl IntoIterator<Item = f64>) -> f64 {
    a.into_iter().fold(0.0, |largest, a| f64::max(largest, a.abs()))
}
