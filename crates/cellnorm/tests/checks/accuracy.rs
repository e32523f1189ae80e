//! Inputs at the edge of what f32 holds: constants, large means, huge values, NaN and infinity.

use cellnorm::rule::{NormConfig, Rule};
use cellnorm::{
    Element, Error, GroupNormConfig, LayerNormConfig, get_stats, kernels, moments, shape::Cells,
};
use half::{bf16, f16};
use ndarray::{Array1, Array2, Array3, ArrayD, IxDyn};
use proptest::prelude::*;

use crate::common::{
    AnyLayer, Numbers, Parameters, Spec, Twin, Which, check, distance, largest, place, specs,
};

fn constant_everywhere<T: Element + Into<f64>>(value: T, sizes: &[usize]) {
    for &size in sizes {
        let x = vec![value; size * 6];
        for cells in [
            Cells::channels_first(2, 3, size),
            Cells::channels_last(2, size, 3),
            Cells::channels_last(1, size, 6),
        ] {
            for cell in kernels::moments(&x, &cells) {
                assert_eq!(
                    (cell.count, cell.mean, cell.m2),
                    (size as f64, value.into(), 0.0),
                    "{value:?} × {size}"
                );
            }
        }
        let array = Array3::from_shape_vec((3, 2, size), x).unwrap();
        for axes in [&[2][..], &[0, 2], &[0, 1], &[0, 1, 2]] {
            let (mean, variance) = moments(array.view(), axes, false).unwrap();
            assert!(
                mean.iter().all(|mean| *mean == value.into()),
                "{value:?} × {size} over {axes:?}"
            );
            assert!(
                variance.iter().all(|variance| *variance == 0.0),
                "{value:?} × {size} over {axes:?}"
            );
        }
    }
}

#[test]
fn a_constant_has_no_variance() {
    let sizes: Vec<usize> =
        (1..40).chain([127, 128, 129, 2047, 4096, 4097, 33_000, 65_537]).collect();
    for value in [1e-30_f32, 0.1, 1e30, -7.0, 0.0, f32::MAX, f32::MIN_POSITIVE] {
        constant_everywhere(value, &sizes);
    }
    for value in [1e-30_f64, 0.1, 1e30, -7.0, 1e-300, 1e300] {
        constant_everywhere(value, &sizes);
    }
    for value in [f16::MIN_POSITIVE_SUBNORMAL, f16::from_f32(0.1), f16::MAX, f16::MIN] {
        constant_everywhere(value, &sizes);
    }
    for value in [bf16::MIN_POSITIVE_SUBNORMAL, bf16::from_f32(0.1), bf16::MAX, bf16::MIN] {
        constant_everywhere(value, &sizes);
    }
}

#[test]
fn a_constant_gives_beta() {
    check(300, (specs(500), 0..4_usize), |((spec, seed), choice)| {
        if spec.rms() || spec.fixed() {
            return;
        }
        let mut numbers = Numbers::new(seed);
        let parameters = Parameters::random(&spec, &mut numbers, 0.0);
        let x = ArrayD::from_elem(&spec.shape[..], [1e-30_f32, 0.1, 1e30, -7.0][choice]);
        let (y, saved) = AnyLayer::new(&spec, &parameters).unwrap().forward(x.view()).unwrap();
        assert!(saved.statistics.variance.iter().all(|variance| *variance == 0.0));
        for (at, y) in y.iter().enumerate() {
            let beta = if spec.center { parameters.beta[place(&spec, at).1] as f32 } else { 0.0 };
            assert_eq!(*y, beta, "{spec:?}");
        }
    });
}

/// The error of y relative to max(1, max |y|), and of dx relative to its largest; NaN where
/// backward refuses.
fn errors(spec: &Spec, x: &ArrayD<f32>) -> (f64, f64) {
    let mut numbers = Numbers::new(4);
    let parameters = Parameters::random(spec, &mut numbers, 0.0);
    let dy = numbers.tensor32(&spec.shape, 0.0);
    let flat = |array: &ArrayD<f32>| array.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
    let twin = Twin::new(spec, &parameters, &flat(x), &flat(&dy));
    let mut layer = AnyLayer::new(spec, &parameters).unwrap();
    let (y, saved) = layer.forward(x.view()).unwrap();
    let dx = match layer.backward(&saved, x.view(), dy) {
        Ok(gradients) => distance(flat(&gradients.dx), twin.dx.iter().copied()) / largest(twin.dx),
        Err(_) => f64::NAN,
    };
    (distance(flat(&y), twin.y.iter().copied()) / largest(twin.y).max(1.0), dx)
}

#[test]
fn large_means_and_huge_values() {
    let mut numbers = Numbers::new(8);
    let shape = [6, 8, 40];
    let around = |numbers: &mut Numbers, mean: f64| numbers.tensor32(&shape, mean);
    let sized =
        |numbers: &mut Numbers, size: f64| numbers.tensor(&shape, 0.0).mapv(|v| (v * size) as f32);
    let signs = |every: usize| {
        Array3::from_shape_fn(
            shape,
            |(n, c, s)| if (n + c + s) % every == 0 { 3.3e38 } else { -3.1e38_f32 },
        )
        .into_dyn()
    };
    let inputs = [
        ("N(1e6, 1)", around(&mut numbers, 1e6), 2e-6, Some(2e-6)),
        ("N(1e7, 1)", around(&mut numbers, 1e7), 2e-6, Some(2e-6)),
        ("N(0, 1e15²)", sized(&mut numbers, 1e15), 2e-6, Some(2e-6)),
        ("N(0, 1e30²)", sized(&mut numbers, 1e30), 2e-6, Some(2e-6)),
        ("±3.2e38", signs(2), 2e-6, Some(2e-6)),
        // x − mean is beyond f32
        ("3.3e38, few", signs(3), 2e-6, Some(2e-6)),
        ("3.3e38, one", signs(1000), 2e-6, Some(2e-6)),
        ("around 3e38", sized(&mut numbers, 1e33).mapv(|v| v + 3e38), 2e-6, Some(2e-6)),
        ("N(0, 1e-3²)", sized(&mut numbers, 1e-3), 2e-6, Some(2e-6)),
    ];
    println!("{:14} {:18} {:>9} {:>9}", "", "", "y", "dx");
    for (name, x, bar_y, bar_dx) in inputs {
        let which = [
            Which::Batch { fixed: false },
            Which::Instance,
            Which::Group(2),
            Which::LayerLast(2),
            Which::LayerPerChannel,
            Which::RmsLast(1),
        ];
        for spec in which.map(|which| Spec::new(which, &shape)) {
            for spec in [spec.clone(), spec.channels_last()] {
                let (y, dx) = errors(&spec, &x);
                println!(
                    "{name:14} {:18} {y:9.1e} {dx:9.1e} {}",
                    spec.name(),
                    if spec.channels_last { "channels last" } else { "" }
                );
                assert!(
                    y <= bar_y && bar_dx.is_none_or(|bar| dx <= bar),
                    "{name}: {y:e} and {dx:e} in {spec:?}"
                );
            }
        }
    }
}

#[test]
fn nan_and_infinity_are_named() {
    check(
        400,
        (specs(500), 0..3_usize, any::<prop::sample::Index>()),
        |((spec, seed), kind, at)| {
            let mut numbers = Numbers::new(seed);
            let parameters = Parameters::random(&spec, &mut numbers, 0.0);
            let mut layer = AnyLayer::new(&spec, &parameters).unwrap();
            let (x, dy) = (numbers.tensor32(&spec.shape, 0.0), numbers.tensor32(&spec.shape, 0.0));
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][kind];
            let at = at.index(x.len());
            let spoil = |array: &ArrayD<f32>| {
                let mut array = array.clone();
                *array.iter_mut().nth(at).unwrap() = bad;
                array
            };
            let (set, channel) = place(&spec, at);
            let (_, saved) = layer.forward(x.view()).unwrap();

            // in dy: every sum that it is part of
            let error = layer.backward(&saved, x.view(), spoil(&dy)).unwrap_err();
            let Error::NotFinite { name, set: first, sets } = error else {
                panic!("{error}: {spec:?}")
            };
            assert_eq!(name, "dy");
            assert!(sets == 1 || (first, sets) == (channel, spec.parameters()), "{spec:?}");

            let spoilt = spoil(&x);
            if spec.fixed() {
                // nothing is summed: it stays where it is
                let y = layer.infer(spoilt.view()).unwrap();
                assert_eq!(y.iter().filter(|y| !y.is_finite()).count(), 1);
                assert!(!y.iter().nth(at).unwrap().is_finite());
                let error = layer.backward(&saved, spoilt.view(), dy).unwrap_err();
                assert!(matches!(error, Error::NotFinite { name: "x", .. }), "{error}");
                return;
            }
            let expected = Error::NotFinite { name: "x", set, sets: saved.statistics.mean.len() };
            assert_eq!(layer.forward(spoilt.view()).unwrap_err(), expected, "{spec:?}");
            if spec.name() != "batch, training" {
                assert_eq!(layer.infer(spoilt.clone()).unwrap_err(), expected, "{spec:?}");
            }
            assert!(matches!(
                get_stats(spoilt.view()),
                Err(Error::NotFinite { set: 0, sets: 1, .. })
            ));
        },
    );
}

/// A set of one value: its variance is 0 whatever the value, so NaN shows in the mean alone.
#[test]
fn nan_alone_in_its_set_is_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        for (values, set) in [(vec![bad], 0), (vec![1.0, bad, 2.0], 1)] {
            let expected = Error::NotFinite { name: "x", set, sets: values.len() };
            let x = Array2::from_shape_vec((values.len(), 1), values).unwrap();
            for layer in [LayerNormConfig::new(&[1]), LayerNormConfig::per_channel(1)] {
                assert_eq!(layer.init().unwrap().infer(x.view()).unwrap_err(), expected);
            }
            assert_eq!(moments(x.view(), &[], false).unwrap_err(), expected);
            assert_eq!(moments(x.view(), &[1], false).unwrap_err(), expected);
        }
    }
    assert_eq!(moments(Array1::from_vec(vec![5.0_f32]).view(), &[0], false).unwrap().0[[]], 5.0);
}

/// The gradient of x of a layer.
fn dx<R: Rule, T: Element>(config: &NormConfig<R>, x: &ArrayD<T>, dy: &ArrayD<T>) -> ArrayD<T> {
    let mut layer = config.clone().init().unwrap();
    let (_, saved) = layer.forward(x.view()).unwrap();
    layer.backward(&saved, x.view(), dy.view()).unwrap().dx
}

/// 1/σ² leaves the range of f32 long before σ does.
#[test]
fn gradients_at_any_scale() {
    for scale in [1e-12, 1e18, 1e25, 1e30] {
        let x: Vec<f32> =
            (0..192).map(|i| (((i * 37) % 101) as f32 - 50.0) * scale as f32).collect();
        let dy: Vec<f32> = (0..192).map(|i| ((i * 53) % 17) as f32 - 8.0).collect();
        let x = ArrayD::from_shape_vec(IxDyn(&[4, 6, 8]), x).unwrap();
        let dy = ArrayD::from_shape_vec(IxDyn(&[4, 6, 8]), dy).unwrap();
        let epsilon = 1e-5_f64.min(scale * scale * 1e-5).max(1e-36);
        let rows = LayerNormConfig::new(&[8]).epsilon(epsilon);
        let cells = GroupNormConfig::new(3, 6).epsilon(epsilon);
        let columns = GroupNormConfig::new(2, 8).channel_axis(-1).epsilon(epsilon);
        let (wide_x, wide_dy) = (x.mapv(f64::from), dy.mapv(f64::from));
        for (narrow, wide) in [
            (dx(&rows, &x, &dy), dx(&rows, &wide_x, &wide_dy)),
            (dx(&cells, &x, &dy), dx(&cells, &wide_x, &wide_dy)),
            (dx(&columns, &x, &dy), dx(&columns, &wide_x, &wide_dy)),
        ] {
            let most = wide.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
            let error = narrow
                .iter()
                .zip(&wide)
                .fold(0.0, |worst: f64, (a, b)| worst.max((f64::from(*a) - b).abs()));
            assert!(error <= 2e-6 * most, "at {scale:e}: {error:e} of {most:e}");
        }
    }
}
