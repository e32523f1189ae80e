//! f16 and bf16: what the f32 layer gives on the same values, rounded once, and no infinity where
//! the values themselves are the largest.

use cellnorm::{BatchNormConfig, Element, get_stats, moments};
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn, array};
use proptest::prelude::*;

use crate::common::{AnyLayer, Numbers, Parameters, Spec, Which, check, specs};
use crate::elements::{element, wide};

/// An f32 rounded by the crate `half`, as bits.
fn rounded<T: Element<Acc = f32>>(value: f32, round: fn(f32) -> T) -> u64 {
    wide(&round(value)).to_bits()
}

fn as_f32_rounded<T: Element<Acc = f32>>(spec: &Spec, seed: u64, mean: f64, round: fn(f32) -> T) {
    let mut numbers = Numbers::new(seed);
    // γ, β and running statistics that T does not hold
    let parameters = Parameters::random(spec, &mut numbers, mean);
    let [x, dy] = [mean, 0.0].map(|mean| numbers.tensor(&spec.shape, mean).mapv(element::<T>));
    let mut layer = AnyLayer::new(spec, &parameters).unwrap();
    let half = layer.run(x.view(), dy.view()).unwrap();
    let full = layer.run(x.mapv(T::widen).view(), dy.mapv(T::widen).view()).unwrap();
    let same = |half: &ArrayD<T>, full: &ArrayD<f32>| {
        half.iter().zip(full).all(|(half, full)| wide(half).to_bits() == rounded(*full, round))
    };
    assert!(same(&half.y, &full.y), "y of {spec:?}");
    assert!(same(&half.dx, &full.dx), "dx of {spec:?}");
    assert_eq!(half.saved.statistics, full.saved.statistics, "{spec:?}");
    assert_eq!((half.dgamma, half.dbeta), (full.dgamma, full.dbeta), "{spec:?}");
}

#[test]
fn layers_round_once() {
    check(400, (specs(3000), any::<bool>()), |((spec, seed), far)| {
        as_f32_rounded::<f16>(&spec, seed, if far { 300.0 } else { 0.0 }, f16::from_f32);
        as_f32_rounded::<bf16>(&spec, seed, if far { 30.0 } else { 0.0 }, bf16::from_f32);
    });
}

/// Every layer on rows of ±`most`, by a pattern of signs.
fn largest_rows<T: Element<Acc = f32>>(most: T, negative: fn(usize) -> bool) {
    let shape = [4, 6, 8];
    let minus: T = element(-wide(&most));
    let which = [
        Which::LayerLast(1),
        Which::LayerPerChannel,
        Which::Group(2),
        Which::Instance,
        Which::Batch { fixed: false },
        Which::RmsLast(1),
        Which::RmsPerChannel,
    ];
    for spec in which.map(|which| Spec::new(which, &shape)) {
        for spec in [spec.clone(), spec.channels_last()] {
            let mut numbers = Numbers::new(3);
            let parameters = Parameters::random(&spec, &mut numbers, 0.0);
            // a sign for each sample, channel and position, so that every axis has both
            let sign =
                |index: IxDyn| if negative(index[0] + index[1] + index[2]) { minus } else { most };
            let x = ArrayD::from_shape_fn(IxDyn(&shape), sign);
            let dy = numbers.tensor(&shape, 0.0).mapv(element::<T>);
            let mut layer = AnyLayer::new(&spec, &parameters).unwrap();
            let (y, saved) = layer.forward(x.view()).unwrap();
            // |x̂| of n values is at most √n: here 192
            let bound = 4.0 * 192_f64.sqrt();
            assert!(y.iter().all(|y| wide(y).abs() <= bound), "y of {spec:?}: {y:?}");
            let gradients = layer.backward(&saved, x.view(), dy).unwrap();
            assert!(gradients.dx.iter().all(|dx| wide(dx).is_finite()), "dx of {spec:?}");
            let parameters = gradients.dgamma.iter().chain(&gradients.dbeta).flatten();
            assert!(parameters.copied().all(f64::is_finite), "{spec:?}");
        }
    }
}

#[test]
fn the_largest_values() {
    largest_rows(f16::MAX, |at| at % 2 == 1);
    largest_rows(f16::MAX, |at| at % 3 == 1);
    largest_rows(f16::MAX, |_| false);
    // its squares are beyond f32, and unless the signs cancel, so is |x − mean|
    largest_rows(bf16::MAX, |at| at % 2 == 1);
    largest_rows(bf16::MAX, |at| at % 3 == 1);
    largest_rows(bf16::MAX, |_| false);
}

#[test]
fn functions_take_them() {
    let x = array![[1.0, 3.0], [5.0, 7.0]].mapv(bf16::from_f64);
    let (mean, variance) = moments(x.view(), &[0], false).unwrap();
    assert_eq!((mean, variance), (array![3.0, 5.0].into_dyn(), array![4.0, 4.0].into_dyn()));
    assert_eq!(get_stats(x.view()).unwrap().element, "bf16");
    let stats = get_stats(array![f16::MIN, f16::MAX].view()).unwrap();
    assert_eq!(
        (stats.element, stats.min, stats.max, stats.std),
        ("f16", -65504.0, 65504.0, 65504.0)
    );
    let mut layer = BatchNormConfig::new(2).init().unwrap();
    let (_, saved) = layer.forward(x.view()).unwrap();
    assert_eq!(saved.statistics.mean, [3.0, 5.0]);
    assert_eq!(layer.infer(x.view()).unwrap().dim(), (2, 2));
    // NaN stays NaN where nothing is summed
    let y = layer.infer(array![[f16::NAN, f16::ONE]]).unwrap();
    assert!(y[[0, 0]].is_nan() && !y[[0, 1]].is_nan());
}
