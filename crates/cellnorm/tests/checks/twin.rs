//! Every layer in f32 against a naive twin in f64, on values around 0 and around 10 000.
//!
//! The twin gets the values as f32 holds them, so all of the difference is the library's. Errors
//! are measured against
//! - y: max(1, max |y|),
//! - dx: max(max |dx|, max |r γ dy|), the size of what dx is a difference of; where a set has 16
//!   values or more also against max(1, max |dx|),
//! - dγ and dβ: max(1, √Σ term²), the size the sum would have if the signs of its terms were
//!   random. This grows as √n, where Σ |term| grows as n: a sum that loses digits as it gets longer
//!   cannot hide behind it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::common::{
    AnyLayer, Numbers, Parameters, Spec, Twin, Which, check, distance, largest, specs,
};
use ndarray::ArrayD;

const BAR: f64 = 2e-6;
/// The mean and the variance are f64 at the end, but added in f32 in between.
const BAR_STATISTICS: f64 = 1e-6;

/// The worst errors of y, dx, dγ, dβ and of the statistics.
#[derive(Clone, Copy, Default)]
struct Errors([f64; 5]);

impl Errors {
    fn worst(&mut self, other: Self) {
        for (worst, other) in self.0.iter_mut().zip(other.0) {
            *worst = worst.max(other);
        }
    }
}

fn compare(spec: &Spec, seed: u64, mean: f64) -> Errors {
    let mut numbers = Numbers::new(seed);
    let parameters = Parameters::random(spec, &mut numbers, mean);
    let (x, dy) = (numbers.tensor32(&spec.shape, mean), numbers.tensor32(&spec.shape, 0.0));
    let flat = |array: &ArrayD<f32>| array.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let twin = Twin::new(spec, &parameters, &flat(&x), &flat(&dy));
    let outcome = AnyLayer::new(spec, &parameters).unwrap().run(x.view(), dy.view()).unwrap();

    let against = |a: Vec<f64>, b: &[f64], size: f64| {
        assert_eq!(a.len(), b.len());
        distance(a, b.iter().copied()) / size
    };
    let parameter = |present: bool, values: Option<ArrayD<f64>>, twin: &[f64], terms: &[f64]| {
        assert_eq!(values.is_some(), present);
        let values = values.map_or(twin.to_vec(), |values| values.iter().copied().collect());
        assert_eq!(values.len(), twin.len());
        largest(
            values
                .iter()
                .zip(twin)
                .zip(terms)
                .map(|((v, twin), terms)| (v - twin) / terms.max(1.0)),
        )
    };
    let largest_dx = largest(twin.dx.iter().copied());
    let mut dx = against(flat(&outcome.dx), &twin.dx, largest_dx.max(twin.dx_terms));
    if spec.values_per_set() >= 16 {
        dx = dx.max(against(flat(&outcome.dx), &twin.dx, largest_dx.max(1.0)));
    }
    let statistics = outcome.saved.statistics;
    let size = 1.0 + largest(twin.variance.iter().copied());
    let errors = [
        against(flat(&outcome.y), &twin.y, largest(twin.y.iter().copied()).max(1.0)),
        dx,
        parameter(spec.scale, outcome.dgamma, &twin.dgamma, &twin.dgamma_terms),
        parameter(spec.center, outcome.dbeta, &twin.dbeta, &twin.dbeta_terms),
        against(statistics.mean, &twin.mean, 1.0).max(against(
            statistics.variance,
            &twin.variance,
            size,
        )),
    ];
    for (error, name) in errors.iter().zip(["y", "dx", "dgamma", "dbeta", "statistics"]) {
        let bar = if name == "statistics" { BAR_STATISTICS } else { BAR };
        assert!(*error <= bar, "{name} is off by {error:e} around {mean}: {spec:?}");
    }
    Errors(errors)
}

fn table(rows: impl IntoIterator<Item = (String, Errors)>) {
    println!(
        "{:50} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "", "y", "dx", "dgamma", "dbeta", "statistics"
    );
    for (name, Errors([y, dx, dgamma, dbeta, statistics])) in rows {
        println!("{name:50} {y:9.1e} {dx:9.1e} {dgamma:9.1e} {dbeta:9.1e} {statistics:10.1e}");
    }
}

#[test]
fn random_layers() {
    let worst = RefCell::new(BTreeMap::<String, Errors>::new());
    check(1500, specs(4000), |(spec, seed)| {
        for mean in [0.0, 1e4] {
            let errors = compare(&spec, seed, mean);
            worst
                .borrow_mut()
                .entry(format!("{:18} N({mean}, 1)", spec.name()))
                .or_default()
                .worst(errors);
        }
    });
    table(worst.into_inner());
}

/// Sizes at which cells are cut into blocks and segments, rows into wide rows and chunks, and work
/// among threads.
#[test]
fn large_layers() {
    let mut shapes: Vec<Spec> = Vec::new();
    for which in
        [Which::Batch { fixed: false }, Which::Instance, Which::Group(4), Which::LayerPerChannel]
    {
        shapes.push(Spec::new(which.clone(), &[4, 16, 56, 56]));
        shapes.push(Spec::new(which, &[4, 56, 56, 16]).channels_last());
    }
    for channels in [3, 10, 17, 100] {
        let which = [
            Which::Batch { fixed: false },
            Which::Instance,
            Which::LayerPerChannel,
            Which::RmsPerChannel,
        ];
        shapes.extend(which.map(|which| Spec::new(which, &[2, 10_007, channels]).channels_last()));
    }
    shapes.extend([
        Spec::new(Which::Group(2), &[300, 128]),
        Spec::new(Which::LayerLast(1), &[64, 768]),
        Spec::new(Which::RmsLast(1), &[64, 768]),
        Spec::new(Which::RmsLast(1), &[2000, 100]),
        Spec::new(Which::LayerLast(2), &[3, 91, 257]),
        Spec::new(Which::LayerOver(vec![1, 2]), &[3, 40, 50, 30]),
        Spec::new(Which::Instance, &[1, 1, 200_000]),
        Spec::new(Which::Batch { fixed: true }, &[1, 1, 200_000]),
        Spec::new(Which::LayerLast(1), &[2, 200_000]),
    ]);
    let errors = shapes.iter().map(|spec| {
        let [around_zero, far] = [0.0, 1e4].map(|mean| compare(spec, 7, mean));
        let mut errors = around_zero;
        errors.worst(far);
        let layout = if spec.channels_last { "channels last" } else { "" };
        (format!("{:18} {:?} {layout}", spec.name(), spec.shape), errors)
    });
    table(errors.collect::<Vec<_>>());
}
