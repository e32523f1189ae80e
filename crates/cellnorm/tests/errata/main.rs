//! The errors of five tutorials as numbers: what their formula gives, beside what Cellnorm gives.
//!
//! `docs/seed-errata.md` tells the errors, E1 to E37, and `docs/seed-features.md` what the
//! tutorials show rightly.

mod affine;
mod axes;
mod batches;
mod features;
mod folding;
mod groups;
mod pages;
mod training;
mod variance;
mod worked_examples;

#[path = "../checks/common/numbers.rs"]
#[allow(dead_code, reason = "shared with the checks")]
mod numbers;
use numbers::Numbers;

use cellnorm::BatchNorm;
use cellnorm::rule::Running;

fn close(a: f64, b: f64, bar: f64) {
    assert!((a - b).abs() <= bar, "{a} is not {b} ± {bar:e}");
}

/// The running averages of a layer.
fn running(layer: &BatchNorm) -> &Running {
    layer.running.as_ref().expect("batch normalization keeps running averages")
}

/// Max |a − b| of two arrays of one shape.
fn distance(a: &ndarray::ArrayD<f64>, b: &ndarray::ArrayD<f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    let worst = |worst: f64, d: f64| if d <= worst { worst } else { d };
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, worst)
}

/// An error of a tutorial: what Cellnorm computes is right, what the tutorial's formula computes is
/// wrong, each as stated, and what they are compared within is too small to take one for the other.
#[derive(Clone, Copy)]
struct Erratum {
    cellnorm: f64,
    right: f64,
    tutorial: f64,
    wrong: f64,
    within: f64,
}

impl Erratum {
    fn check(self) {
        close(self.cellnorm, self.right, self.within);
        close(self.tutorial, self.wrong, self.within);
        assert!(
            (self.right - self.wrong).abs() > 4.0 * self.within,
            "{} passes for {}",
            self.wrong,
            self.right
        );
    }
}
