//! The error in f32 as the mean moves away: y and dx against the f64 twin, relative to the largest
//! value of each.

use ndarray::ArrayD;

use crate::common::{AnyLayer, Numbers, Parameters, Spec, Twin, Which, distance, largest};

const BAR: f64 = 1.5e-6;

/// The errors of y and dx on N(mean, 1), each relative to its largest value.
fn errors(spec: &Spec, mean: f64) -> [f64; 2] {
    let mut numbers = Numbers::new(17);
    let parameters = Parameters::random(spec, &mut numbers, mean);
    let (x, dy) = (numbers.tensor32(&spec.shape, mean), numbers.tensor32(&spec.shape, 0.0));
    let flat = |array: &ArrayD<f32>| array.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let twin = Twin::new(spec, &parameters, &flat(&x), &flat(&dy));
    let outcome = AnyLayer::new(spec, &parameters).unwrap().run(x.view(), dy.view()).unwrap();
    let error = |ours, twin: &[f64]| {
        distance(flat(ours), twin.iter().copied()) / largest(twin.iter().copied())
    };
    [error(&outcome.y, &twin.y), error(&outcome.dx, &twin.dx)]
}

#[test]
fn far_means() {
    let specs = [
        Spec::new(Which::Batch { fixed: false }, &[8, 16, 14, 14]),
        Spec::new(Which::Batch { fixed: false }, &[8, 14, 14, 16]).channels_last(),
        Spec::new(Which::LayerLast(1), &[64, 768]),
        Spec::new(Which::LayerPerChannel, &[8, 14, 14, 16]).channels_last(),
        Spec::new(Which::Group(4), &[8, 16, 14, 14]),
        Spec::new(Which::Group(4), &[8, 14, 14, 16]).channels_last(),
        Spec::new(Which::Instance, &[8, 16, 14, 14]),
        Spec::new(Which::Instance, &[8, 14, 14, 16]).channels_last(),
        Spec::new(Which::RmsLast(1), &[64, 768]),
    ];
    let means = [0.0, 1e2, 1e4, 1e6];
    println!(
        "{:20}{:14} {}",
        "",
        "",
        means.map(|mean| format!("{:>20}", format!("N({mean}, 1)"))).concat()
    );
    println!("{:20}{:14} {}", "", "", format!("{:>10}{:>10}", "y", "dx").repeat(means.len()));
    for spec in &specs {
        let of_means = means.map(|mean| errors(spec, mean));
        let layout = if spec.channels_last { "channels last" } else { "" };
        let figures = of_means.map(|[y, dx]| format!("{y:10.1e}{dx:10.1e}")).concat();
        println!("{:20}{layout:14} {figures}", spec.name());
        for ([y, dx], mean) in of_means.into_iter().zip(means) {
            assert!(y <= BAR && dx <= BAR, "y {y:e}, dx {dx:e} around {mean}: {spec:?}");
        }
    }
}
